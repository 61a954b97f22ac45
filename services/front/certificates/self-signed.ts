import '../../../shared/reflect.ts'
import * as x509 from '@peculiar/x509'
import { parseTlsPem, type TlsFiles } from '../../../shared/config/tls-files.ts'

const validMs = 30 * 86_400_000

/**
 * A certificate that nobody trusts, so that the endpoint can answer at all while the first real one is ordered. Its
 * key never touches a disk.
 */
export async function selfSigned(names: readonly string[], now: number): Promise<TlsFiles> {
  const algorithm = { name: 'ECDSA', namedCurve: 'P-256', hash: 'SHA-256' }
  const keys = await crypto.subtle.generateKey(algorithm, true, ['sign', 'verify'])
  const certificate = await x509.X509CertificateGenerator.createSelfSigned({
    name: `CN=${names[0]}, O=self-signed until a certificate is issued`,
    keys,
    signingAlgorithm: algorithm,
    notBefore: new Date(now - 3_600_000),
    notAfter: new Date(now + validMs),
    extensions: [
      new x509.BasicConstraintsExtension(false, undefined, true),
      new x509.ExtendedKeyUsageExtension([x509.ExtendedKeyUsage.serverAuth]),
      new x509.SubjectAlternativeNameExtension(names.map((value) => ({ type: 'dns' as const, value }))),
    ],
  })
  const pkcs8 = Buffer.from(await crypto.subtle.exportKey('pkcs8', keys.privateKey))
  const lines = pkcs8.toString('base64').replace(/.{64}/g, '$&\n')
  const key = `-----BEGIN PRIVATE KEY-----\n${lines}\n-----END PRIVATE KEY-----\n`
  return parseTlsPem(`${certificate.toString('pem')}\n`, key, { cert: 'self-signed', key: 'self-signed' })
}
