import { readFileSync } from 'node:fs'
import { open, rm, stat, utimes } from 'node:fs/promises'
import { join } from 'node:path'
import { z } from 'zod'
import { parseTlsPem, type TlsFiles } from '../../../shared/config/tls-files.ts'
import { ensurePrivateDir, writeFileAtomic } from '../../../shared/files.ts'

const accountSchema = z.object({ directoryUrl: z.string(), url: z.string(), key: z.string() })
/** The account at one ACME server; `key` is PEM. */
export type AcmeAccount = z.infer<typeof accountSchema>

const stateSchema = z.object({
  /** Attempts that failed since the last certificate. */
  failures: z.number().int().nonnegative(),
  /** ms since the epoch; no attempt before. */
  nextAttemptAt: z.number(),
  lastError: z.object({ at: z.number(), text: z.string() }).nullable(),
  issued: z.number().int().nonnegative(),
  /** What the server suggested for the certificate of this SHA-256 fingerprint (RFC 9773 §4.1). */
  renewalInfo: z
    .object({
      fingerprint: z.string(),
      certId: z.string(),
      start: z.number(),
      end: z.number(),
      nextCheckAt: z.number(),
    })
    .nullable(),
})
export type AcmeState = z.infer<typeof stateSchema>

export const freshState: AcmeState = {
  failures: 0,
  nextAttemptAt: 0,
  lastError: null,
  issued: 0,
  renewalInfo: null,
}

const readme = `ACME account and certificate of the MCP gateway. All files belong to the service; keep them private.

  certificate.pem           private key, certificate and chain that are served now; replaced as one file
  certificate.previous.pem  the pair before
  account.json              the account at the ACME server, with its key: worth a backup
  state.json                attempts and errors; may be deleted
  lock, challenges/         exist while a certificate is being ordered

To use another certificate at once, put key and chain into certificate.pem and reload the gateway.
`

/** A holder of the lock that has not touched it for so long is gone, whatever its pid says now. */
const lockStaleMs = 15 * 60_000
/** A lock without a name: whoever made it writes theirs at once, or died between the two. */
const namelessMs = 10_000

/** The folder of ACME: everything that outlives a process, readable by an operator. */
export class AcmeStore {
  readonly dir: string

  constructor(dir: string) {
    this.dir = dir
  }

  async open(): Promise<void> {
    await ensurePrivateDir(this.dir)
    await writeFileAtomic(join(this.dir, 'README'), readme)
  }

  /** undefined where there is none for this server yet. */
  account(directoryUrl: string): AcmeAccount | undefined {
    const found = readJson(join(this.dir, 'account.json'), accountSchema)
    return found?.directoryUrl === directoryUrl ? found : undefined
  }

  async saveAccount(account: AcmeAccount): Promise<void> {
    await writeFileAtomic(join(this.dir, 'account.json'), `${JSON.stringify(account, null, 2)}\n`)
  }

  async forgetAccount(): Promise<void> {
    await rm(join(this.dir, 'account.json'), { force: true })
  }

  /** undefined where there is none, or none that can be read. */
  certificate(): TlsFiles | undefined {
    const path = join(this.dir, 'certificate.pem')
    try {
      const pem = readFileSync(path, 'utf8')
      const [key = ''] =
        /-----BEGIN [A-Z ]*PRIVATE KEY-----[\s\S]+?-----END [A-Z ]*PRIVATE KEY-----/.exec(pem) ?? []
      return parseTlsPem(pem.replace(key, '').trimStart(), `${key}\n`, { cert: path, key: path })
    } catch {
      return undefined
    }
  }

  async saveCertificate({ cert, key }: Pick<TlsFiles, 'cert' | 'key'>): Promise<void> {
    const path = join(this.dir, 'certificate.pem')
    const before = readText(path)
    if (before !== undefined) await writeFileAtomic(join(this.dir, 'certificate.previous.pem'), before)
    await writeFileAtomic(path, `${key.trim()}\n${cert.trim()}\n`)
  }

  state(): AcmeState {
    return readJson(join(this.dir, 'state.json'), stateSchema) ?? freshState
  }

  async saveState(state: AcmeState): Promise<void> {
    await writeFileAtomic(join(this.dir, 'state.json'), `${JSON.stringify(state, null, 2)}\n`)
  }

  /**
   * One process at a time orders. Gives what releases the lock, or undefined while another living process holds it:
   * while front is replaced there are two.
   */
  async lock(now: number): Promise<(() => Promise<void>) | undefined> {
    const path = join(this.dir, 'lock')
    const release = (): Promise<void> => rm(path, { force: true })
    for (const last of [false, true]) {
      try {
        const handle = await open(path, 'wx', 0o600)
        try {
          await handle.writeFile(`${process.pid}\n`)
          await utimes(path, now / 1000, now / 1000)
        } catch (error) {
          // A full disk: a lock that bears no name would hold up everybody.
          await release()
          throw error
        } finally {
          await handle.close()
        }
        return release
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error
        if (last || !(await this.#abandoned(path, now))) return undefined
        await release()
      }
    }
    return undefined
  }

  async #abandoned(path: string, now: number): Promise<boolean> {
    const pid = Number.parseInt(readText(path) ?? '', 10)
    const since = await stat(path).then(
      ({ mtimeMs }) => mtimeMs,
      () => 0,
    )
    if (now - since > (pid > 0 ? lockStaleMs : namelessMs)) return true
    if (!(pid > 0)) return false
    if (pid === process.pid) return false
    try {
      process.kill(pid, 0)
      return false
    } catch (error) {
      return (error as NodeJS.ErrnoException).code === 'ESRCH'
    }
  }
}

function readText(path: string): string | undefined {
  try {
    return readFileSync(path, 'utf8')
  } catch {
    return undefined
  }
}

/** A file that is absent, cut off or of another shape counts as absent: all of it can be made anew. */
function readJson<T>(path: string, schema: z.ZodType<T>): T | undefined {
  const text = readText(path)
  if (text === undefined) return undefined
  try {
    return schema.parse(JSON.parse(text))
  } catch {
    return undefined
  }
}
