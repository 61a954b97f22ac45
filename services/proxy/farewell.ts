import type { IncomingMessage, Server, ServerResponse } from 'node:http'
import type { Socket } from 'node:net'

/** A client of a front that goes is given this long without a request before its connection is closed. */
const lingerMs = 2_000
const sweepEveryMs = 250
const rememberedFronts = 32

interface Track {
  readonly front: number | null
  readonly open: Set<ServerResponse>
  idleSince: number
}

/**
 * How HTTP/1.1 connections end. HTTP/1.1 has no way to say goodbye on an idle connection: a request may be on its way
 * when it closes, and is lost. So clients of a front that drains hear `Connection: close` with their next answer, and
 * only those that said nothing for a while are closed without one (RFC 9112 §9.5, §9.6).
 */
export class Farewell {
  readonly #server: Server
  readonly #tracks = new Map<Socket, Track>()
  /** Fronts that drain; null: those that did not say which they are, while we drain ourselves. */
  readonly #retired = new Set<number | null>()
  #timer: NodeJS.Timeout | undefined

  constructor(server: Server) {
    this.#server = server
    const hear = (req: IncomingMessage, res: ServerResponse): void => {
      const track = this.#tracks.get(req.socket)
      if (!track) return
      track.open.add(res)
      if (this.#retired.has(track.front)) res.shouldKeepAlive = false
      res.once('close', () => {
        track.open.delete(res)
        track.idleSince = performance.now()
      })
    }
    server.prependListener('request', hear)
    // A request with `Expect: 100-continue` is announced by this alone.
    server.prependListener('checkContinue', hear)
  }

  retired(front: number | null): boolean {
    return this.#retired.has(front)
  }

  /** Those that have a connection here. */
  fronts(): Set<number | null> {
    return new Set([...this.#tracks.values()].map(({ front }) => front))
  }

  add(socket: Socket, front: number | null): void {
    this.#tracks.set(socket, { front, open: new Set(), idleSince: performance.now() })
    socket.once('close', () => this.#tracks.delete(socket))
  }

  retire(front: number | null): void {
    this.#retired.add(front)
    for (const oldest of this.#retired) {
      if (this.#retired.size <= rememberedFronts) break
      this.#retired.delete(oldest)
    }
    for (const track of this.#tracks.values()) {
      if (track.front !== front) continue
      for (const res of track.open) if (!res.headersSent) res.shouldKeepAlive = false
    }
    this.#timer ??= setInterval(() => this.#closeLingering(), sweepEveryMs).unref()
  }

  /** For a proxy that drains: closes what is idle, of a front that stays at once. */
  sweep(): void {
    const goes = [...this.#tracks.values()].some(({ front }) => this.#retired.has(front))
    if (goes) this.#closeLingering()
    else this.#server.closeIdleConnections()
  }

  close(): void {
    clearInterval(this.#timer)
  }

  #closeLingering(): void {
    const now = performance.now()
    for (const [socket, { front, open, idleSince }] of this.#tracks) {
      if (open.size === 0 && now - idleSince >= lingerMs && this.#retired.has(front)) socket.end()
    }
  }
}
