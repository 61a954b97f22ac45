import { createPrivateKey, type KeyObject, X509Certificate } from 'node:crypto'
import { CompactSign } from 'jose'
import { readTlsFiles } from '../../../shared/config/tls-files.ts'

export interface CertificatePaths {
  readonly certificatePath: string
  readonly keyPath: string
}

/**
 * Signs the bound audience with the machine's key; the chain goes along. Read anew each time, as certificates are
 * renewed. Throws an Error that names the file.
 */
export async function proveCertificate(
  { certificatePath, keyPath }: CertificatePaths,
  audience: string,
  now: number,
): Promise<string> {
  const { cert, key } = readTlsFiles({ certChainPath: certificatePath, privateKeyPath: keyPath }, now)
  const chain = cert.match(/-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----/g) ?? []
  const privateKey = createPrivateKey(key)
  const payload = JSON.stringify({ aud: audience, iat: Math.floor(now / 1000) })
  return new CompactSign(new TextEncoder().encode(payload))
    .setProtectedHeader({
      alg: algorithmOf(privateKey),
      x5c: chain.slice(0, 5).map((pem) => new X509Certificate(pem).raw.toString('base64')),
    })
    .sign(privateKey)
}

/** RFC 7518 §3.1, RFC 8037 §3.1. */
function algorithmOf({ asymmetricKeyType, asymmetricKeyDetails }: KeyObject): string {
  const curve = asymmetricKeyDetails?.namedCurve ?? ''
  const byCurve: Record<string, string> = { prime256v1: 'ES256', secp384r1: 'ES384', secp521r1: 'ES512' }
  if (asymmetricKeyType === 'ec' && byCurve[curve]) return byCurve[curve]
  if (asymmetricKeyType === 'ed25519') return 'EdDSA'
  if (asymmetricKeyType === 'rsa') return 'PS256'
  throw new Error('the key of the machine is neither RSA, Ed25519 nor on P-256, P-384 or P-521')
}
