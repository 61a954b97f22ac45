import type { Stopping } from '../protocol/peers.ts'

/** Those who wait for a condition that is looked at again with each `wake`. */
export class Waiters {
  readonly #waiting = new Set<() => void>()

  /** Resolves when the condition holds, or with the stop. Never rejects. */
  async until(condition: () => boolean, stop: Stopping): Promise<void> {
    while (!stop.reason && !condition()) {
      await new Promise<void>((resolve) => {
        this.#waiting.add(resolve)
        stop.on(() => resolve())
      })
    }
  }

  wake(): void {
    const woken = [...this.#waiting]
    this.#waiting.clear()
    for (const wake of woken) wake()
  }
}
