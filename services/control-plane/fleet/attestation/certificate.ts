import { X509Certificate } from 'node:crypto'
import { compactVerify, decodeProtectedHeader } from 'jose'
import { z } from 'zod'
import type { TrustProviderOf } from '../../config/agent-controllers.ts'
import { verifyChain } from './chain.ts'
import { fromPem } from './cms.ts'
import { type Attested, type EvidenceContext, EvidenceError } from './types.ts'

const maxAgeSecs = 120
const maxCertificates = 5
const algorithms = ['ES256', 'ES384', 'ES512', 'PS256', 'EdDSA', 'Ed25519']
const payloadSchema = z.object({ aud: z.string(), iat: z.number() })
const chainSchema = z.array(z.string().max(8192)).min(1).max(maxCertificates)

/** Proof of a machine's own key: a JWS over the bound audience, its certificate's chain in `x5c` (RFC 7515 §4.1.6). */
export async function verifyCertificate(
  provider: TrustProviderOf<'CertificateSignedAttestation'>,
  proof: string,
  { audience, now }: EvidenceContext,
): Promise<Attested> {
  let chain: X509Certificate[]
  let payload: z.infer<typeof payloadSchema>
  try {
    const x5c = chainSchema.parse(decodeProtectedHeader(proof).x5c)
    chain = x5c.map((der) => new X509Certificate(Buffer.from(der, 'base64')))
    const verified = await compactVerify(proof, chain[0]!.publicKey, { algorithms })
    payload = payloadSchema.parse(JSON.parse(new TextDecoder().decode(verified.payload)))
  } catch {
    throw new EvidenceError('the proof is not signed by the key of the certificate that it brings')
  }
  if (payload.aud !== audience) throw new EvidenceError('the proof was made for another challenge')
  if (!(Math.abs(now / 1000 - payload.iat) <= maxAgeSecs)) {
    throw new EvidenceError('the proof is not of the last two minutes; check the clocks')
  }
  const [leaf, ...more] = chain.map((certificate) => fromPem(certificate.toString()))
  await verifyChain(leaf!, more, provider.certificates.map(fromPem), now)
  return read(chain[0]!)
}

function read(leaf: X509Certificate): Attested {
  // Names with odd characters come quoted by Node.js: such a certificate matches by its fingerprint alone.
  const names = (leaf.subjectAltName ?? '').includes('"')
    ? []
    : (leaf.subjectAltName ?? '')
        .split(', ')
        .flatMap((entry) => /^(?:DNS|URI|IP Address):(.+)$/.exec(entry)?.[1] ?? [])
  return {
    subject: leaf.subject.replaceAll('\n', ', '),
    attributes: {
      CertificateSubject: [leaf.subject.replaceAll('\n', ', ')],
      CertificateSan: names,
      CertificateFingerprint: [leaf.fingerprint256, leaf.fingerprint256.replaceAll(':', '').toLowerCase()],
    },
  }
}
