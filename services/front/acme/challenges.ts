import { existsSync, readFileSync } from 'node:fs'
import { rm } from 'node:fs/promises'
import { join } from 'node:path'
import { createSecureContext, type SecureContext } from 'node:tls'
import { ensurePrivateDir, writeFileAtomic } from '../../../shared/files.ts'

/** The ALPN protocol of a tls-alpn-01 validation (RFC 8737 §3). */
export const acmeAlpn = 'acme-tls/1'

/** Path under which http-01 asks (RFC 8555 §8.3). */
const httpPrefix = '/.well-known/acme-challenge/'

/**
 * Answers to validations that run now, as files: while front is replaced, two processes accept connections, and
 * either must be able to answer. The folder exists only while an order runs.
 */
export class Challenges {
  readonly #dir: string

  constructor(storeDir: string) {
    this.#dir = join(storeDir, 'challenges')
  }

  /** An order runs, in this process or another. One `stat`. */
  get active(): boolean {
    return existsSync(this.#dir)
  }

  async begin(): Promise<void> {
    await this.end()
    await ensurePrivateDir(this.#dir)
  }

  async end(): Promise<void> {
    await rm(this.#dir, { recursive: true, force: true })
  }

  async putHttp(token: string, keyAuthorization: string): Promise<void> {
    const path = this.#httpPath(token)
    if (!path) throw new Error('the ACME server sent a token that is not base64url')
    await writeFileAtomic(path, keyAuthorization)
  }

  async putAlpn(name: string, key: string, cert: string): Promise<void> {
    const path = this.#alpnPath(name)
    if (!path) throw new Error(`the ACME server asks for ${JSON.stringify(name)}, which is no DNS name`)
    await writeFileAtomic(path, `${key}\n${cert}`)
  }

  /** The key authorization for a request path of port 80, or undefined where none is waited for. */
  http(url: string): string | undefined {
    if (!url.startsWith(httpPrefix)) return undefined
    return read(this.#httpPath(url.slice(httpPrefix.length)))
  }

  /** The validation certificate for a name. */
  alpn(name: string | null): SecureContext | undefined {
    const pem = name === null ? undefined : read(this.#alpnPath(name))
    return pem === undefined ? undefined : createSecureContext({ key: pem, cert: pem })
  }

  #httpPath(token: string): string | undefined {
    return /^[\w-]{1,200}$/.test(token) ? join(this.#dir, `http-01.${token}`) : undefined
  }

  #alpnPath(name: string): string | undefined {
    return /^[a-z0-9.-]{1,253}$/.test(name) ? join(this.#dir, `tls-alpn-01.${name}.pem`) : undefined
  }
}

function read(path: string | undefined): string | undefined {
  try {
    return path === undefined ? undefined : readFileSync(path, 'utf8')
  } catch {
    return undefined
  }
}
