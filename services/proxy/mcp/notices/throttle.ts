/** Work of one name is done at once, then at most once every `ms`, the last time included. */
export class Throttle {
  readonly #ms: number
  /** What is to be done when the time is over; undefined: nothing came meanwhile. */
  readonly #resting = new Map<string, (() => void) | undefined>()

  constructor(ms: number) {
    this.#ms = ms
  }

  run(name: string, work: () => void): void {
    if (this.#resting.has(name)) {
      this.#resting.set(name, work)
      return
    }
    work()
    this.#resting.set(name, undefined)
    const timer = setTimeout(() => {
      const next = this.#resting.get(name)
      this.#resting.delete(name)
      if (next) this.run(name, next)
    }, this.#ms)
    timer.unref()
  }
}
