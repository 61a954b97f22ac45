import { readdir, readFile, rename, rm, stat } from 'node:fs/promises'
import { join } from 'node:path'
import type { Clock } from '../../shared/clock.ts'
import { ensurePrivateDir, writeFileAtomic } from '../../shared/files.ts'
import type { Logger } from '../../shared/log.ts'

/** `<worker>-<generation>-<seq>.<state>`: written by proxy as .open, sealed as .ready, set aside by us as .bad. */
const segmentName = /^([\w.]+-[\w.]+-\d+)\.(open|ready|bad)$/

const emptyMs = 3_600_000

export interface Segment {
  readonly name: string
  readonly path: string
  readonly state: 'open' | 'ready' | 'bad'
  readonly bytes: number
  /** Time of the last write, ms. */
  readonly modifiedAt: number
}

export interface SpoolDeps {
  readonly dir: string
  readonly maxBytes: () => number
  readonly clock: Clock
  readonly log: Logger
  /** An .open segment that nobody wrote to for so long is of a dead proxy: live ones seal after a second. */
  readonly adoptAfterMs?: number
}

/** The folder of event segments: which there are, which are ours to ship, and what has to go when it is too large. */
export class Spool {
  readonly #deps: SpoolDeps
  /** Events and bytes given up to stay within the bound, since the start. */
  dropped = { events: 0, bytes: 0 }

  constructor(deps: SpoolDeps) {
    this.#deps = deps
  }

  async prepare(): Promise<void> {
    await ensurePrivateDir(this.#deps.dir)
  }

  get dir(): string {
    return this.#deps.dir
  }

  /** All segments, oldest first. */
  async list(): Promise<Segment[]> {
    const names = await readdir(this.#deps.dir)
    const found = await Promise.all(names.map((name) => this.#segment(name)))
    return found.filter((segment) => segment !== null).sort(byAge)
  }

  /** Sealed segments, oldest first, after abandoned ones were adopted and the bound was enforced. */
  async ready(): Promise<Segment[]> {
    const segments = await Promise.all((await this.list()).map((segment) => this.#adopt(segment)))
    const kept = await this.#bound(segments.filter((segment) => segment !== null))
    return kept.filter(({ state }) => state === 'ready')
  }

  /** Sets lines aside that are no events, in `<segment>.bad`; again after a crash, with the same outcome. */
  async quarantine(segment: Segment, lines: readonly string[], why: string): Promise<void> {
    const path = segment.path.replace(/\.ready$/, '.bad')
    await writeFileAtomic(path, `${lines.join('\n')}\n`)
    this.#deps.log.error(
      { segment: segment.name, lines: lines.length, file: path, why },
      'events that can not be shipped were set aside',
    )
  }

  /** Sets a whole segment aside. */
  async setAside(segment: Segment, why: string): Promise<void> {
    const path = segment.path.replace(/\.ready$/, '.bad')
    await rename(segment.path, path)
    this.#deps.log.error(
      { segment: segment.name, bytes: segment.bytes, file: path, why },
      'a segment was set aside',
    )
  }

  /** False where the segment grew since `bytes` were read: a writer thought dead still wrote. */
  async remove(segment: Segment, bytes: number): Promise<boolean> {
    const now = await stat(segment.path).catch(() => null)
    if (now && now.size > bytes) return false
    await rm(segment.path, { force: true })
    return true
  }

  async #segment(name: string): Promise<Segment | null> {
    const match = segmentName.exec(name)
    if (!match) return null
    const path = join(this.#deps.dir, name)
    // Sealed or shipped by someone else in this moment.
    const info = await stat(path).catch(() => null)
    if (!info?.isFile()) return null
    return { name, path, state: match[2] as Segment['state'], bytes: info.size, modifiedAt: info.mtimeMs }
  }

  /** Null where the segment is gone. An empty .open may be about to get its first event: it stays for an hour. */
  async #adopt(segment: Segment): Promise<Segment | null> {
    if (segment.state !== 'open') return segment
    const idleMs = this.#deps.clock.now() - segment.modifiedAt
    if (segment.bytes === 0) {
      if (idleMs < emptyMs) return segment
      await rm(segment.path, { force: true })
      return null
    }
    if (idleMs < (this.#deps.adoptAfterMs ?? 10_000)) return segment
    const path = segment.path.replace(/\.open$/, '.ready')
    try {
      await rename(segment.path, path)
    } catch {
      return null
    }
    this.#deps.log.warn(
      { segment: segment.name, bytes: segment.bytes },
      'segment of a proxy that died is shipped',
    )
    return { ...segment, name: segment.name.replace(/\.open$/, '.ready'), path, state: 'ready' }
  }

  async #bound(segments: Segment[]): Promise<Segment[]> {
    let total = segments.reduce((sum, { bytes }) => sum + bytes, 0)
    const limit = this.#deps.maxBytes()
    const kept: Segment[] = []
    let files = 0
    const before = { ...this.dropped }
    for (const segment of segments) {
      if (total <= limit || segment.state === 'open') {
        kept.push(segment)
        continue
      }
      this.dropped.events += await countLines(segment.path)
      this.dropped.bytes += segment.bytes
      total -= segment.bytes
      files++
      await rm(segment.path, { force: true })
    }
    if (files > 0) {
      this.#deps.log.error(
        {
          files,
          events: this.dropped.events - before.events,
          bytes: this.dropped.bytes - before.bytes,
          limit,
        },
        'EVENTS LOST: the spool is full, the oldest were dropped; is the control plane reachable?',
      )
    }
    return kept
  }
}

/** Numeric where names hold numbers: 2 stands before 10. */
const byName = new Intl.Collator('en', { numeric: true })
const byAge = (a: Segment, b: Segment): number =>
  a.modifiedAt - b.modifiedAt || byName.compare(a.name, b.name)

async function countLines(path: string): Promise<number> {
  try {
    return (await readFile(path)).reduce((count, byte) => count + (byte === 0x0a ? 1 : 0), 0)
  } catch {
    return 0
  }
}
