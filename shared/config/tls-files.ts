import { createPrivateKey, X509Certificate } from 'node:crypto'
import { readFileSync } from 'node:fs'

/** A certificate chain and its key as PEM text, found to belong together. */
export interface TlsFiles {
  readonly cert: string
  readonly key: string
  /** The leaf. */
  readonly leaf: X509Certificate
}

export interface TlsPaths {
  readonly certChainPath: string
  readonly privateKeyPath: string
}

/** Which of the two files is at fault, and why. */
export class TlsFileError extends Error {
  override readonly name = 'TlsFileError'
  readonly file: 'cert' | 'key'

  constructor(file: 'cert' | 'key', message: string) {
    super(message)
    this.file = file
  }
}

/** Reads and checks both files: readable, PEM, key of the leaf, leaf not expired. Throws TlsFileError. */
export function readTlsFiles({ certChainPath, privateKeyPath }: TlsPaths, now = Date.now()): TlsFiles {
  const cert = read('cert', certChainPath)
  const leaf = parse(
    'cert',
    `${certChainPath} does not begin with a PEM certificate`,
    () => new X509Certificate(cert),
  )
  if (Date.parse(leaf.validTo) <= now) {
    throw new TlsFileError('cert', `the certificate in ${certChainPath} expired on ${leaf.validTo}`)
  }
  const key = read('key', privateKeyPath)
  const privateKey = parse('key', `${privateKeyPath} holds no unencrypted PEM private key`, () =>
    createPrivateKey(key),
  )
  if (!leaf.checkPrivateKey(privateKey)) {
    throw new TlsFileError('key', `${privateKeyPath} is not the key of the certificate in ${certChainPath}`)
  }
  return { cert, key, leaf }
}

function read(file: 'cert' | 'key', path: string): string {
  try {
    return readFileSync(path, 'utf8')
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code ?? 'unknown error'
    throw new TlsFileError(file, `${path} can not be read (${code})`)
  }
}

/** OpenSSL's own words are dropped: they may quote the file. */
function parse<T>(file: 'cert' | 'key', message: string, make: () => T): T {
  try {
    return make()
  } catch {
    throw new TlsFileError(file, message)
  }
}
