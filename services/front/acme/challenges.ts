import { existsSync, readdirSync, readFileSync, statSync } from 'node:fs'
import { rm, rmdir } from 'node:fs/promises'
import { join } from 'node:path'
import { createSecureContext, type SecureContext } from 'node:tls'
import { ensurePrivateDir, writeFileAtomic } from '../../../shared/files.ts'

/** The ALPN protocol of a tls-alpn-01 validation (RFC 8737 §3). */
export const acmeAlpn = 'acme-tls/1'

/** Path under which http-01 asks (RFC 8555 §8.3). */
const httpPrefix = '/.well-known/acme-challenge/'

/** An order takes minutes; what is older was left behind. */
const staleMs = 15 * 60_000
let attempts = 0

/** The answers that one order gives. */
export interface Attempt {
  putHttp(token: string, keyAuthorization: string): Promise<void>
  putAlpn(name: string, key: string, cert: string): Promise<void>
  /** Takes back these, and no other's. */
  end(): Promise<void>
}

/**
 * Answers to validations that run now, as files: while front is replaced, two processes accept connections, and
 * either must be able to answer. Each order has a folder of its own, `<pid>-<number>`, because one that was given up
 * still ends some time; the folder around them exists only while an order runs.
 */
export class Challenges {
  readonly #dir: string
  /** Of this process. */
  readonly #live = new Set<string>()

  constructor(storeDir: string) {
    this.#dir = join(storeDir, 'challenges')
  }

  /** An order runs, in this process or another. One `stat`. */
  get active(): boolean {
    return existsSync(this.#dir)
  }

  async begin(): Promise<Attempt> {
    const name = `${process.pid}-${++attempts}`
    this.#live.add(name)
    await this.#tidy()
    const dir = join(this.#dir, name)
    await ensurePrivateDir(dir)
    return {
      putHttp: async (token, keyAuthorization) => {
        const file = httpFile(token)
        if (!file) throw new Error('the ACME server sent a token that is not base64url')
        await writeFileAtomic(join(dir, file), keyAuthorization)
      },
      putAlpn: async (domain, key, cert) => {
        const file = alpnFile(domain)
        if (!file) throw new Error(`the ACME server asks for ${JSON.stringify(domain)}, which is no DNS name`)
        await writeFileAtomic(join(dir, file), `${key}\n${cert}`)
      },
      end: async () => {
        this.#live.delete(name)
        await rm(dir, { recursive: true, force: true })
        // Where others have answers in it, it stays.
        await rmdir(this.#dir).catch(() => {})
      },
    }
  }

  /** The key authorization for a request path of port 80, or undefined where none is waited for. */
  http(url: string): string | undefined {
    return url.startsWith(httpPrefix) ? this.#find(httpFile(url.slice(httpPrefix.length))) : undefined
  }

  /** The validation certificate for a name. */
  alpn(name: string | null): SecureContext | undefined {
    const pem = name === null ? undefined : this.#find(alpnFile(name))
    return pem === undefined ? undefined : createSecureContext({ key: pem, cert: pem })
  }

  /** Of several orders for one name the latest is the one that is asked about. */
  #find(file: string | undefined): string | undefined {
    if (file === undefined) return undefined
    const paths = list(this.#dir).map((name) => join(this.#dir, name, file))
    const found = paths.flatMap((path) => {
      const at = statSync(path, { throwIfNoEntry: false })?.mtimeMs
      return at === undefined ? [] : [{ path, at }]
    })
    const latest = found.sort((a, b) => b.at - a.at)[0]
    return latest && read(latest.path)
  }

  /** Removes what processes left behind that are gone. */
  async #tidy(): Promise<void> {
    for (const name of list(this.#dir)) {
      const path = join(this.#dir, name)
      if (this.#live.has(name) || (isOfAnother(name) && isYoung(path))) continue
      await rm(path, { recursive: true, force: true })
    }
  }
}

const httpFile = (token: string): string | undefined =>
  /^[\w-]{1,200}$/.test(token) ? `http-01.${token}` : undefined

const alpnFile = (name: string): string | undefined =>
  /^[a-z0-9.-]{1,253}$/.test(name) ? `tls-alpn-01.${name}.pem` : undefined

/** Of a living process that is not this one. */
function isOfAnother(name: string): boolean {
  const pid = Number(/^(\d+)-\d+$/.exec(name)?.[1])
  if (!pid || pid === process.pid) return false
  try {
    process.kill(pid, 0)
    return true
  } catch (error) {
    return (error as NodeJS.ErrnoException).code !== 'ESRCH'
  }
}

const isYoung = (path: string): boolean =>
  Date.now() - (statSync(path, { throwIfNoEntry: false })?.mtimeMs ?? 0) < staleMs

function list(dir: string): string[] {
  try {
    return readdirSync(dir)
  } catch {
    return []
  }
}

function read(path: string): string | undefined {
  try {
    return readFileSync(path, 'utf8')
  } catch {
    return undefined
  }
}
