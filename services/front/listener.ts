import { randomBytes } from 'node:crypto'
import { createServer, type Server, type Socket } from 'node:net'
import { createServer as createTlsServer, TLSSocket, type Server as TlsServer } from 'node:tls'
import type { TlsFiles } from '../../shared/config/tls-files.ts'
import { Fault } from '../../shared/faults.ts'
import type { Logger } from '../../shared/log.ts'
import { encodeProxyHeader } from '../../shared/proxy-protocol.ts'
import { part, unserved } from './last-word.ts'
import { type Joined, Relay, type RelayLimits } from './relay.ts'
import { tlsOptions } from './tls.ts'
import type { Upstreams } from './upstreams.ts'

/** Session tickets are readable with the key that sealed them: so long at most (RFC 9325 §3.4). */
const ticketKeysEveryMs = 3_600_000

export interface ListenerOptions {
  /** null: plain HTTP. */
  readonly tls: TlsFiles | null
  readonly maxConnections: number
  readonly handshakeTimeoutMs: number
  readonly limits: RelayLimits
}

export interface ListenerParts {
  readonly upstreams: Upstreams
  readonly log: Logger
  /** DER of an OCSPResponse to staple, or null. */
  readonly staple: () => Buffer | null
  /** Takes over a connection before TLS, or calls `next` with it. */
  readonly intercept: (socket: Socket, next: (socket: Socket) => void) => void
}

export interface ListenerCounts {
  connections: number
  accepted: number
  refused: number
  tlsFailures: number
  proxyFailures: number
}

/** Accepts clients, ends their TLS, and joins each to a proxy. */
export class Listener {
  readonly counts: ListenerCounts = {
    connections: 0,
    accepted: 0,
    refused: 0,
    tlsFailures: 0,
    proxyFailures: 0,
  }
  readonly #server: Server
  readonly #tls: TlsServer | undefined
  readonly #upstreams: Upstreams
  readonly #limits: RelayLimits
  readonly #log: Logger
  /** Every accepted connection, in handshake or not, so that a drain can end all. */
  readonly #clients = new Set<Socket>()
  readonly #relays = new Set<Relay>()

  constructor(options: ListenerOptions, { upstreams, log, staple, intercept }: ListenerParts) {
    this.#upstreams = upstreams
    this.#limits = options.limits
    this.#log = log
    this.#tls = options.tls ? this.#tlsServer(options.tls, options.handshakeTimeoutMs, staple) : undefined
    const tls = this.#tls
    this.#server = createServer({
      allowHalfOpen: true,
      noDelay: true,
      keepAlive: true,
      keepAliveInitialDelay: 60_000,
      // Nothing is read before a proxy is there to take it.
      pauseOnConnect: tls === undefined,
    })
    this.#server.maxConnections = options.maxConnections
    this.#server.on('drop', () => {
      this.counts.refused++
    })
    this.#server.on('connection', (socket: Socket) => {
      this.#track(socket)
      if (tls) intercept(socket, (ready) => tls.emit('connection', ready))
      else void this.#join(socket)
    })
  }

  /** It never listens itself: connections are accepted in front of it, where their first bytes can be looked at. */
  #tlsServer(files: TlsFiles, handshakeTimeout: number, staple: () => Buffer | null): TlsServer {
    const server = createTlsServer({ allowHalfOpen: true, ...tlsOptions(files), handshakeTimeout })
    server.on('secureConnection', (client) => void this.#join(client))
    server.on('OCSPRequest', (_certificate, _issuer, answer) => answer(null, staple() as Buffer))
    server.on('tlsClientError', (error: NodeJS.ErrnoException, socket: Socket) => {
      this.counts.tlsFailures++
      this.#log.debug({ client: socket.remoteAddress, code: error.code }, 'TLS handshake failed')
      socket.destroy()
    })
    const timer = setInterval(() => server.setTicketKeys(randomBytes(48)), ticketKeysEveryMs)
    timer.unref()
    return server
  }

  /** Begins to accept on an inherited socket. Throws Fault `listen.failed`. */
  listen(fd: number): Promise<void> {
    return listenOn(this.#server, fd, 'https')
  }

  /** New connections get this certificate; open ones keep theirs. */
  setTls(files: TlsFiles): void {
    this.#tls?.setSecureContext(tlsOptions(files))
  }

  /**
   * Stops accepting; what is open may finish. In the last quarter of the time, connections that are not waiting for
   * an answer are closed first, and at the deadline all. Resolves with the number that was cut off.
   */
  async drain(deadlineMs: number, sleep: (ms: number) => Promise<void>): Promise<number> {
    this.#server.close()
    const start = performance.now()
    while (this.#clients.size > 0) {
      const left = deadlineMs - (performance.now() - start)
      if (left <= 0) break
      if (left < deadlineMs / 4) {
        for (const relay of this.#relays) if (relay.answered(200)) relay.end()
      }
      await sleep(Math.min(50, left))
    }
    const cut = this.#clients.size
    for (const relay of this.#relays) relay.destroy()
    for (const client of this.#clients) client.destroy()
    return cut
  }

  /** A proxy ended with answers unfinished: whoever may wait for one is told by the end of the connection. */
  broke(path: string): void {
    this.#upstreams.break(path)
    for (const relay of this.#relays) relay.broke(path)
  }

  #track(socket: Socket): void {
    this.counts.accepted++
    this.counts.connections++
    this.#clients.add(socket)
    // Resets are part of life; `close` always follows.
    socket.on('error', () => {})
    socket.once('close', () => {
      this.#clients.delete(socket)
      this.counts.connections--
    })
  }

  async #join(client: Socket): Promise<void> {
    client.on('error', () => {})
    const secure = client instanceof TLSSocket ? client : undefined
    const header = headerOf(client, secure)
    const join = async (): Promise<Joined> => {
      try {
        const joined = await this.#upstreams.connect(() => !client.destroyed)
        joined.socket.on('error', () => {})
        if (header) joined.socket.write(header)
        return joined
      } catch (error) {
        this.counts.proxyFailures++
        this.#log.warn(
          { client: client.remoteAddress, detail: Fault.from(error).detail },
          'connection closed: no proxy',
        )
        throw error
      }
    }
    const proxy = header && (await join().catch(() => undefined))
    const http1 = secure?.alpnProtocol !== 'h2'
    if (!proxy || client.destroyed) {
      if (http1 && !client.destroyed) part(client, this.#limits.lingerMs, unserved.full)
      else client.destroy()
      proxy?.socket.destroy()
      return
    }
    const moves = !http1
      ? null
      : {
          retired: (path: string) => this.#upstreams.retired(path),
          broken: (path: string) => this.#upstreams.broken(path),
          join,
        }
    const done = (): void => void this.#relays.delete(relay)
    const relay: Relay = new Relay(client, proxy, { limits: this.#limits, moves, done })
    this.#relays.add(relay)
    client.resume()
  }
}

/** What is said of a client to each proxy that it is joined to; undefined where it has gone already. */
function headerOf(client: Socket, secure: TLSSocket | undefined): Buffer | undefined {
  const { remoteAddress, remotePort, localAddress, localPort } = client
  if (remoteAddress === undefined || localAddress === undefined) return undefined
  return encodeProxyHeader({
    source: { address: remoteAddress, port: remotePort ?? 0 },
    destination: { address: localAddress, port: localPort ?? 0 },
    alpn: secure?.alpnProtocol || null,
    authority: typeof secure?.servername === 'string' ? secure.servername : null,
    tlsVersion: secure?.getProtocol() ?? null,
    front: process.pid,
  })
}

/** `server.listen({fd})` as a promise. Throws Fault `listen.failed` with detail `<name>: <errno>`. */
export function listenOn(server: Server, fd: number, name: 'https' | 'http'): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once('error', (error: NodeJS.ErrnoException) => {
      reject(new Fault('listen.failed', { detail: `${name}: ${error.code ?? error.message}`, cause: error }))
    })
    server.listen({ fd }, () => {
      server.removeAllListeners('error')
      // Accept can fail for want of file descriptors; the kernel's queue keeps the clients meanwhile.
      server.on('error', () => {})
      resolve()
    })
  })
}
