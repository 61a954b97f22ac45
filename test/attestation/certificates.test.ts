import { createPublicKey, X509Certificate } from 'node:crypto'
import { CompactSign } from 'jose'
import { test } from 'tap'
import { proves } from '../requirements.ts'
import { type Issued, issue, pkcs7, selfSigned } from './authority.ts'
import { controllerId, machine, reason, refusal, startAttested } from './rig.ts'

const vmId = '02aab8a4-74ef-476e-8182-f6d2ba4166a6'
const subscriptionId = '8d10da13-8125-4ba9-a717-bf7490507b3d'
const azureTime = (at: number) => {
  const [, yy, mm, dd, time] = /^\d\d(\d\d)-(\d\d)-(\d\d)T(.{8})/.exec(new Date(at).toISOString()) ?? []
  return `${mm}/${dd}/${yy} ${time} -0000`
}

test('an Azure attested document registers its machine', async (t) => {
  proves(t, 'AC-ATTEST-03')
  const root = await selfSigned('CN=Root G2')
  const between = await issue(root, 'CN=Issuing CA', { ca: true })
  const leaf = await issue(between, 'CN=eastus.metadata.azure.com', { dns: 'eastus.metadata.azure.com' })
  const fleet = await startAttested(t, {
    provider: 'AzureMetadataService',
    certificates: [{ value: root.pem }],
    matchRules: [
      { attribute: 'AzureSubscriptionId', value: subscriptionId },
      { attribute: 'AzureVmId', value: 'another' },
      { attribute: 'AzureVmId', value: vmId },
    ],
  })
  const one = machine(fleet)
  const document = async (
    nonce: string,
    { signer = leaf, bring = [leaf, between] as Issued[], at = Date.now(), id = vmId } = {},
  ) => {
    const content = JSON.stringify({
      licenseType: '',
      nonce,
      plan: { name: '', product: '', publisher: '' },
      sku: '22_04-lts',
      subscriptionId: at === 0 ? 'x' : subscriptionId,
      timeStamp: { createdOn: azureTime(at), expiresOn: azureTime(at + 6 * 3_600_000) },
      vmId: id,
    })
    return {
      azure: {
        attestedDocument: {
          encoding: 'pkcs7' as const,
          signature: await pkcs7(content, signer, { bring }),
          nonce,
        },
      },
    }
  }
  t.match(await one.attest((_, nonce) => document(nonce)), { status: 200 })
  t.equal(fleet.controllers.find(controllerId)?.instances[0]?.subject, `${subscriptionId}/${vmId}`)
  t.match(await one.attest(() => document('0123456789')), refusal)
  t.match(reason(fleet), /made for another challenge/)
  t.match(await one.attest((_, nonce) => document(nonce, { at: Date.now() - 3_600_000 })), refusal)
  t.match(reason(fleet), /not of the last ten minutes/)
  t.match(await one.attest((_, nonce) => document(nonce, { id: subscriptionId })), refusal)
  t.match(reason(fleet), /AzureVmId .* matches no rule/)
  t.match(await one.attest((_, nonce) => document(nonce, { bring: [leaf] })), refusal, 'no intermediate')
  t.match(reason(fleet), /does not verify to a configured root/)

  const stranger = await issue(between, 'CN=metadata.azure.com.evil.example', {
    dns: 'metadata.azure.com.evil.example',
  })
  t.match(
    await one.attest((_, nonce) => document(nonce, { signer: stranger, bring: [stranger, between] })),
    refusal,
  )
  t.match(reason(fleet), /signed by metadata\.azure\.com\.evil\.example/)
  const otherRoot = await selfSigned('CN=Root G2')
  const forged = await issue(otherRoot, 'CN=metadata.azure.com', { dns: 'metadata.azure.com' })
  t.match(
    await one.attest((_, nonce) => document(nonce, { signer: forged, bring: [forged, otherRoot] })),
    refusal,
    'a root of the same name that it brings itself',
  )
  t.match(reason(fleet), /does not verify to a configured root/)
  const notCa = await issue(root, 'CN=Not an authority', { dns: 'x.example' })
  const below = await issue(notCa, 'CN=metadata.azure.com', { dns: 'metadata.azure.com' })
  t.match(
    await one.attest((_, nonce) => document(nonce, { signer: below, bring: [below, notCa] })),
    refusal,
    'issued by a certificate that is no authority',
  )
  const past = await issue(between, 'CN=metadata.azure.com', { dns: 'metadata.azure.com', expired: true })
  t.match(
    await one.attest((_, nonce) => document(nonce, { signer: past, bring: [past, between] })),
    refusal,
    'expired',
  )
  t.match(
    await one.attest((_, nonce) => document(nonce, { signer: { ...leaf, keys: forged.keys } })),
    refusal,
    "another key's signature",
  )
  t.match(reason(fleet), /signature of the attested document does not verify/)
})

test('a machine with a certificate of a configured authority signs the challenge', async (t) => {
  proves(t, 'AC-ATTEST-05')
  const root = await selfSigned('CN=Site root', { kind: 'ec' })
  const between = await issue(root, 'CN=Site machines', { ca: true, kind: 'ec' })
  const leaf = await issue(between, 'CN=rack-1', { dns: 'rack-1.site.example', kind: 'ec' })
  const fleet = await startAttested(t, {
    provider: 'CertificateSignedAttestation',
    certificates: [{ value: root.pem }],
    matchRules: [{ attribute: 'CertificateSan', value: 'rack-1.site.example' }],
  })
  const one = machine(fleet)
  const proof = async (
    aud: string,
    { signer = leaf, chain = [leaf, between] as Issued[], iat = Date.now() / 1000, alg = 'ES256' } = {},
  ) => ({
    certificate: {
      proof: await new CompactSign(new TextEncoder().encode(JSON.stringify({ aud, iat: Math.floor(iat) })))
        .setProtectedHeader({
          alg,
          x5c: chain.map(({ certificate }) => Buffer.from(certificate.rawData).toString('base64')),
        })
        .sign(signer.keys.privateKey as never),
    },
  })
  t.match(await one.attest((audience) => proof(audience)), { status: 200 })
  t.equal(fleet.controllers.find(controllerId)?.instances[0]?.subject, 'CN=rack-1')
  t.match(await one.attest(() => proof('aembit-control-plane/acme/other')), refusal)
  t.match(reason(fleet), /made for another challenge/)
  t.match(await one.attest((audience) => proof(audience, { iat: Date.now() / 1000 - 600 })), refusal)
  t.match(reason(fleet), /not of the last two minutes/)
  const other = await issue(between, 'CN=rack-2', { dns: 'rack-2.site.example', kind: 'ec' })
  t.match(await one.attest((audience) => proof(audience, { signer: other })), refusal)
  t.match(reason(fleet), /not signed by the key of the certificate/)
  t.match(
    await one.attest((audience) => proof(audience, { signer: other, chain: [other, between] })),
    refusal,
  )
  t.match(reason(fleet), /CertificateSan \(rack-2\.site\.example\) matches no rule/)
  const foreignRoot = await selfSigned('CN=Site root', { kind: 'ec' })
  const foreign = await issue(foreignRoot, 'CN=rack-1', { dns: 'rack-1.site.example', kind: 'ec' })
  t.match(
    await one.attest((audience) => proof(audience, { signer: foreign, chain: [foreign, foreignRoot] })),
    refusal,
  )
  t.match(reason(fleet), /does not verify to a configured root/)
  t.match(await one.attest((audience) => proof(audience, { signer: between, chain: [between] })), refusal)
  t.match(reason(fleet), /one of an authority/)
  t.ok(createPublicKey(new X509Certificate(leaf.pem).publicKey.export({ type: 'spki', format: 'pem' })))
})
