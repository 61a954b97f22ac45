import type { Socket } from 'node:net'
import { lost, part, unserved } from './last-word.ts'

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

/** How long the supervisor may take to say that a proxy whose connection ended has died. */
const verdictMs = 1_000

/**
 * Passes bytes both ways until both sides have closed. Where one side reads slower than the other writes, the other
 * is paused, so that at most a high-water mark is held each way; an end of one side is passed on and the other way
 * stays open.
 *
 * A client that waits for no answer outlives its proxy: what it says next goes to another one, and a draining proxy's
 * goodbye is not passed on. "Waits for no answer" means that proxy spoke last, which holds for HTTP/1.1 as clients speak
 * it: one request after the other. Nothing that a proxy was sent is ever sent to a second one.
 *
 * A client that waits for the first byte of an answer from a proxy that died is told so in HTTP. In the middle of an
 * answer, and where the client's last bytes did not begin as a request does, nothing can be said that it would not take
 * for a part of that answer: the connection ends.
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
  /** Of the request that the client's bytes since then began with. */
  #method: string | undefined
  #verdict: NodeJS.Timeout | undefined
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

  /** Says goodbye to the client after what is already written. */
  end(word?: Buffer): void {
    this.#lingering ??= part(this.#client, this.#options.limits.lingerMs, word)
  }

  /** Proxy ended the connection. From the moment that all it said is with the kernel, the client may linger. */
  #passEnd(): void {
    this.#client.resume()
    this.#client.end(() => {
      this.#lingering ??= setTimeout(() => this.#client.destroy(), this.#options.limits.lingerMs).unref()
    })
  }

  destroy(): void {
    this.#client.destroy()
    this.#proxy?.socket.destroy()
  }

  /** The proxy ended with answers unfinished: a client that it left behind may still wait for one. */
  broke(path: string): void {
    if (this.#left !== path) return
    if (this.#verdict) this.#tellLost()
    else this.destroy()
  }

  #fromClient(bytes: Buffer): void {
    const proxy = this.#proxy
    const { moves } = this.#options
    if (moves && this.#proxySpokeAt !== 0 && (!proxy || moves.retired(proxy.path))) {
      void this.#move(bytes, moves)
      return
    }
    if (!proxy?.socket.writable) return
    if (moves) this.#listen(bytes)
    this.#proxySpokeAt = 0
    if (!proxy.socket.write(bytes)) this.#client.pause()
  }

  /** Looks at the first bytes after an answer: no body of a request is begun there by a client that waits its turn. */
  #listen(bytes: Buffer): void {
    if (this.#proxySpokeAt !== 0) this.#method = /^([A-Z]+) /.exec(bytes.toString('latin1', 0, 20))?.[1]
  }

  /** The proxy is gone with a request that nobody answers. Whether it died the supervisor knows, soon. */
  #leaveUnanswered(path: string, moves: Moves): void {
    this.#proxy = undefined
    this.#left = path
    this.#verdict = setTimeout(() => this.end(), verdictMs).unref()
    if (moves.broken(path)) this.#tellLost()
  }

  #tellLost(): void {
    clearTimeout(this.#verdict)
    this.end(this.#method === 'HEAD' ? lost.head : lost.full)
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
    const { moves } = this.#options
    const unanswered = (): boolean => this.#proxySpokeAt === 0 && this.#method !== undefined
    socket.on('end', () => {
      if (!ours()) return
      const waits = this.#proxySpokeAt === 0 || client.readableEnded
      if (moves && unanswered()) {
        this.#leaveUnanswered(path, moves)
        return void socket.destroy()
      }
      if (!moves || waits || !moves.retired(path) || moves.broken(path)) return this.#passEnd()
      this.#proxy = undefined
      this.#left = path
      socket.destroy()
    })
    // Also where proxy broke off: what it said before is still on its way, and HTTP's own framing tells the rest.
    socket.on('close', () => {
      if (!ours()) return
      if (moves && unanswered()) return this.#leaveUnanswered(path, moves)
      this.#proxy = undefined
      this.end()
      this.#settle()
    })
  }

  async #move(first: Buffer, moves: Moves): Promise<void> {
    this.#listen(first)
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
      this.end(this.#method === 'HEAD' ? unserved.head : unserved.full)
    }
  }

  #settle(): void {
    if (this.#clientOpen || this.#proxy) return
    clearTimeout(this.#lingering)
    clearTimeout(this.#verdict)
    this.#options.done()
  }
}
