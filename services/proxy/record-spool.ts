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
  /** Blocks that may wait in memory for the disk, at least 2; what does not fit is dropped, loudly. */
  readonly maxBlocks?: number
  readonly blockBytes?: number
}

interface Segment {
  readonly handle: FileHandle
  readonly path: string
  readonly openedAt: number
  bytes: number
}

interface Block {
  readonly bytes: Buffer
  used: number
  lines: number
}

/** What a SIGKILL can lose. */
const flushMs = 25
const sealMs = 1_000
const sealBytes = 256 * 1024
/** 32 MiB: a disk that stalls for three seconds at 10,000 events a second costs none. */
const defaultMaxBlocks = 128
/** Kept for the next burst; the rest goes back. */
const spareBlocks = 4

/**
 * Lines on their way to sync: appended in batches to `<owner>-<seq>.open`, renamed to `.ready` when the segment is a
 * second old or 256 KiB long. `seq` is the time in ms, only ever rising, so that a restart never reuses a name and
 * names sort by age. `append` never waits and never throws. What a killed process leaves open, sync adopts.
 *
 * Lines are encoded at once into blocks that are used again: kept as strings until the write they cost more in
 * garbage collection than everything else in a request.
 */
export class Spool {
  readonly #deps: SpoolDeps
  readonly #blockBytes: number
  readonly #full: Block[] = []
  #current: Block
  readonly #free: Block[] = []
  #blocks = 1
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
    this.#blockBytes = deps.blockBytes ?? 256 * 1024
    this.#current = this.#block()
  }

  async start(): Promise<void> {
    await ensurePrivateDir(this.#deps.dir)
  }

  /** false where the line was dropped. */
  append(line: string): boolean {
    // Three bytes for each UTF-16 unit is the most that UTF-8 takes.
    const most = line.length * 3 + 1
    if (this.#closed || (this.#current.used + most > this.#blockBytes && !this.#turn(most))) {
      this.#drop(1, 'more events than the disk takes')
      return false
    }
    const block = this.#current
    block.used += block.bytes.write(line, block.used)
    block.bytes[block.used++] = 0x0a
    block.lines++
    this.#timer ??= setTimeout(() => this.#kick(), flushMs)
    return true
  }

  /** Writes and seals what there is; later appends are dropped. */
  async close(): Promise<void> {
    this.#closed = true
    clearTimeout(this.#timer)
    this.#work = this.#work.then(() => this.#flush(true))
    await this.#work
  }

  /** Takes a block with room for `most` bytes; false where memory for that is used up. */
  #turn(most: number): boolean {
    if (most > this.#blockBytes) return false
    let next = this.#free.pop()
    if (!next) {
      if (this.#blocks >= (this.#deps.maxBlocks ?? defaultMaxBlocks)) return false
      this.#blocks++
      next = this.#block()
    }
    this.#full.push(this.#current)
    this.#current = next
    return true
  }

  #block(): Block {
    return { bytes: Buffer.allocUnsafeSlow(this.#blockBytes), used: 0, lines: 0 }
  }

  #kick(): void {
    this.#timer = undefined
    this.#work = this.#work.then(() => this.#flush(false))
  }

  async #flush(last: boolean): Promise<void> {
    let turned = false
    for (;;) {
      // While one block is on its way to the disk, lines go on into another.
      if (!turned && this.#current.used > 0) turned = this.#turn(0)
      const block = this.#full.shift()
      if (!block) break
      await this.#write(block).catch((error: unknown) => this.#failed(error, block.lines))
      block.used = 0
      block.lines = 0
      if (this.#free.length < spareBlocks) this.#free.push(block)
      else this.#blocks--
    }
    const segment = this.#segment
    if (!segment) return
    const age = this.#deps.clock.now() - segment.openedAt
    if (last || age >= sealMs) await this.#seal(segment).catch((error: unknown) => this.#failed(error, 0))
    else if (!this.#closed) this.#timer ??= setTimeout(() => this.#kick(), sealMs - age)
  }

  async #write(block: Block): Promise<void> {
    this.#segment ??= await this.#open()
    const segment = this.#segment
    // Unlike `write` it does not stop half-way.
    await segment.handle.appendFile(block.bytes.subarray(0, block.used))
    segment.bytes += block.used
    this.written += block.lines
    if (segment.bytes >= sealBytes) await this.#seal(segment)
  }

  async #open(): Promise<Segment> {
    const now = this.#deps.clock.now()
    this.#seq = Math.max(this.#seq + 1, now)
    const path = join(this.#deps.dir, `${this.#deps.owner}-${String(this.#seq).padStart(15, '0')}.open`)
    return { handle: await open(path, 'wx', 0o600), path, bytes: 0, openedAt: now }
  }

  async #seal(segment: Segment): Promise<void> {
    this.#segment = undefined
    await segment.handle.close()
    await rename(segment.path, segment.path.replace(/\.open$/, '.ready'))
  }

  async #failed(error: unknown, lines: number): Promise<void> {
    const segment = this.#segment
    this.#segment = undefined
    await segment?.handle.close().catch(() => {})
    this.#drop(lines, error instanceof Error ? error.message : String(error))
  }

  #drop(count: number, why: string): void {
    this.dropped += count
    const now = this.#deps.clock.now()
    if (count === 0 || now - this.#toldAt < 5_000) return
    this.#toldAt = now
    this.#deps.log.error({ dropped: this.dropped, why }, 'audit events lost')
  }
}
