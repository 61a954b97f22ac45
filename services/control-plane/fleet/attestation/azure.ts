import { z } from 'zod'
import type { Evidence } from '../../../../shared/wire/attestation.ts'
import type { TrustProviderOf } from '../../config/agent-controllers.ts'
import { verifyChain } from './chain.ts'
import { fromPem, readSigned, toNode } from './cms.ts'
import { type Attested, type EvidenceContext, EvidenceError } from './types.ts'

const maxAgeMs = 10 * 60_000
const skewMs = 5 * 60_000
const text = z.string().max(200)
const documentSchema = z.object({
  nonce: text,
  vmId: z.uuid(),
  subscriptionId: z.uuid(),
  sku: text.nullish(),
  timeStamp: z.object({ createdOn: text, expiresOn: text }),
})

/** Attested document of the Azure Instance Metadata Service: PKCS #7, our nonce, a signer of Azure, young. */
export async function verifyAzure(
  provider: TrustProviderOf<'AzureMetadataService'>,
  { attestedDocument }: NonNullable<Evidence['azure']>,
  { nonce, now }: EvidenceContext,
): Promise<Attested> {
  const signed = readSigned(Buffer.from(attestedDocument.signature, 'base64'))
  const { signer } = signed
  if (!signer) throw new EvidenceError('the attested document does not bring the certificate of its signer')
  const leaf = toNode(signer)
  const isSigner = (name: string): boolean =>
    provider.signers.some((wanted) => name === wanted || name.endsWith(`.${wanted}`))
  const names = (leaf.subjectAltName ?? '')
    .split(', ')
    .flatMap((entry) => /^DNS:(.+)$/.exec(entry)?.[1] ?? [])
  if (!names.some(isSigner)) {
    throw new EvidenceError(`the attested document is signed by ${names.join(', ') || 'a nameless one'}`)
  }
  if (!signed.signedBy(leaf))
    throw new EvidenceError('the signature of the attested document does not verify')
  const others = signed.certificates.filter((certificate) => certificate !== signer)
  const intermediates = (provider.intermediates ?? []).map(fromPem)
  await verifyChain(signer, [...intermediates, ...others], provider.certificates.map(fromPem), now)
  return read(signed.content, nonce, now)
}

function read(content: Buffer, nonce: string, now: number): Attested {
  let json: unknown
  try {
    json = JSON.parse(content.toString('utf8'))
  } catch {
    json = undefined
  }
  const parsed = documentSchema.safeParse(json)
  if (!parsed.success) throw new EvidenceError('the attested document has another shape')
  const { vmId, subscriptionId, sku, timeStamp } = parsed.data
  if (parsed.data.nonce !== nonce)
    throw new EvidenceError('the attested document was made for another challenge')
  const created = azureTime(timeStamp.createdOn)
  if (!(created <= now + skewMs && created >= now - maxAgeMs) || !(azureTime(timeStamp.expiresOn) > now)) {
    throw new EvidenceError('the attested document is not of the last ten minutes; check the clocks')
  }
  return {
    subject: `${subscriptionId}/${vmId}`,
    attributes: {
      AzureVmId: [vmId],
      AzureSubscriptionId: [subscriptionId],
      AzureSku: sku ? [sku] : [],
    },
  }
}

/** `11/28/18 00:16:17 -0000` */
function azureTime(value: string): number {
  const parts = /^(\d\d)\/(\d\d)\/(\d\d) (\d\d):(\d\d):(\d\d) -0000$/.exec(value)?.slice(1).map(Number)
  if (!parts) return Number.NaN
  const [month = 0, day, year = 0, hour, minute, second] = parts
  return Date.UTC(2000 + year, month - 1, day, hour, minute, second)
}
