import type { IncomingHttpHeaders } from 'node:http'
import { TextDecoder } from 'node:util'
import type { Dispatcher } from 'undici'
import { Fault } from '../../../../shared/faults.ts'
import { type SseEvent, SseParser } from '../../../../shared/sse.ts'
import type { ServerWorkload } from '../../../../shared/wire/snapshot.ts'
import type { Headers, UpstreamHttp } from './http.ts'

export interface EventStreamOptions {
  /** Credential and session; `accept` is written here. */
  headers: Headers
  /** Path and query instead of the server's own. */
  path?: string
  /** Characters that one event may hold. */
  limit: number
  /** Events in order, one at a time: a promise holds the server back. */
  onEvent(event: SseEvent): void | Promise<void>
  /** The server answered with a stream. */
  onOpen?(headers: IncomingHttpHeaders): void
  /** Once, whatever ended it: the server's own end or our `close` without a fault. */
  onEnd(end: StreamEnd): void
}

export interface StreamEnd {
  /** 200 where there was a stream; 0 where no answer came. */
  status: number
  /** Why it broke: `upstream.unreachable`, `upstream.blocked`, `upstream.too_large`. */
  fault?: Fault
}

export interface EventStream {
  /** The last `id` and `retry` that the server sent. */
  readonly lastEventId: string | undefined
  readonly retryMs: number | undefined
  close(): void
}

/** A GET that is answered by an event stream, read until it ends. Has no time-out: `close` ends it. */
export function openEventStream(
  http: UpstreamHttp,
  server: ServerWorkload,
  options: EventStreamOptions,
): EventStream {
  const reader = new Reader(options)
  try {
    const headers = { ...options.headers, accept: 'text/event-stream' }
    http.dispatch(server, 'GET', headers, null, reader, options.path)
  } catch (error) {
    reader.fail(Fault.from(error, 'upstream.unreachable'))
  }
  return reader
}

class Reader implements Dispatcher.DispatchHandler, EventStream {
  readonly #options: EventStreamOptions
  readonly #parser: SseParser
  readonly #decoder = new TextDecoder()
  readonly #events: SseEvent[] = []
  #controller: Dispatcher.DispatchController | undefined
  #status = 0
  #over = false
  /** An event is being taken. */
  #busy = false
  /** The body is at its end; events may be left. */
  #ended = false

  constructor(options: EventStreamOptions) {
    this.#options = options
    this.#parser = new SseParser(options.limit)
  }

  get lastEventId(): string | undefined {
    return this.#parser.lastEventId
  }

  get retryMs(): number | undefined {
    return this.#parser.retryMs
  }

  close(): void {
    this.#end({ status: this.#status })
  }

  fail(fault: Fault): void {
    this.#end({ status: this.#status, fault })
  }

  onRequestStart(controller: Dispatcher.DispatchController): void {
    this.#controller = controller
    if (this.#over) controller.abort(new Error('given up'))
  }

  onResponseStart(
    _controller: Dispatcher.DispatchController,
    status: number,
    headers: IncomingHttpHeaders,
  ): void {
    if (status < 200) return
    this.#status = status
    const stream = status === 200 && (headers['content-type'] ?? '').startsWith('text/event-stream')
    if (stream) this.#options.onOpen?.(headers)
    // 200 with anything else says no more than 405 does.
    else this.#end({ status: status === 200 ? 405 : status })
  }

  onResponseData(controller: Dispatcher.DispatchController, chunk: Buffer): void {
    if (this.#over) return
    try {
      this.#events.push(...this.#parser.push(this.#decoder.decode(chunk, { stream: true })))
    } catch (error) {
      this.fail(error instanceof RangeError ? new Fault('upstream.too_large') : Fault.from(error))
      return
    }
    this.#pump()
    if (this.#busy) controller.pause()
  }

  onResponseEnd(): void {
    this.#ended = true
    this.#pump()
  }

  onResponseError(_controller: Dispatcher.DispatchController, error: Error): void {
    const cause = error instanceof Fault ? error : (error as { cause?: unknown }).cause
    this.fail(
      cause instanceof Fault
        ? cause
        : new Fault('upstream.unreachable', { detail: error.message, cause: error }),
    )
  }

  #pump(): void {
    while (!this.#busy && !this.#over) {
      const event = this.#events.shift()
      if (!event) break
      const waiting = this.#options.onEvent(event)
      if (waiting) this.#wait(waiting)
    }
    if (this.#ended && !this.#busy) this.close()
  }

  #wait(waiting: Promise<void>): void {
    this.#busy = true
    waiting
      .catch(() => {})
      .then(() => {
        this.#busy = false
        this.#controller?.resume()
        this.#pump()
      })
  }

  #end(end: StreamEnd): void {
    if (this.#over) return
    this.#over = true
    this.#events.length = 0
    if (!this.#ended) this.#controller?.abort(new Error('given up'))
    this.#options.onEnd(end)
  }
}
