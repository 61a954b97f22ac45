import { type FSWatcher, watch } from 'node:fs'
import type { Clock } from '../../shared/clock.ts'
import { Fault } from '../../shared/faults.ts'
import type { Logger } from '../../shared/log.ts'
import { AnswerFault } from '../../shared/problem.ts'
import { backoffMs } from '../../shared/retry.ts'
import type { WorkloadEvent } from '../../shared/wire/event.ts'
import { maxSegmentBytes, readSegment } from './segment.ts'
import type { Segment, Spool } from './spool.ts'

export interface UploaderDeps {
  readonly spool: Spool
  /** Resolves once the control plane has stored every event. */
  readonly ship: (events: readonly WorkloadEvent[], signal: AbortSignal) => Promise<void>
  /** Events that the control plane took, or refused for good; before their segment is deleted. */
  readonly shipped: (events: readonly WorkloadEvent[]) => Promise<void>
  readonly clock: Clock
  readonly random: () => number
  readonly log: Logger
  /** Between looks at the folder where nothing tells of a change, ms; 2 s unless told. */
  readonly scanEveryMs?: number
}

export interface UploadStats {
  readonly shipped: number
  readonly quarantined: number
  readonly segments: number
  readonly bytes: number
  /** Age of the oldest sealed segment, ms. */
  readonly lagMs: number
}

const backoff = { baseMs: 500, capMs: 30_000, floorMs: 100 }

/**
 * Ships sealed segments in order and deletes each once all of it is stored. At least once: what a crash repeats, the
 * control plane knows by its eventId.
 */
export class Uploader {
  readonly #deps: UploaderDeps
  #wake = Promise.withResolvers<void>()
  #shipped = 0
  #quarantined = 0
  #pending: readonly Segment[] = []
  readonly #ending = new AbortController()
  #passing: Promise<void> = Promise.resolve()

  constructor(deps: UploaderDeps) {
    this.#deps = deps
  }

  stats(): UploadStats {
    const oldest = this.#pending[0]
    return {
      shipped: this.#shipped,
      quarantined: this.#quarantined,
      segments: this.#pending.length,
      bytes: this.#pending.reduce((sum, { bytes }) => sum + bytes, 0),
      lagMs: oldest ? Math.max(0, this.#deps.clock.now() - oldest.modifiedAt) : 0,
    }
  }

  /** Until `until` aborts, or the last pass begins; never throws. */
  async run(until: AbortSignal): Promise<void> {
    const signal = AbortSignal.any([until, this.#ending.signal])
    const { clock, log, random, scanEveryMs = 2_000 } = this.#deps
    const watcher = this.#watch()
    for (let failures = 0; !signal.aborted; ) {
      let failed = false
      try {
        await this.pass(signal)
        failures = 0
      } catch (error) {
        if (signal.aborted) break
        failed = true
        const fault = Fault.from(error)
        if (failures === 0) {
          const waiting = this.#pending.length
          log.warn({ code: fault.code, detail: fault.detail, waiting }, 'events wait in the spool')
        }
        failures++
      }
      const pause = new AbortController()
      const ends = AbortSignal.any([signal, pause.signal])
      // After a failure a new segment is no reason to try sooner.
      const pauseMs = failed ? backoffMs(failures - 1, { ...backoff, random }) : scanEveryMs
      const slept = clock.sleep(pauseMs, ends).catch(() => {})
      await (failed ? slept : Promise.race([slept, this.#wake.promise]))
      pause.abort()
      this.#wake = Promise.withResolvers<void>()
    }
    watcher?.close()
  }

  /** Looks again now. */
  poke(): void {
    this.#wake.resolve()
  }

  /** Ships everything that is sealed. Throws at the first segment that can not be shipped; later ones wait for it. */
  pass(signal: AbortSignal): Promise<void> {
    this.#passing = this.#passing.catch(() => {}).then(() => this.#pass(signal))
    return this.#passing
  }

  /** One more pass, after which none follows. What hangs in the one before it is given up, and sent again. */
  last(signal: AbortSignal): Promise<void> {
    this.#ending.abort()
    return this.pass(signal)
  }

  async #pass(signal: AbortSignal): Promise<void> {
    this.#pending = await this.#deps.spool.ready()
    for (const segment of this.#pending) {
      if (signal.aborted) return
      await this.#shipSegment(segment, signal)
      this.#pending = this.#pending.filter((other) => other !== segment)
    }
  }

  async #shipSegment(segment: Segment, signal: AbortSignal): Promise<void> {
    const { spool } = this.#deps
    if (segment.bytes > maxSegmentBytes)
      return spool.setAside(segment, `larger than ${maxSegmentBytes} bytes`)
    let content: Awaited<ReturnType<typeof readSegment>>
    try {
      content = await readSegment(segment.path)
    } catch (error) {
      // Another sync (the one before us, still draining) was faster.
      if ((error as NodeJS.ErrnoException).code === 'ENOENT') return
      throw error
    }
    const bad = [...content.bad]
    for (const batch of content.batches) {
      const refused = await this.#shipBatch(batch, signal)
      bad.push(...refused.map((event) => JSON.stringify(event)))
      this.#shipped += batch.length - refused.length
    }
    await this.#deps.shipped(content.batches.flat())
    if (bad.length > 0) {
      await spool.quarantine(
        segment,
        bad,
        content.bad.length > 0 ? 'not an event' : 'refused by the control plane',
      )
      this.#quarantined += bad.length
    }
    if (!(await spool.remove(segment, content.bytes))) this.poke()
  }

  /** Gives the events that the control plane does not take however they are sent; halves a refused batch to find them. */
  async #shipBatch(batch: readonly WorkloadEvent[], signal: AbortSignal): Promise<readonly WorkloadEvent[]> {
    try {
      await this.#deps.ship(batch, signal)
      return []
    } catch (error) {
      if (!(error instanceof AnswerFault) || ![400, 413, 422].includes(error.status)) throw error
      if (batch.length === 1) return batch
    }
    const middle = Math.ceil(batch.length / 2)
    const first = await this.#shipBatch(batch.slice(0, middle), signal)
    return [...first, ...(await this.#shipBatch(batch.slice(middle), signal))]
  }

  #watch(): FSWatcher | null {
    try {
      const watcher = watch(this.#deps.spool.dir, (_event, name) => {
        if (name === null || name.endsWith('.ready')) this.poke()
      })
      // The periodic look goes on without it.
      watcher.on('error', () => watcher.close())
      return watcher
    } catch (error) {
      this.#deps.log.debug({ err: error }, 'the spool can not be watched; it is looked at periodically')
      return null
    }
  }
}
