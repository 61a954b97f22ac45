import { once } from 'node:events'
import { chmod, rm } from 'node:fs/promises'
import {
  createServer as createHttp1Server,
  type IncomingMessage,
  type RequestListener,
  type Server,
} from 'node:http'
import type { Http2ServerRequest } from 'node:http2'
import { createServer as createHttp2Server, type Http2Server, type ServerHttp2Session } from 'node:http2'
import { createServer as createSocketServer, type Socket, type Server as SocketServer } from 'node:net'
import type { Logger } from '../../shared/log.ts'
import { createProxyHeaderReader, type Endpoint, type ProxyInfo } from '../../shared/proxy-protocol.ts'
import { Farewell } from './farewell.ts'

export interface IngressDeps {
  readonly log: Logger
  /** Front writes the header with its first packet; more than this is not front. */
  readonly headerTimeoutMs?: number
  /** A connection without a request is ended after this long, HTTP/2 with GOAWAY. */
  readonly keepAliveMs?: number
}

const nobody: Endpoint = Object.freeze({ address: '0.0.0.0', port: 0 })
const maxHeaderBytes = 32 * 1024
const defaultKeepAliveMs = 75_000

/**
 * The unix socket that only front can open. Each connection starts with a PROXY v2 header; its ALPN field decides
 * between an HTTP/1.1 and an HTTP/2 server, neither of which listens itself. What the header says of the client is
 * believed because of who can write it.
 */
export class Ingress {
  readonly http1: Server
  readonly http2: Http2Server
  readonly #deps: IngressDeps
  readonly #listener: SocketServer
  readonly #sockets = new Set<Socket>()
  /** HTTP/2 sessions → the front behind them. */
  readonly #sessions = new Map<ServerHttp2Session, number | null>()
  /** HTTP/1.1 sockets and HTTP/2 sessions → who is behind them. */
  readonly #clients = new WeakMap<object, Endpoint>()
  readonly #farewell: Farewell
  #draining = false

  constructor(handler: RequestListener, deps: IngressDeps) {
    this.#deps = deps
    this.http1 = createHttp1Server(
      {
        maxHeaderSize: maxHeaderBytes,
        keepAliveTimeout: deps.keepAliveMs ?? defaultKeepAliveMs,
        headersTimeout: 15_000,
        requestTimeout: 120_000,
        connectionsCheckingInterval: 5_000,
      },
      handler,
    )
    this.#farewell = new Farewell(this.http1)
    this.http1.on('checkContinue', handler)
    this.http1.on('connect', (_req, socket) => refuseRaw(socket as Socket, '405 Method Not Allowed'))
    // Node starts its check of header and request time-outs when a server listens; this one never does.
    this.http1.emit('listening')
    this.http2 = createHttp2Server(
      { maxHeaderListPairs: 128, maxSessionMemory: 16, settings: { maxConcurrentStreams: 128 } },
      handler as unknown as Parameters<typeof createHttp2Server>[1] & RequestListener,
    )
    this.http2.on('sessionError', (error) => deps.log.debug({ err: error }, 'http2 session'))
    this.#listener = createSocketServer({ allowHalfOpen: true, noDelay: false }, (socket) =>
      this.#greet(socket),
    )
  }

  get connections(): number {
    return this.#sockets.size
  }

  /** The client of a request, as front saw it. */
  clientOf(req: IncomingMessage): Endpoint {
    if (req.httpVersionMajor !== 2) return this.#clients.get(req.socket) ?? nobody
    const session = (req as unknown as Http2ServerRequest).stream.session
    return (session && this.#clients.get(session)) ?? nobody
  }

  /** Binds the socket file, replacing one that a dead process left. */
  async listen(path: string): Promise<void> {
    await rm(path, { force: true })
    this.#listener.listen(path)
    await once(this.#listener, 'listening')
    await chmod(path, 0o600)
  }

  /** A front drains: its clients are told to come back (`Connection: close`, GOAWAY), now and with each later answer. */
  retire(front?: number): void {
    for (const each of front === undefined ? this.#farewell.fronts() : [front]) this.#farewell.retire(each)
    for (const [session, of] of this.#sessions) if (this.#farewell.retired(of)) session.close()
  }

  /**
   * No new connections; what runs is finished. Idle connections are closed: a front that stays keeps its clients and
   * joins them to another proxy, those of one that drains go politely. Resolves when none is left, or at the deadline
   * with those left destroyed and counted.
   */
  async drain(deadlineMs: number): Promise<number> {
    this.#draining = true
    this.#listener.close()
    for (const [session] of this.#sessions) session.close()
    this.#farewell.retire(null)
    const end = Date.now() + deadlineMs
    const sweep = (): void => this.#farewell.sweep()
    sweep()
    while (this.#sockets.size > 0 && Date.now() < end) {
      await new Promise((resolve) => setTimeout(resolve, 20))
      sweep()
    }
    const left = this.#sockets.size
    this.close()
    return left
  }

  /** Ends everything at once. */
  close(): void {
    this.#listener.close()
    this.#farewell.close()
    for (const [session] of this.#sessions) session.destroy()
    for (const socket of this.#sockets) socket.destroy()
    // Also stops the time-out check that the constructor started.
    this.http1.close()
    this.http1.closeAllConnections()
  }

  #greet(socket: Socket): void {
    this.#sockets.add(socket)
    const reader = createProxyHeaderReader()
    const refuse = (why: string): void => {
      this.#deps.log.warn({ why }, 'a connection without a PROXY header')
      socket.destroy()
    }
    const timer = setTimeout(() => refuse('no header in time'), this.#deps.headerTimeoutMs ?? 5_000)
    timer.unref()
    const onError = (): void => {
      socket.destroy()
    }
    const onReadable = (): void => {
      const chunk: Buffer | null = socket.read()
      if (chunk === null) return
      try {
        const decoded = reader.push(chunk)
        if (!decoded) return
        socket.off('readable', onReadable)
        socket.off('end', onError)
        clearTimeout(timer)
        if (decoded.rest.length > 0) socket.unshift(decoded.rest)
        this.#hand(socket, decoded.info)
      } catch (error) {
        socket.off('readable', onReadable)
        refuse(error instanceof Error ? error.message : String(error))
      }
    }
    socket.on('error', onError)
    socket.on('end', onError)
    socket.on('readable', onReadable)
    socket.once('close', () => {
      clearTimeout(timer)
      this.#sockets.delete(socket)
    })
  }

  #hand(socket: Socket, { source: client, alpn, front: written }: ProxyInfo): void {
    const front = written ?? null
    if (alpn !== 'h2') {
      this.#farewell.add(socket, front)
      this.#clients.set(socket, client)
      this.http1.emit('connection', socket)
      return
    }
    // The session is made, and announced, before `emit` returns.
    this.http2.once('session', (session) => {
      this.#clients.set(session, client)
      this.#sessions.set(session, front)
      session.once('close', () => this.#sessions.delete(session))
      closeIdle(session, this.#deps.keepAliveMs ?? defaultKeepAliveMs)
      // Nothing else ends a session whose client closed its side without a word: the socket may be half open.
      socket.once('end', () => session.destroy())
      if (this.#draining || this.#farewell.retired(front)) session.close()
    })
    this.http2.emit('connection', socket)
  }
}

/** Says GOAWAY to a session that had no stream for `afterMs`. PINGs do not count: they ask for nothing. */
function closeIdle(session: ServerHttp2Session, afterMs: number): void {
  let open = 0
  const timer = setTimeout(() => {
    if (open === 0) session.close()
  }, afterMs).unref()
  session.on('stream', (stream) => {
    open++
    stream.once('close', () => {
      open--
      timer.refresh()
    })
  })
  session.once('close', () => clearTimeout(timer))
}

function refuseRaw(socket: Socket, status: string): void {
  socket.end(`HTTP/1.1 ${status}\r\nConnection: close\r\nContent-Length: 0\r\n\r\n`)
}
