import { connect, type Socket } from 'node:net'
import type { Clock } from '../../shared/clock.ts'
import { Fault } from '../../shared/faults.ts'
import type { Joined } from './relay.ts'

/** Pause before the same sockets are tried again; a new list from the supervisor cuts it short. */
const retryMs = 50
const rememberedBroken = 64

/**
 * The proxy workers that take new connections. Each connection goes to the worker with the fewest of ours; where
 * none accepts (it died, its successor is not there yet), the caller waits for the next list.
 */
export class Upstreams {
  readonly #clock: Clock
  readonly #waitMs: number
  #sockets: readonly string[] = []
  readonly #load = new Map<string, number>()
  #changed = Promise.withResolvers<void>()
  #turn = 0
  /** The newest of those that broke; older ones have no connection any more. */
  readonly #broken: string[] = []

  constructor({ clock, waitMs }: { clock: Clock; waitMs: number }) {
    this.#clock = clock
    this.#waitMs = waitMs
  }

  /** Replaces the list; connections that are open stay where they are. */
  set(sockets: readonly string[]): void {
    this.#sockets = [...sockets]
    this.#changed.resolve()
    this.#changed = Promise.withResolvers()
  }

  /** Takes no new connections, and there is another one that does. */
  retired(path: string): boolean {
    return this.#sockets.length > 0 && !this.#sockets.includes(path)
  }

  /** Its process ended with answers unfinished. */
  broken(path: string): boolean {
    return this.#broken.includes(path)
  }

  break(path: string): void {
    this.#broken.push(path)
    if (this.#broken.length > rememberedBroken) this.#broken.shift()
  }

  /**
   * A connected socket. Tries every worker, then again until `waitMs` are over or `wanted()` says that nobody waits
   * any more. Throws Fault `drain.timeout`.
   */
  async connect(wanted: () => boolean): Promise<Joined> {
    const deadline = this.#clock.now() + this.#waitMs
    for (;;) {
      const changed = this.#changed.promise
      for (const path of this.#byLoad()) {
        const socket = await this.#tryConnect(path)
        if (socket) return { socket, path }
      }
      const left = deadline - this.#clock.now()
      if (left <= 0 || !wanted())
        throw new Fault('drain.timeout', { detail: 'no proxy accepted the connection' })
      // With sockets to try, time alone may help; without any, only a new list does.
      const pause = this.#sockets.length > 0 ? Math.min(retryMs, left) : left
      const stop = new AbortController()
      await Promise.race([changed, this.#clock.sleep(pause, stop.signal).catch(() => {})])
      stop.abort()
    }
  }

  /** Connections per worker socket. */
  load(): ReadonlyMap<string, number> {
    return this.#load
  }

  #byLoad(): string[] {
    const turn = this.#turn++
    const count = this.#sockets.length
    return this.#sockets
      .map((path, at) => ({ path, load: this.#load.get(path) ?? 0, turn: (at + turn) % count }))
      .sort((a, b) => a.load - b.load || a.turn - b.turn)
      .map(({ path }) => path)
  }

  /** undefined where nobody listens, or the queue of the listener is full (EAGAIN). */
  #tryConnect(path: string): Promise<Socket | undefined> {
    this.#load.set(path, (this.#load.get(path) ?? 0) + 1)
    return new Promise((resolve) => {
      const socket = connect({ path, allowHalfOpen: true })
      socket.once('close', () => this.#release(path))
      const failed = (): void => resolve(undefined)
      socket.once('error', failed)
      socket.once('connect', () => {
        socket.off('error', failed)
        resolve(socket)
      })
    })
  }

  #release(path: string): void {
    const load = (this.#load.get(path) ?? 1) - 1
    if (load > 0) this.#load.set(path, load)
    else this.#load.delete(path)
  }
}
