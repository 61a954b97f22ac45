import { Fault } from '../../../shared/faults.ts'

type Listener = (reason: Error) => void

/**
 * The reason to give up a piece of work, with its time limit. What AbortSignal does, at a tenth of its cost per call,
 * and with a limit that can be moved. Time-outs do not keep the process alive.
 */
export class Stop {
  #reason: Error | undefined
  #listeners: Listener[] = []
  #timer: NodeJS.Timeout | undefined

  /** Why the work is given up; undefined while it is not. */
  get reason(): Error | undefined {
    return this.#reason
  }

  stop(reason: Error): void {
    if (this.#reason) return
    this.#reason = reason
    const listeners = this.#listeners
    this.end()
    for (const listener of listeners) listener(reason)
  }

  /**
   * Stops with `upstream.timeout` in `ms` from now; replaces the former limit. What arrived in that time counts, also
   * where this process was too busy to read it: the sockets are looked at once more before the work is given up.
   */
  limit(ms: number, detail?: string): this {
    if (this.#reason) return this
    clearTimeout(this.#timer)
    const timer = setTimeout(() => {
      // Timers run before sockets are read, immediates after. A limit that was moved or ended meanwhile is another one.
      setImmediate(() => {
        if (this.#timer !== timer) return
        this.stop(new Fault('upstream.timeout', detail === undefined ? {} : { detail }))
      })
    }, ms)
    this.#timer = timer.unref()
    return this
  }

  /** No limit until the next `limit`: a person is asked meanwhile. */
  hold(): void {
    clearTimeout(this.#timer)
    this.#timer = undefined
  }

  /** Calls at once where the work is given up already. */
  on(listener: Listener): void {
    if (this.#reason) listener(this.#reason)
    else this.#listeners.push(listener)
  }

  off(listener: Listener): void {
    const at = this.#listeners.indexOf(listener)
    if (at !== -1) this.#listeners.splice(at, 1)
  }

  /** The work is done: nothing is to be stopped any more. */
  end(): void {
    clearTimeout(this.#timer)
    this.#timer = undefined
    this.#listeners = []
  }
}

/** Waits for work that others wait for too, but not beyond this caller's own stop; the work itself goes on. */
export function within<T>(work: Promise<T>, stop: Stop): Promise<T> {
  return new Promise((resolve, reject) => {
    stop.on(reject)
    work.then(
      (value) => {
        stop.off(reject)
        resolve(value)
      },
      (error: unknown) => {
        stop.off(reject)
        reject(error)
      },
    )
  })
}

/** Waits `ms`, or rejects with the stop's reason. */
export function pause(ms: number, stop: Stop): Promise<void> {
  return new Promise((resolve, reject) => {
    const giveUp = (reason: Error): void => {
      clearTimeout(timer)
      reject(reason)
    }
    const timer = setTimeout(() => {
      stop.off(giveUp)
      resolve()
    }, ms)
    stop.on(giveUp)
  })
}
