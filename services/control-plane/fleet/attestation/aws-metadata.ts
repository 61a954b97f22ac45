import { verify, X509Certificate } from 'node:crypto'
import { z } from 'zod'
import type { Evidence } from '../../../../shared/wire/attestation.ts'
import type { TrustProviderOf } from '../../config/agent-controllers.ts'
import { readSigned } from './cms.ts'
import { type Attested, EvidenceError } from './types.ts'

/** The members that AWS documents for instance identity documents; a list or null where AWS has them so. */
const text = z.string().max(500)
const documentSchema = z.object({
  accountId: z.string().regex(/^\d{12}$/),
  instanceId: z.string().regex(/^i-[0-9a-f]{8,32}$/),
  region: text,
  pendingTime: z.iso.datetime(),
  architecture: text.nullish(),
  availabilityZone: text.nullish(),
  imageId: text.nullish(),
  instanceType: text.nullish(),
  kernelId: text.nullish(),
  privateIp: text.nullish(),
  ramdiskId: text.nullish(),
  version: text.nullish(),
  billingProducts: z.array(text).max(20).nullish(),
  marketplaceProductCodes: z.array(text).max(20).nullish(),
})

/** An identity document never ends, so what pins it must outlive every instance; forgotten a year after its last use. */
const pinnedForMs = 400 * 86_400_000

/**
 * EC2 instance identity document: `rsa2048` (PKCS #7 with the document inside) or document and `signature`. It says
 * nothing of when and for whom it was read, so an instance belongs to the first key that shows its document.
 */
export function verifyAwsMetadata(
  provider: TrustProviderOf<'AWSMetadataService'>,
  aws: NonNullable<Evidence['aws']>,
  now: number,
): Attested {
  const certificates = provider.certificates.map((pem) => new X509Certificate(pem))
  const document = parse(signedDocument(aws, certificates))
  const { accountId, instanceId, pendingTime } = document
  const pending = Date.parse(pendingTime)
  if (pending > now + 300_000) throw new EvidenceError('the instance was launched in the future')
  return {
    subject: `${accountId}/${instanceId}`,
    attributes: Object.fromEntries(
      Object.entries(document).map(([name, value]) => [
        `Aws${name[0]?.toUpperCase()}${name.slice(1)}`,
        value === null || value === undefined ? [] : [value].flat(),
      ]),
    ),
    pin: { value: JSON.stringify(['aws', accountId, instanceId]), until: now + pinnedForMs },
    ...(provider.registerWithin === undefined
      ? {}
      : { firstBefore: pending + provider.registerWithin * 1000 }),
  }
}

function signedDocument(aws: NonNullable<Evidence['aws']>, certificates: X509Certificate[]): Buffer {
  const { instanceIdentityDocument, instanceIdentityDocumentSignature, instanceIdentityDocumentRsa2048 } = aws
  if (instanceIdentityDocumentRsa2048 !== undefined) {
    const signed = readSigned(Buffer.from(instanceIdentityDocumentRsa2048, 'base64'))
    if (certificates.some((certificate) => signed.signedBy(certificate))) return signed.content
  } else if (instanceIdentityDocument !== undefined && instanceIdentityDocumentSignature !== undefined) {
    const bytes = Buffer.from(instanceIdentityDocument)
    const signature = Buffer.from(instanceIdentityDocumentSignature, 'base64')
    const fits = ({ publicKey }: X509Certificate): boolean =>
      publicKey.asymmetricKeyType === 'rsa' && verify('sha256', bytes, publicKey, signature)
    if (certificates.some(fits)) return bytes
  } else {
    throw new EvidenceError('there is no instance identity document in the evidence')
  }
  throw new EvidenceError(
    'the instance identity document is signed by none of the certificates; add that of the region of the instance',
  )
}

function parse(bytes: Buffer): z.infer<typeof documentSchema> {
  let json: unknown
  try {
    json = JSON.parse(bytes.toString('utf8'))
  } catch {
    throw new EvidenceError('the instance identity document is no JSON')
  }
  const parsed = documentSchema.safeParse(json)
  if (!parsed.success) throw new EvidenceError('the instance identity document has another shape')
  return parsed.data
}
