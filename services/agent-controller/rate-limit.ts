import type { Clock } from '../../shared/clock.ts'

/** A token bucket: `burst` at once, then one each `everyMs`. Memory is constant. */
export class RateLimit {
  readonly #clock: Clock
  readonly #burst: number
  readonly #everyMs: number
  #tokens: number
  #filledAt: number

  constructor(clock: Clock, { burst, everyMs }: { burst: number; everyMs: number }) {
    this.#clock = clock
    this.#burst = burst
    this.#everyMs = everyMs
    this.#tokens = burst
    this.#filledAt = clock.now()
  }

  /** Whether one more is allowed now; counts it if so. */
  take(): boolean {
    const now = this.#clock.now()
    // A clock set back must not freeze the bucket.
    const passed = Math.max(0, now - this.#filledAt)
    this.#tokens = Math.min(this.#burst, this.#tokens + passed / this.#everyMs)
    this.#filledAt = now
    if (this.#tokens < 1) return false
    this.#tokens -= 1
    return true
  }
}
