import { Fault } from '../../../../shared/faults.ts'
import type { SseEvent } from '../../../../shared/sse.ts'
import type { ServerWorkload } from '../../../../shared/wire/snapshot.ts'
import { isRequest, isResponse, parseMessage } from '../protocol/jsonrpc.ts'
import type {
  JsonObject,
  JsonRpcError,
  JsonRpcMessage,
  JsonRpcNotification,
  JsonRpcRequest,
  JsonRpcResponse,
  RequestId,
} from '../protocol/types.ts'
import { Stop } from '../stop.ts'
import { unsupported } from './answers.ts'
import { type EventStream, openEventStream, type StreamEnd } from './event-stream.ts'
import { type Exchanged, type ExchangeOptions, exchange, Unsent } from './exchange.ts'
import type { Headers, UpstreamHttp } from './http.ts'

/**
 * The transport of MCP 2024-11-05: one event stream per session, opened by GET, whose first event `endpoint` says where
 * to POST; every answer comes on the stream, whoever asked.
 */
export interface SseChannel {
  /** The stream ended: the server has forgotten the session. */
  readonly closed: boolean
  /** As `exchange` does over streamable HTTP. On a closed channel the answer is status 404: the session is gone. */
  exchange(options: ExchangeOptions): Promise<Exchanged>
  /** What belongs to no running request goes to `listener` from now on, or to nobody. */
  listen(listener: SseListener | undefined): void
  close(): void
}

export interface SseListener {
  heard(notification: JsonRpcNotification): void
  asked(question: JsonRpcRequest): Promise<{ result: JsonObject } | { error: JsonRpcError }>
  /** The stream ended. */
  ended(): void
}

export interface SseChannelOptions {
  headers: Headers
  /** Characters that one event may hold. */
  limit: number
  /** Ends the wait for the `endpoint` event. */
  stop: Stop
}

/** The server has no event stream at its address: whatever it speaks, it is not HTTP+SSE. */
export class NoEventStream extends Error {
  readonly status: number
  constructor(status: number) {
    super(`GET was answered with HTTP ${status}`)
    this.name = 'NoEventStream'
    this.status = status
  }
}

/** What the answer to a POST may take, where the answer proper comes on the stream. */
const dumpBytes = 65_536
const maxPending = 2_048
/** For answers of the gateway itself, that nobody waits for. */
const replyMs = 5_000

interface Pending {
  options: ExchangeOptions
  /** The server took the request. */
  posted: boolean
  resolve(exchanged: Exchanged): void
  reject(error: Error): void
}

/**
 * Rejects with NoEventStream, the stop's reason, `upstream.unreachable`, and `upstream.blocked` where the endpoint is
 * not at the server's own origin: the credential must not follow it there.
 */
export function openSseChannel(
  http: UpstreamHttp,
  server: ServerWorkload,
  options: SseChannelOptions,
): Promise<SseChannel> {
  return new Promise((resolve, reject) => {
    const giveUp = (reason: Error): void => {
      stream.close()
      reject(reason)
    }
    const channel = new Channel(http, server, options, (error) => {
      options.stop.off(giveUp)
      if (!error) return resolve(channel)
      reject(error)
      stream.close()
    })
    const stream: EventStream = openEventStream(http, server, {
      headers: options.headers,
      limit: options.limit,
      onEvent: (event) => channel.take(event),
      onEnd: (end) => channel.ended(end),
    })
    channel.stream = stream
    options.stop.on(giveUp)
  })
}

const gone: Exchanged = Object.freeze({ status: 404, headers: {} })
const streamEnded = (why?: string): Fault =>
  new Fault('upstream.unreachable', {
    detail: `the event stream ended before the answer${why ? ` (${why})` : ''}`,
  })

class Channel implements SseChannel {
  stream: EventStream | undefined
  closed = false
  #headers: Headers
  #endpoint: string | undefined
  readonly #http: UpstreamHttp
  readonly #server: ServerWorkload
  #listener: SseListener | undefined
  readonly #ready: (error?: Error) => void
  /** In the order they were asked. */
  readonly #pending = new Map<RequestId, Pending>()

  constructor(
    http: UpstreamHttp,
    server: ServerWorkload,
    { headers }: SseChannelOptions,
    ready: (error?: Error) => void,
  ) {
    this.#http = http
    this.#server = server
    this.#headers = headers
    this.#ready = ready
  }

  close(): void {
    this.stream?.close()
  }

  listen(listener: SseListener | undefined): void {
    this.#listener = listener
  }

  async exchange(options: ExchangeOptions): Promise<Exchanged> {
    const { message, headers } = options
    if (message === undefined) {
      this.close()
      return { status: 204, headers: {} }
    }
    if (this.closed) return gone
    this.#headers = headers
    if (!isRequest(message)) return this.#post(options)
    if (this.#pending.size >= maxPending) {
      throw new Fault('upstream.unreachable', { detail: `${maxPending} requests wait on one event stream` })
    }
    const { promise, resolve, reject } = Promise.withResolvers<Exchanged>()
    const pending: Pending = { options, posted: false, resolve, reject }
    this.#pending.set(message.id, pending)
    options.stop.on(reject)
    try {
      // The answer on the stream may overtake that of the POST.
      void this.#post(options).then(
        (posted) => {
          if (posted.status > 299) resolve(posted)
          else if (this.closed) reject(streamEnded())
          pending.posted = true
        },
        // The stream is closing and the POST never left: as good as a session that is gone.
        (error: Error) => (this.closed && error instanceof Unsent ? resolve(gone) : reject(error)),
      )
      return await promise
    } finally {
      options.stop.off(reject)
      this.#pending.delete(message.id)
    }
  }

  take({ event, data }: SseEvent): void | Promise<void> {
    if (event === 'endpoint') return this.#setEndpoint(data)
    // What is no message concerns nobody in particular: others' answers may still come on this stream.
    const message = event === 'message' ? parseMessage(data) : undefined
    if (!message) return
    if (isResponse(message)) return this.#answered(message, data)
    if (!isRequest(message)) {
      const token = message.method === 'notifications/progress' ? message.params?.progressToken : undefined
      const owner = token === undefined ? this.#newest() : this.#pending.get(token as RequestId)
      if (owner?.options.onMessage) return owner.options.onMessage(message)
      return this.#listener?.heard(message)
    }
    // The stream does not say which call a question belongs to; with one call at a time, it is that one's.
    const owner = this.#newest()
    if (owner?.options.onMessage && message.method !== 'ping') return owner.options.onMessage(message)
    void this.#reply(message)
  }

  ended({ status, fault }: StreamEnd): void {
    this.closed = true
    this.#listener?.ended()
    this.#ready(fault ?? new NoEventStream(status))
    const lost = new Fault('upstream.unreachable', {
      detail: `the event stream ended before the answer${fault?.detail ? ` (${fault.detail})` : ''}`,
    })
    for (const { reject } of this.#pending.values())
      reject(fault?.code === 'upstream.too_large' ? fault : lost)
  }

  #setEndpoint(data: string): void {
    if (this.#endpoint !== undefined) return
    const { url } = this.#server
    const endpoint = URL.canParse(data, url) ? new URL(data, url) : undefined
    if (endpoint?.origin !== new URL(url).origin) {
      const where = endpoint ? endpoint.origin : 'something that is no URL'
      this.#ready(new Fault('upstream.blocked', { detail: `the event stream names the endpoint ${where}` }))
      return
    }
    this.#endpoint = endpoint.pathname + endpoint.search
    this.#ready()
  }

  #answered(response: JsonRpcResponse, text: string): void {
    const pending = response.id === null ? undefined : this.#pending.get(response.id)
    if (!pending) return
    this.#http.measures.answered(pending.options.message, response.error ? 'error' : 'success')
    pending.resolve({ status: 200, headers: {}, response, text })
  }

  #newest(): Pending | undefined {
    return [...this.#pending.values()].at(-1)
  }

  #post({
    headers,
    message,
    stop,
  }: Pick<ExchangeOptions, 'headers' | 'message' | 'stop'>): Promise<Exchanged> {
    return exchange(this.#http, this.#server, {
      headers,
      ...(message === undefined ? {} : { message }),
      stop,
      limit: dumpBytes,
      path: this.#endpoint!,
      answeredElsewhere: true,
    })
  }

  async #reply(question: JsonRpcRequest): Promise<void> {
    const asked = (): ReturnType<SseListener['asked']> => this.#listener?.asked(question) ?? unsupported()
    const answer = question.method === 'ping' ? { result: {} } : await asked().catch(unsupported)
    const stop = new Stop().limit(replyMs)
    const message: JsonRpcMessage = { jsonrpc: '2.0', id: question.id, ...answer }
    await this.#post({ headers: this.#headers, message, stop }).catch(() => {})
    stop.end()
  }
}
