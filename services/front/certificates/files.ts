import { statSync } from 'node:fs'
import type { TlsFiles, TlsPaths } from '../../../shared/config/tls-files.ts'
import { Fault } from '../../../shared/faults.ts'
import { loadTls } from '../tls.ts'
import type { CertificateSource, SourceParts } from './source.ts'

/** Whoever renews the files may write them one after the other: a pair that does not fit is looked at again. */
const lookEveryMs = 4_000
/** Files that are being written are left alone until they were not touched for so long. */
const settleMs = 500

/**
 * The two PEM files of the operator, watched: a pair that was replaced is served within five seconds, without a signal.
 * One that ended is served at the start, where there is none before it: it fails the check, and its successor is waited for. Watching is by `stat`, which follows links and sees files that were renamed into place.
 */
export class FileCertificates implements CertificateSource {
  tls: TlsFiles
  notice: string | null = null
  readonly figures = {}
  readonly #paths: TlsPaths
  readonly #parts: SourceParts
  readonly #closed = new AbortController()
  #seen: string

  /** Throws Fault `config.invalid` that names the file. */
  constructor(paths: TlsPaths, parts: SourceParts) {
    this.#paths = paths
    this.#parts = parts
    this.#seen = fingerprint(paths)
    this.tls = loadTls(paths)
    void this.#watch()
  }

  reload(): void {
    this.#seen = fingerprint(this.#paths)
    this.#take()
  }

  async close(): Promise<void> {
    this.#closed.abort()
  }

  #take(): void {
    const tls = loadTls(this.#paths)
    const now = this.#parts.clock.now()
    if (Date.parse(tls.leaf.validTo) <= now && Date.parse(this.tls.leaf.validTo) > now) {
      const detail = `the certificate in ${this.#paths.certChainPath} expired on ${tls.leaf.validTo}`
      throw new Fault('config.invalid', { detail })
    }
    this.notice = null
    if (tls.cert === this.tls.cert && tls.key === this.tls.key) return
    this.tls = tls
    this.#parts.onChange(tls)
  }

  async #watch(): Promise<void> {
    const { clock, log } = this.#parts
    for (;;) {
      await clock.sleep(lookEveryMs, this.#closed.signal).catch(() => {})
      if (this.#closed.signal.aborted) return
      let now = fingerprint(this.#paths)
      if (now === this.#seen && this.notice === null) continue
      const again = now === this.#seen
      for (let before = again ? now : ''; before !== now && !this.#closed.signal.aborted; ) {
        before = now
        await clock.sleep(settleMs, this.#closed.signal).catch(() => {})
        now = fingerprint(this.#paths)
      }
      this.#seen = now
      try {
        this.#take()
      } catch (error) {
        const { detail } = Fault.from(error)
        this.notice = `the certificate files changed and can not be used (${detail}); the one before is served`
        if (!again) log.warn({ detail }, 'the certificate files changed and can not be used')
      }
    }
  }
}

/** Changes when one of the files does, or the right to look at it. */
function fingerprint({ certChainPath, privateKeyPath }: TlsPaths): string {
  return [certChainPath, privateKeyPath]
    .map((path) => {
      try {
        const { dev, ino, size, mtimeNs, mode } = statSync(path, { bigint: true })
        return `${dev}:${ino}:${size}:${mtimeNs}:${mode}`
      } catch (error) {
        return (error as NodeJS.ErrnoException).code ?? 'unreadable'
      }
    })
    .join(' ')
}
