import type { IncomingHttpHeaders } from 'node:http'
import { TextDecoder } from 'node:util'
import type { Dispatcher } from 'undici'
import { Fault } from '../../../../shared/faults.ts'
import { SseParser } from '../../../../shared/sse.ts'
import type { ServerWorkload } from '../../../../shared/wire/snapshot.ts'
import type { Measures } from '../../measures.ts'
import { isBatch, isRequest, isResponse, parseMessages } from '../protocol/jsonrpc.ts'
import type { JsonRpcMessage, JsonRpcResponse, RequestId } from '../protocol/types.ts'
import type { Stop } from '../stop.ts'
import type { Headers, UpstreamHttp } from './http.ts'

export interface Exchanged {
  status: number
  headers: IncomingHttpHeaders
  /** The server's answer to the request, over JSON or a stream. */
  response?: JsonRpcResponse
  /** The answer as the server wrote it: one JSON-RPC message. */
  text?: string
  /** A JSON-RPC error in the body of a non-2xx answer: how servers say what was wrong. */
  refusal?: JsonRpcResponse
}

export interface ExchangeOptions {
  headers: Headers
  /** Undefined for DELETE. */
  message?: JsonRpcMessage
  stop: Stop
  /** Bytes of a JSON body; characters of one event of a stream. */
  limit: number
  /** Path and query instead of the server's own. */
  path?: string
  /** The answer is a stream that stays open. */
  lasting?: boolean
  /** The answer to the request comes on another stream: what comes back here is only whether it was taken. */
  answeredElsewhere?: boolean
  /** Notifications and requests that arrive on the stream before the answer. A promise holds the server back. */
  onMessage?(message: JsonRpcMessage): void | Promise<void>
}

/** `upstream.unreachable` before a byte of the request left: the server can not have acted on it. */
export class Unsent extends Fault {
  constructor(options: { detail: string; cause?: unknown }) {
    super('upstream.unreachable', options)
  }
}

/** A stream that ended before its answer, and where to go on. Its code is that of what broke it. */
export class BrokenStream extends Fault {
  readonly fault: Fault
  readonly lastEventId: string
  /** What the server asked to wait, milliseconds. */
  readonly retry: number | undefined
  constructor(fault: Fault, lastEventId: string, retry: number | undefined) {
    super(fault.code, { ...(fault.detail === undefined ? {} : { detail: fault.detail }), cause: fault })
    this.fault = fault
    this.lastEventId = lastEventId
    this.retry = retry
  }
}

/** What is read of a body that nobody wants, so that the connection can be used again. */
const dumpBytes = 65_536
/** How long a server may keep its stream open after the answer before the connection is given up. */
const lingerMs = 1_000

/**
 * One POST of one message, and what comes back, whichever form the server chose (streamable HTTP, all versions).
 * Rejects with the stop's reason, `upstream.unreachable`, `upstream.too_large`, `upstream.blocked`, and with
 * `upstream.garbage` where a 2xx answer holds no answer to the request.
 */
export function exchange(
  http: UpstreamHttp,
  server: ServerWorkload,
  options: ExchangeOptions,
): Promise<Exchanged> {
  return new Promise((resolve, reject) => {
    const { message, headers, path, lasting } = options
    const handler = new Handler(options, resolve, reject, http.measures)
    try {
      const body = message === undefined ? null : JSON.stringify(message)
      http.dispatch(server, message === undefined ? 'DELETE' : 'POST', headers, body, handler, path, lasting)
    } catch (error) {
      handler.fail(Fault.from(error, 'upstream.unreachable'))
    }
  })
}

type Mode = 'json' | 'stream' | 'refusal' | 'dump'

class Handler implements Dispatcher.DispatchHandler {
  readonly #options: ExchangeOptions
  readonly #resolve: (exchanged: Exchanged) => void
  readonly #reject: (error: Error) => void
  readonly #id: RequestId | undefined
  #controller: Dispatcher.DispatchController | undefined
  #settled = false
  #sent = false
  #status = 0
  #headers: IncomingHttpHeaders = {}
  #mode: Mode = 'dump'
  #chunks: Buffer[] = []
  #size = 0
  #parser: SseParser | undefined
  #decoder: TextDecoder | undefined
  /** Events that wait until the client has taken those before. */
  readonly #events: string[] = []
  /** Messages of the event that is being taken: more than one where it is a batch. */
  #said: readonly JsonRpcMessage[] = []
  #busy = false
  #ended = false
  /** What ended the stream, where it did not end by itself. */
  #cut: Fault | undefined
  #linger: NodeJS.Timeout | undefined
  readonly #measures: Measures
  /** Bytes of the body, whatever became of them. */
  #bytes = 0

  constructor(
    options: ExchangeOptions,
    resolve: (exchanged: Exchanged) => void,
    reject: (error: Error) => void,
    measures: Measures,
  ) {
    this.#options = options
    this.#measures = measures
    this.#resolve = resolve
    this.#reject = reject
    const { message, answeredElsewhere } = options
    this.#id = !answeredElsewhere && message && isRequest(message) ? message.id : undefined
    options.stop.on(this.fail)
  }

  onRequestStart(controller: Dispatcher.DispatchController): void {
    this.#controller = controller
    this.#sent = true
    if (this.#settled) controller.abort(new Error('given up'))
  }

  onResponseStart(
    controller: Dispatcher.DispatchController,
    status: number,
    headers: IncomingHttpHeaders,
  ): void {
    // 1xx answers come before the real one.
    if (status < 200) return
    this.#status = status
    this.#headers = headers
    const type = headers['content-type'] ?? ''
    if (status > 299) this.#mode = type.includes('json') ? 'refusal' : 'dump'
    else if (this.#id === undefined) this.#mode = 'dump'
    else if (type.startsWith('text/event-stream')) this.#stream()
    else if (type.includes('json')) this.#mode = 'json'
    else this.#garbage(`HTTP ${status} with content of type ${type.slice(0, 100) || 'unknown'}`)
    if (this.#settled) controller.abort(new Error('given up'))
  }

  onResponseData(controller: Dispatcher.DispatchController, chunk: Buffer): void {
    this.#bytes += chunk.length
    if (this.#mode === 'stream') {
      this.#push(controller, chunk)
      return
    }
    this.#size += chunk.length
    const { limit } = this.#options
    if (this.#mode === 'json' && this.#size > limit) {
      this.fail(new Fault('upstream.too_large'))
      return
    }
    if (this.#mode !== 'json' && this.#size > dumpBytes) {
      this.#finish({})
      controller.abort(new Error('enough'))
      return
    }
    if (this.#mode !== 'dump') this.#chunks.push(chunk)
  }

  onResponseEnd(): void {
    this.#ended = true
    clearTimeout(this.#linger)
    if (this.#settled) return
    if (this.#mode === 'stream') {
      this.#pump()
      return
    }
    if (this.#mode === 'dump') {
      this.#finish({})
      return
    }
    const text =
      this.#chunks.length === 1 ? this.#chunks[0]!.toString() : Buffer.concat(this.#chunks).toString()
    const said = parseMessages(text) ?? []
    const responses = said.filter(isResponse)
    if (this.#mode === 'refusal') {
      const [refusal] = responses
      this.#finish(refusal ? { refusal } : {})
      return
    }
    for (const message of said) if (!isResponse(message)) void this.#options.onMessage?.(message)
    // Some servers answer an error without an id; it can be meant for no other request.
    const response = responses.find(({ id, error }) => id === this.#id || (id === null && error))
    if (response) {
      this.#finish(isBatch(text) ? { response } : { response, text })
      return
    }
    this.#garbage('the JSON body is not the answer to the request')
  }

  onResponseError(_controller: Dispatcher.DispatchController, error: Error): void {
    clearTimeout(this.#linger)
    const cause = error instanceof Fault ? error : (error as { cause?: unknown }).cause
    if (cause instanceof Fault) {
      this.fail(cause)
      return
    }
    const why = { detail: error.message, cause: error }
    const fault = this.#sent ? new Fault('upstream.unreachable', why) : new Unsent(why)
    if (this.#mode !== 'stream') {
      this.fail(fault)
      return
    }
    // Events that arrived whole still count.
    this.#cut = fault
    this.#ended = true
    this.#pump()
  }

  /** Gives the exchange up, unless it is over. Bound: it listens to the stop. */
  readonly fail = (error: Error): void => {
    if (this.#settled) return
    this.#settle()
    // A stream that broke may be resumed: its answer is counted where it comes.
    if (this.#expected && !(error instanceof BrokenStream))
      this.#measures.answered(this.#options.message, 'error')
    this.#controller?.abort(error)
    this.#reject(error)
  }

  #garbage(detail: string): void {
    this.fail(new Fault('upstream.garbage', { detail }))
  }

  #finish(part: Pick<Exchanged, 'response' | 'text' | 'refusal'>): void {
    if (this.#settled) return
    this.#settle()
    if (part.response)
      this.#measures.answered(this.#options.message, part.response.error ? 'error' : 'success')
    this.#resolve({ status: this.#status, headers: this.#headers, ...part })
  }

  /** The server said 2xx and an answer was to follow. */
  get #expected(): boolean {
    return this.#id !== undefined && this.#status >= 200 && this.#status < 300
  }

  #settle(): void {
    this.#settled = true
    this.#measures.exchanged(this.#options.message, this.#status, this.#bytes)
    this.#options.stop.off(this.fail)
  }

  #stream(): void {
    this.#mode = 'stream'
    this.#parser = new SseParser(this.#options.limit)
    this.#decoder = new TextDecoder()
  }

  #push(controller: Dispatcher.DispatchController, chunk: Buffer): void {
    if (this.#settled) return
    try {
      for (const { event, data } of this.#parser!.push(this.#decoder!.decode(chunk, { stream: true }))) {
        // An event without data only primes the stream's id.
        if (event === 'message' && data !== '') this.#events.push(data)
      }
    } catch (error) {
      this.fail(error instanceof RangeError ? new Fault('upstream.too_large') : Fault.from(error))
      return
    }
    this.#pump()
    if (this.#busy) controller.pause()
  }

  #pump(): void {
    while (!this.#busy && !this.#settled) {
      const [message, ...others] = this.#said
      if (!message) {
        const data = this.#events.shift()
        if (data === undefined) break
        const said = parseMessages(data)
        if (!said) {
          this.#garbage('an event of the stream is not JSON-RPC')
          return
        }
        const [only] = said
        if (isBatch(data) || !only || !isResponse(only)) this.#said = said
        else if (only.id === this.#id) this.#answered(only, data)
        continue
      }
      this.#said = others
      if (isResponse(message)) {
        if (message.id === this.#id) this.#answered(message)
        continue
      }
      const waiting = this.#options.onMessage?.(message)
      if (waiting) this.#wait(waiting)
    }
    if (this.#ended && !this.#busy && !this.#settled) this.#brokenOff()
  }

  #brokenOff(): void {
    const fault = this.#cut ?? new Fault('upstream.garbage', { detail: 'the stream ended without an answer' })
    const { lastEventId, retryMs } = this.#parser!
    this.fail(lastEventId ? new BrokenStream(fault, lastEventId, retryMs) : fault)
  }

  #wait(waiting: Promise<void>): void {
    this.#busy = true
    waiting.then(
      () => {
        this.#busy = false
        this.#controller?.resume()
        this.#pump()
      },
      (error: unknown) => this.fail(Fault.from(error)),
    )
  }

  /** The connection is worth keeping, so the stream may end by itself; but not for long. */
  #answered(response: JsonRpcResponse, text?: string): void {
    this.#finish(text === undefined ? { response } : { response, text })
    if (this.#ended) return
    this.#linger = setTimeout(() => this.#controller?.abort(new Error('the stream stayed open')), lingerMs)
    this.#linger.unref()
  }
}
