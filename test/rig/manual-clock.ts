import type { Clock } from '../../shared/clock.ts'

interface Sleeper {
  readonly until: number
  readonly wake: () => void
}

/** Time that moves when told. */
export class ManualClock implements Clock {
  #now: number
  readonly #sleepers = new Set<Sleeper>()

  constructor(now = Date.parse('2026-11-23T10:00:00Z')) {
    this.#now = now
  }

  now(): number {
    return this.#now
  }

  sleep(ms: number, signal?: AbortSignal): Promise<void> {
    return new Promise((resolve, reject) => {
      if (signal?.aborted) return reject(signal.reason)
      const onAbort = (): void => {
        this.#sleepers.delete(sleeper)
        reject(signal?.reason)
      }
      const sleeper: Sleeper = {
        until: this.#now + ms,
        wake: () => {
          this.#sleepers.delete(sleeper)
          signal?.removeEventListener('abort', onAbort)
          resolve()
        },
      }
      this.#sleepers.add(sleeper)
      signal?.addEventListener('abort', onAbort, { once: true })
    })
  }

  /** Moves time and wakes who has slept long enough. */
  advance(ms: number): void {
    this.#now += ms
    for (const sleeper of this.#sleepers) if (sleeper.until <= this.#now) sleeper.wake()
  }

  /** Somebody sets the clock; who sleeps is woken, as by the end of a wait that the kernel measured. */
  set(now: number): void {
    this.#now = now
    for (const sleeper of this.#sleepers) sleeper.wake()
  }

  /** Ms until each sleeper wakes, shortest first. */
  get waits(): number[] {
    return [...this.#sleepers].map(({ until }) => until - this.#now).sort((a, b) => a - b)
  }
}
