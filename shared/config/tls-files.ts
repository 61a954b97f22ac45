import { createPrivateKey, X509Certificate } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { createSecureContext } from 'node:tls'

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

/**
 * Reads and checks both files: readable, PEM to the last line, key of the leaf, leaf not expired at `now` (null: expired or
 * not). Throws TlsFileError.
 */
export function readTlsFiles(
  { certChainPath, privateKeyPath }: TlsPaths,
  now: number | null = Date.now(),
): TlsFiles {
  const cert = read('cert', certChainPath)
  const leaf = parseLeaf(cert, certChainPath)
  if (now !== null && Date.parse(leaf.validTo) <= now) {
    throw new TlsFileError('cert', `the certificate in ${certChainPath} expired on ${leaf.validTo}`)
  }
  return pair(cert, leaf, read('key', privateKeyPath), { cert: certChainPath, key: privateKeyPath })
}

/** The same for PEM text, expired or not; `names` stand for the files in messages. Throws TlsFileError. */
export function parseTlsPem(cert: string, key: string, names: { cert: string; key: string }): TlsFiles {
  return pair(cert, parseLeaf(cert, names.cert), key, names)
}

function parseLeaf(cert: string, name: string): X509Certificate {
  return parse('cert', `${name} does not begin with a PEM certificate`, () => new X509Certificate(cert))
}

function pair(
  cert: string,
  leaf: X509Certificate,
  key: string,
  names: { cert: string; key: string },
): TlsFiles {
  const privateKey = parse('key', `${names.key} holds no unencrypted PEM private key`, () =>
    createPrivateKey(key),
  )
  if (!leaf.checkPrivateKey(privateKey)) {
    throw new TlsFileError('key', `${names.key} is not the key of the certificate in ${names.cert}`)
  }
  // The chain behind the leaf, and what OpenSSL thinks of key and signatures: whoever serves the pair asks the same.
  parse('cert', `${names.cert} holds a damaged chain, or a key or signature too weak for TLS`, () =>
    createSecureContext({ cert, key }),
  )
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
