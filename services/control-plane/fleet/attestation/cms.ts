import '../../../../shared/reflect.ts'
import { createHash, verify, X509Certificate } from 'node:crypto'
import { Certificate, ContentInfo, IssuerAndSerialNumber, SignedData, type SignerInfo } from 'pkijs'
import { EvidenceError } from './types.ts'

const data = '1.2.840.113549.1.7.1'
const signedDataOid = '1.2.840.113549.1.7.2'
const contentTypeOid = '1.2.840.113549.1.9.3'
const messageDigestOid = '1.2.840.113549.1.9.4'
const digests: Record<string, string> = {
  '2.16.840.1.101.3.4.2.1': 'sha256',
  '2.16.840.1.101.3.4.2.2': 'sha384',
  '2.16.840.1.101.3.4.2.3': 'sha512',
}
const rsa = [
  '1.2.840.113549.1.1.1',
  '1.2.840.113549.1.1.11',
  '1.2.840.113549.1.1.12',
  '1.2.840.113549.1.1.13',
]
const maxCertificates = 6

export interface Signed {
  readonly content: Buffer
  /** Those that came along; nothing is said of whether they are trusted. */
  readonly certificates: readonly Certificate[]
  /** The one of `certificates` that the signature names. */
  readonly signer: Certificate | undefined
  /** Whether the signature over the content is this certificate's key's. */
  signedBy(certificate: X509Certificate): boolean
}

/** CMS SignedData (RFC 5652 §5) with its content inside and one RSA signature, SHA-2. Throws EvidenceError. */
export function readSigned(der: Buffer): Signed {
  let signed: SignedData
  try {
    const info = ContentInfo.fromBER(der)
    if (info.contentType !== signedDataOid) throw new Error('it is no SignedData')
    signed = new SignedData({ schema: info.content })
  } catch {
    throw new EvidenceError('the PKCS #7 document does not parse')
  }
  const [signer, more] = signed.signerInfos
  const octets = signed.encapContentInfo.eContent
  if (!signer || more || !octets || signed.encapContentInfo.eContentType !== data) {
    throw new EvidenceError('the PKCS #7 document must hold its content and one signature')
  }
  const certificates = (signed.certificates ?? []).filter((entry) => entry instanceof Certificate)
  if (certificates.length > maxCertificates) {
    throw new EvidenceError(`the PKCS #7 document brings more than ${maxCertificates} certificates`)
  }
  const content = Buffer.from(octets.getValue())
  const input = signedInput(signer, content)
  return {
    content,
    certificates,
    signer: certificates.find((certificate) => isNamed(signer, certificate)),
    signedBy: (certificate) => {
      const key = certificate.publicKey
      if (key.asymmetricKeyType !== 'rsa') return false
      return verify(input.digest, input.bytes, key, Buffer.from(signer.signature.valueBlock.valueHexView))
    },
  }
}

/** What the signature is over: the attributes where there are any, and they must name the content (RFC 5652 §5.4). */
function signedInput(signer: SignerInfo, content: Buffer): { digest: string; bytes: Buffer } {
  const digest = digests[signer.digestAlgorithm.algorithmId]
  if (!digest) throw new EvidenceError('the PKCS #7 signature uses another digest than SHA-256, 384 or 512')
  if (!rsa.includes(signer.signatureAlgorithm.algorithmId)) {
    throw new EvidenceError('the PKCS #7 signature is not RSA (PKCS #1 v1.5)')
  }
  const { signedAttrs } = signer
  if (!signedAttrs) return { digest, bytes: content }
  const one = (type: string): unknown => {
    const found = signedAttrs.attributes.filter((attribute) => attribute.type === type)
    return found.length === 1 && found[0]?.values.length === 1 ? found[0].values[0] : undefined
  }
  const contentType = one(contentTypeOid) as { valueBlock?: { toString(): string } } | undefined
  const named = one(messageDigestOid) as { valueBlock?: { valueHexView?: Uint8Array } } | undefined
  const wanted = createHash(digest).update(content).digest()
  const given = named?.valueBlock?.valueHexView
  if (contentType?.valueBlock?.toString() !== data || !given || !wanted.equals(given)) {
    throw new EvidenceError('the PKCS #7 signature is about another content')
  }
  // As a SET OF, not as the [0] that stands in the message.
  const bytes = Buffer.from(signedAttrs.encodedValue)
  bytes[0] = 0x31
  return { digest, bytes }
}

function isNamed({ sid }: SignerInfo, certificate: Certificate): boolean {
  if (!(sid instanceof IssuerAndSerialNumber)) return false
  return sid.serialNumber.isEqual(certificate.serialNumber) && sid.issuer.isEqual(certificate.issuer)
}

export const toNode = (certificate: Certificate): X509Certificate =>
  new X509Certificate(Buffer.from(certificate.toSchema().toBER()))

export const fromPem = (pem: string): Certificate => Certificate.fromBER(new X509Certificate(pem).raw)
