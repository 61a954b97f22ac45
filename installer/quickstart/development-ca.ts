import { webcrypto } from 'node:crypto'
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import '../../shared/reflect.ts'
import * as x509 from '@peculiar/x509'
import { ensurePrivateDir, writeFileAtomic } from '../../shared/files.ts'

/**
 * A certificate authority for this machine alone and a server certificate for localhost from it. The authority is
 * made once, so that what trusts it keeps doing so; the server certificate is made anew a month before it ends.
 */
export interface DevelopmentTls {
  readonly caPath: string
  readonly certChainPath: string
  readonly privateKeyPath: string
}

const day = 24 * 60 * 60 * 1000
const caDays = 3650
const leafDays = 365
const renewBeforeDays = 30
const algorithm = { name: 'ECDSA', namedCurve: 'P-256', hash: 'SHA-256' } as const
const names = [
  { type: 'dns', value: 'localhost' },
  { type: 'ip', value: '127.0.0.1' },
  { type: 'ip', value: '::1' },
] as const

export async function ensureDevelopmentTls(dir: string, now: number = Date.now()): Promise<DevelopmentTls> {
  await ensurePrivateDir(dir)
  const paths = {
    caPath: join(dir, 'ca.pem'),
    certChainPath: join(dir, 'localhost.pem'),
    privateKeyPath: join(dir, 'localhost.key'),
  }
  const caKeyPath = join(dir, 'ca.key')
  let ca = await readCertificate(paths.caPath)
  let caKey = await readKey(caKeyPath)
  if (!ca || !caKey || endsWithin(ca, now, leafDays)) {
    const pair = await newKeyPair()
    ca = await x509.X509CertificateGenerator.createSelfSigned(
      {
        serialNumber: newSerial(),
        name: 'CN=MCP Identity Gateway development CA',
        notBefore: new Date(now - day),
        notAfter: new Date(now + caDays * day),
        signingAlgorithm: algorithm,
        keys: pair,
        extensions: [
          new x509.BasicConstraintsExtension(true, 0, true),
          new x509.KeyUsagesExtension(x509.KeyUsageFlags.keyCertSign | x509.KeyUsageFlags.cRLSign, true),
          await x509.SubjectKeyIdentifierExtension.create(pair.publicKey),
        ],
      },
      webcrypto,
    )
    caKey = pair.privateKey
    await writeFileAtomic(caKeyPath, await keyToPem(caKey))
    await writeFileAtomic(paths.caPath, `${ca.toString('pem')}\n`, 0o644)
  }
  const leaf = await readCertificate(paths.certChainPath)
  const leafFits =
    leaf !== undefined &&
    !endsWithin(leaf, now, renewBeforeDays) &&
    (await leaf.verify({ publicKey: ca, signatureOnly: true }, webcrypto)) &&
    (await readKey(paths.privateKeyPath)) !== undefined
  if (!leafFits) await issueLeaf(ca, caKey, paths, now)
  return paths
}

async function issueLeaf(
  ca: x509.X509Certificate,
  caKey: webcrypto.CryptoKey,
  paths: DevelopmentTls,
  now: number,
): Promise<void> {
  const pair = await newKeyPair()
  const leaf = await x509.X509CertificateGenerator.create(
    {
      serialNumber: newSerial(),
      subject: 'CN=localhost',
      issuer: ca.subject,
      notBefore: new Date(now - day),
      notAfter: new Date(now + leafDays * day),
      signingAlgorithm: algorithm,
      publicKey: pair.publicKey,
      signingKey: caKey,
      extensions: [
        new x509.BasicConstraintsExtension(false, undefined, true),
        new x509.KeyUsagesExtension(x509.KeyUsageFlags.digitalSignature, true),
        new x509.ExtendedKeyUsageExtension([x509.ExtendedKeyUsage.serverAuth]),
        new x509.SubjectAlternativeNameExtension([...names]),
        await x509.SubjectKeyIdentifierExtension.create(pair.publicKey),
        await x509.AuthorityKeyIdentifierExtension.create(ca),
      ],
    },
    webcrypto,
  )
  await writeFileAtomic(paths.privateKeyPath, await keyToPem(pair.privateKey))
  await writeFileAtomic(paths.certChainPath, `${leaf.toString('pem')}\n${ca.toString('pem')}\n`, 0o644)
}

const newKeyPair = (): Promise<webcrypto.CryptoKeyPair> =>
  webcrypto.subtle.generateKey(algorithm, true, ['sign', 'verify'])

/** RFC 5280 §4.1.2.2: positive and at most 20 octets. */
function newSerial(): string {
  const bytes = webcrypto.getRandomValues(new Uint8Array(16))
  bytes[0] = (bytes[0]! & 0x7f) | 0x40
  return Buffer.from(bytes).toString('hex')
}

async function keyToPem(key: webcrypto.CryptoKey): Promise<string> {
  const der = await webcrypto.subtle.exportKey('pkcs8', key)
  return `${x509.PemConverter.encode(der, 'PRIVATE KEY')}\n`
}

async function readKey(path: string): Promise<webcrypto.CryptoKey | undefined> {
  try {
    const [der] = x509.PemConverter.decode(await readFile(path, 'utf8'))
    return await webcrypto.subtle.importKey('pkcs8', der!, algorithm, true, ['sign'])
  } catch {
    return undefined
  }
}

async function readCertificate(path: string): Promise<x509.X509Certificate | undefined> {
  try {
    return new x509.X509Certificate(await readFile(path, 'utf8'))
  } catch {
    return undefined
  }
}

const endsWithin = (certificate: x509.X509Certificate, now: number, days: number): boolean =>
  certificate.notAfter.getTime() - now < days * day
