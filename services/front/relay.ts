import type { Socket } from 'node:net'

export interface RelayLimits {
  /** No byte either way for this long: both sides are closed. */
  readonly idleMs: number
  /** How long a client may take to close after proxy has: bytes in flight are read and dropped meanwhile. */
  readonly lingerMs: number
}

/** One connection to a proxy, with the header already written. */
export interface Joined {
  readonly socket: Socket
  /** The proxy's socket file. */
  readonly path: string
}

/** How a client whose proxy is being replaced gets to the next one; null where its bytes can not be told apart (HTTP/2). */
export interface Moves {
  /** The proxy takes no new connections: it drains. */
  retired(path: string): boolean
  /** The proxy ended with answers unfinished. */
  broken(path: string): boolean
  /** Rejects where no proxy takes the connection in time. */
  join(): Promise<Joined>
}

export interface RelayOptions {
  readonly limits: RelayLimits
  readonly moves: Moves | null
  /** Both sides are closed. */
  readonly done: () => void
}

/**
 * Passes bytes both ways until both sides have closed. Where one side reads slower than the other writes, the other
 * is paused, so that at most a high-water mark is held each way; an end of one side is passed on and the other way
 * stays open.
 *
 * A client that waits for no answer outlives its proxy: what it says next goes to another one, and a draining proxy's
 * goodbye is not passed on. "Waits for no answer" means that proxy spoke last, which holds for HTTP/1.1 as clients speak
 * it: one request after the other. Nothing that a proxy was sent is ever sent to a second one.
 *
 * Written as loops on purpose: `pipe` costs about a tenth more CPU per request here, for bookkeeping that two
 * sockets do not need.
 */
export class Relay {
  readonly #client: Socket
  readonly #options: RelayOptions
  #proxy: Joined | undefined
  /** The proxy that left the client behind, until there is another. */
  #left: string | undefined
  // A connection on which nothing was said yet owes nobody an answer.
  #proxySpokeAt = performance.now()
  #lingering: NodeJS.Timeout | undefined
  #clientOpen = true

  constructor(client: Socket, proxy: Joined, options: RelayOptions) {
    this.#client = client
    this.#options = options
    client.on('data', (bytes) => this.#fromClient(bytes))
    client.on('drain', () => this.#proxy?.socket.resume())
    client.on('end', () => {
      if (this.#proxy) this.#proxy.socket.end()
      else client.end()
    })
    client.on('timeout', () => this.destroy())
    client.on('close', () => {
      this.#clientOpen = false
      const socket = this.#proxy?.socket
      if (socket && (!socket.writableEnded || !socket.readableEnded)) socket.destroy()
      this.#settle()
    })
    client.setTimeout(options.limits.idleMs)
    this.#attach(proxy)
  }

  /** The client did not speak last, and proxy not for `quietMs`: no HTTP/1.1 request is waiting for its answer. */
  answered(quietMs: number): boolean {
    return this.#proxySpokeAt !== 0 && performance.now() - this.#proxySpokeAt >= quietMs
  }

  /**
   * Says goodbye to the client after what is already written. Closing while the client still sends would reset the
   * connection and lose the answer on its way, so its bytes are read and dropped for a while.
   */
  end(): void {
    this.#client.end()
    this.#client.resume()
    this.#lingering ??= setTimeout(() => this.destroy(), this.#options.limits.lingerMs).unref()
  }

  destroy(): void {
    this.#client.destroy()
    this.#proxy?.socket.destroy()
  }

  /** The proxy ended with answers unfinished: a client that it left behind may still wait for one. */
  broke(path: string): void {
    if (this.#left === path) this.destroy()
  }

  #fromClient(bytes: Buffer): void {
    const proxy = this.#proxy
    const { moves } = this.#options
    if (moves && this.#proxySpokeAt !== 0 && (!proxy || moves.retired(proxy.path))) {
      void this.#move(bytes, moves)
      return
    }
    if (!proxy?.socket.writable) return
    this.#proxySpokeAt = 0
    if (!proxy.socket.write(bytes)) this.#client.pause()
  }

  #attach(proxy: Joined): void {
    const { socket, path } = proxy
    const client = this.#client
    this.#proxy = proxy
    this.#left = undefined
    const ours = (): boolean => this.#proxy === proxy
    socket.on('data', (bytes) => {
      if (!ours() || !client.writable) return
      this.#proxySpokeAt = performance.now()
      if (!client.write(bytes)) socket.pause()
    })
    socket.on('drain', () => ours() && client.resume())
    socket.on('end', () => {
      if (!ours()) return
      const { moves } = this.#options
      const waits = this.#proxySpokeAt === 0 || client.readableEnded
      if (!moves || waits || !moves.retired(path) || moves.broken(path)) return void client.end()
      this.#proxy = undefined
      this.#left = path
      socket.destroy()
    })
    // Also where proxy broke off: what it said before is still on its way, and HTTP's own framing tells the rest.
    socket.on('close', () => {
      if (!ours()) return
      this.#proxy = undefined
      this.end()
      this.#settle()
    })
  }

  async #move(first: Buffer, moves: Moves): Promise<void> {
    this.#proxySpokeAt = 0
    this.#client.pause()
    this.#proxy?.socket.destroy()
    this.#proxy = undefined
    this.#left = undefined
    try {
      const next = await moves.join()
      if (this.#client.destroyed) return void next.socket.destroy()
      this.#attach(next)
      next.socket.write(first)
      if (this.#client.readableEnded) next.socket.end()
      this.#client.resume()
    } catch {
      this.#client.destroy()
    }
  }

  #settle(): void {
    if (this.#clientOpen || this.#proxy) return
    clearTimeout(this.#lingering)
    this.#options.done()
  }
}
