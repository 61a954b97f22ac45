import { type FileHandle, open, rename } from 'node:fs/promises'
import { join } from 'node:path'
import type { Clock } from '../../shared/clock.ts'
import { ensurePrivateDir } from '../../shared/files.ts'
import type { Logger } from '../../shared/log.ts'

export interface SpoolDeps {
  readonly dir: string
  /** `<worker>-<generation>`: what this process's segments begin with. */
  readonly owner: string
  readonly clock: Clock
  readonly log: Logger
  /** Bytes that may wait in memory for the disk; more is dropped, loudly. */
  readonly maxPendingBytes?: number
}

interface Segment {
  readonly handle: FileHandle
  readonly path: string
  readonly openedAt: number
  bytes: number
}

/** What a SIGKILL can lose. */
const flushMs = 25
const sealMs = 1_000
const sealBytes = 256 * 1024

/**
 * Lines on their way to sync: appended in batches to `<owner>-<seq>.open`, renamed to `.ready` when the segment is a
 * second old or 256 KiB long. `seq` is the time in ms, only ever rising, so that a restart never reuses a name and
 * names sort by age. `append` never waits and never throws. What a killed process leaves open, sync adopts.
 */
export class Spool {
  readonly #deps: SpoolDeps
  #pending: string[] = []
  #pendingBytes = 0
  #timer: NodeJS.Timeout | undefined
  #work: Promise<void> = Promise.resolve()
  #segment: Segment | undefined
  #seq = 0
  #closed = false
  #toldAt = 0
  dropped = 0
  written = 0

  constructor(deps: SpoolDeps) {
    this.#deps = deps
  }

  async start(): Promise<void> {
    await ensurePrivateDir(this.#deps.dir)
  }

  append(line: string): void {
    const size = line.length + 1
    if (this.#closed || this.#pendingBytes + size > (this.#deps.maxPendingBytes ?? 8 * 1024 * 1024)) {
      this.#drop(1, 'more events than the disk takes')
      return
    }
    this.#pending.push(line)
    this.#pendingBytes += size
    this.#timer ??= setTimeout(() => this.#kick(), flushMs)
  }

  /** Writes and seals what there is; later appends are dropped. */
  async close(): Promise<void> {
    this.#closed = true
    clearTimeout(this.#timer)
    this.#work = this.#work.then(() => this.#flush(true))
    await this.#work
  }

  #kick(): void {
    this.#timer = undefined
    this.#work = this.#work.then(() => this.#flush(false))
  }

  async #flush(seal: boolean): Promise<void> {
    const lines = this.#pending
    this.#pending = []
    this.#pendingBytes = 0
    try {
      if (lines.length > 0) {
        this.#segment ??= await this.#open()
        const { bytesWritten } = await this.#segment.handle.write(`${lines.join('\n')}\n`)
        this.#segment.bytes += bytesWritten
        this.written += lines.length
      }
      const segment = this.#segment
      if (!segment) return
      const age = this.#deps.clock.now() - segment.openedAt
      if (seal || age >= sealMs || segment.bytes >= sealBytes) {
        this.#segment = undefined
        await segment.handle.close()
        await rename(segment.path, segment.path.replace(/\.open$/, '.ready'))
      } else if (!this.#closed) {
        this.#timer ??= setTimeout(() => this.#kick(), Math.min(sealMs - age, sealMs))
      }
    } catch (error) {
      await this.#segment?.handle.close().catch(() => {})
      this.#segment = undefined
      this.#drop(lines.length, error instanceof Error ? error.message : String(error))
    }
  }

  async #open(): Promise<Segment> {
    const now = this.#deps.clock.now()
    this.#seq = Math.max(this.#seq + 1, now)
    const path = join(this.#deps.dir, `${this.#deps.owner}-${String(this.#seq).padStart(15, '0')}.open`)
    return { handle: await open(path, 'wx', 0o600), path, bytes: 0, openedAt: now }
  }

  #drop(count: number, why: string): void {
    this.dropped += count
    const now = this.#deps.clock.now()
    if (now - this.#toldAt < 5_000) return
    this.#toldAt = now
    this.#deps.log.error({ dropped: this.dropped, why }, 'audit events lost')
  }
}
