import '../../shared/reflect.ts'
import { webcrypto, X509Certificate } from 'node:crypto'
import * as x509 from '@peculiar/x509'
import { ObjectIdentifier, OctetString, UTCTime } from 'asn1js'
import * as pkijs from 'pkijs'

const rsa = {
  name: 'RSASSA-PKCS1-v1_5',
  hash: 'SHA-256',
  publicExponent: new Uint8Array([1, 0, 1]),
  modulusLength: 2048,
}
const ecdsa = { name: 'ECDSA', namedCurve: 'P-256', hash: 'SHA-256' }
const day = 86_400_000
type Keys = webcrypto.CryptoKeyPair

export interface Issued {
  readonly certificate: x509.X509Certificate
  readonly keys: Keys
  readonly pem: string
}

export const newKeys = (kind: 'rsa' | 'ec' = 'rsa'): Promise<Keys> =>
  webcrypto.subtle.generateKey(kind === 'rsa' ? rsa : ecdsa, true, ['sign', 'verify']) as Promise<Keys>

const pemOf = (certificate: x509.X509Certificate): string =>
  new X509Certificate(Buffer.from(certificate.rawData)).toString()

/** A certificate authority of the test, or any certificate that signs for itself. */
export async function selfSigned(
  name: string,
  { ca = true, kind = 'rsa' as 'rsa' | 'ec' } = {},
): Promise<Issued> {
  const keys = await newKeys(kind)
  const certificate = await x509.X509CertificateGenerator.createSelfSigned({
    name,
    keys,
    notBefore: new Date(Date.now() - day),
    notAfter: new Date(Date.now() + 10 * day),
    signingAlgorithm: kind === 'rsa' ? rsa : ecdsa,
    extensions: [
      new x509.BasicConstraintsExtension(ca, undefined, true),
      ...(ca
        ? [new x509.KeyUsagesExtension(x509.KeyUsageFlags.keyCertSign | x509.KeyUsageFlags.cRLSign, true)]
        : []),
    ],
  })
  return { certificate, keys, pem: pemOf(certificate) }
}

export async function issue(
  issuer: Issued,
  name: string,
  more: { ca?: boolean; dns?: string; kind?: 'rsa' | 'ec'; expired?: boolean } = {},
): Promise<Issued> {
  const { ca = false, dns, kind = 'rsa', expired = false } = more
  const keys = await newKeys(kind)
  const certificate = await x509.X509CertificateGenerator.create({
    subject: name,
    issuer: issuer.certificate.subject,
    publicKey: keys.publicKey,
    signingKey: issuer.keys.privateKey,
    signingAlgorithm: issuer.keys.privateKey.algorithm.name === 'ECDSA' ? ecdsa : rsa,
    notBefore: new Date(Date.now() - 2 * day),
    notAfter: new Date(Date.now() + (expired ? -day : 5 * day)),
    extensions: [
      new x509.BasicConstraintsExtension(ca, undefined, true),
      ...(ca ? [new x509.KeyUsagesExtension(x509.KeyUsageFlags.keyCertSign, true)] : []),
      ...(dns ? [new x509.SubjectAlternativeNameExtension([{ type: 'dns', value: dns }])] : []),
    ],
  })
  return { certificate, keys, pem: pemOf(certificate) }
}

const toPkijs = ({ certificate }: Issued): pkijs.Certificate => pkijs.Certificate.fromBER(certificate.rawData)

/** CMS SignedData with its content inside, base64, as the metadata services make it. */
export async function pkcs7(
  content: string,
  signer: Issued,
  { bring = [] as Issued[], attributes = true } = {},
): Promise<string> {
  const own = toPkijs(signer)
  const bytes = new TextEncoder().encode(content)
  const digest = await webcrypto.subtle.digest('SHA-256', bytes)
  const { Attribute } = pkijs
  const signed = new pkijs.SignedData({
    version: 1,
    encapContentInfo: new pkijs.EncapsulatedContentInfo({
      eContentType: '1.2.840.113549.1.7.1',
      eContent: new OctetString({ valueHex: bytes.buffer as ArrayBuffer }),
    }),
    signerInfos: [
      new pkijs.SignerInfo({
        version: 1,
        sid: new pkijs.IssuerAndSerialNumber({ issuer: own.issuer, serialNumber: own.serialNumber }),
        ...(attributes
          ? {
              signedAttrs: new pkijs.SignedAndUnsignedAttributes({
                type: 0,
                attributes: [
                  new Attribute({
                    type: '1.2.840.113549.1.9.3',
                    values: [new ObjectIdentifier({ value: '1.2.840.113549.1.7.1' })],
                  }),
                  new Attribute({
                    type: '1.2.840.113549.1.9.5',
                    values: [new UTCTime({ valueDate: new Date() })],
                  }),
                  new Attribute({
                    type: '1.2.840.113549.1.9.4',
                    values: [new OctetString({ valueHex: digest })],
                  }),
                ],
              }),
            }
          : {}),
      }),
    ],
    certificates: bring.map(toPkijs),
  })
  await signed.sign(signer.keys.privateKey as never, 0, 'SHA-256', bytes.buffer as ArrayBuffer)
  const info = new pkijs.ContentInfo({
    contentType: '1.2.840.113549.1.7.2',
    content: signed.toSchema(true),
  })
  return Buffer.from(info.toSchema().toBER()).toString('base64')
}
