import { LRUCache } from 'lru-cache'
import type { Clock } from '../../shared/clock.ts'
import { backoffMs } from '../../shared/retry.ts'

/** A process that ends sooner than this is a crash, and the next start waits. */
const stableMs = 10_000
const backoff = { baseMs: 500, capMs: 60_000, floorMs: 250 }
const maxOwners = 10_000

/**
 * Starts in a row that ended at once, and how long the next one waits. Each owner for themselves: what breaks one person's
 * process is often their credential.
 */
export class Crashes {
  readonly #clock: Clock
  readonly #random: () => number
  readonly #byOwner = new LRUCache<string, { count: number; notBefore: number }>({ max: maxOwners })

  constructor(clock: Clock, random: () => number) {
    this.#clock = clock
    this.#random = random
  }

  /** Of all owners, since the last good end of each. */
  get total(): number {
    return [...this.#byOwner.values()].reduce((sum, { count }) => sum + count, 0)
  }

  /** Milliseconds until the owner's next start, after `count` crashes; undefined: at once. */
  wait(key: string): { count: number; ms: number } | undefined {
    const { count, notBefore } = this.#byOwner.get(key) ?? { count: 0, notBefore: 0 }
    const ms = notBefore - this.#clock.now()
    return ms > 0 ? { count, ms } : undefined
  }

  /** A process of the owner has ended; `expected`: we wanted it. */
  ended(key: string, startedAt: number, expected: boolean): void {
    if (expected || this.#clock.now() - startedAt >= stableMs) {
      this.#byOwner.delete(key)
      return
    }
    const { count } = this.#byOwner.get(key) ?? { count: 0 }
    // The first accident costs nothing; some servers end when they are asked something that they do not know.
    const wait = count > 0 ? backoffMs(count, { ...backoff, random: this.#random }) : 0
    this.#byOwner.set(key, { count: count + 1, notBefore: this.#clock.now() + wait })
  }
}
