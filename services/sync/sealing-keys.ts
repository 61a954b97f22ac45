import type { Clock } from '../../shared/clock.ts'
import { Fault } from '../../shared/faults.ts'
import type { SealingKeys } from '../../shared/wire/credential.ts'

const freshMs = 60_000

/**
 * The tenant's session-sealing keys, in memory alone. Asked once however many wait; while the control plane is away
 * the last ones count on, because running sessions hang on them and they have no end of their own.
 */
export class SealingKeyCache {
  readonly #ask: () => Promise<SealingKeys>
  readonly #clock: Clock
  #held: { keys: SealingKeys; at: number } | null = null
  #flight: Promise<SealingKeys> | null = null

  constructor(ask: () => Promise<SealingKeys>, clock: Clock) {
    this.#ask = ask
    this.#clock = clock
  }

  async get(): Promise<SealingKeys> {
    if (this.#held && this.#clock.now() - this.#held.at < freshMs) return this.#held.keys
    this.#flight ??= this.#fetch().finally(() => {
      this.#flight = null
    })
    try {
      return await this.#flight
    } catch (error) {
      if (this.#held && error instanceof Fault && error.code === 'control_plane.unreachable')
        return this.#held.keys
      throw error
    }
  }

  async #fetch(): Promise<SealingKeys> {
    const keys = await this.#ask()
    this.#held = { keys, at: this.#clock.now() }
    return keys
  }
}
