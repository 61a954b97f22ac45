import type { ServerResponse } from 'node:http'
import type { Http2ServerResponse } from 'node:http2'
import type { Reply, SseWriter } from './mcp/protocol/types.ts'

/** A stream that was silent from one tick to the next gets a comment: at the latest every 15 s. */
const tickMs = 7_500

/**
 * What all answers share: comments for the open streams from one timer (an idle stream costs a look, not a timer).
 */
export class KeepAlive {
  readonly #streams = new Set<SseStream>()
  readonly #timer: NodeJS.Timeout

  constructor(everyMs = tickMs) {
    this.#timer = setInterval(() => {
      for (const stream of this.#streams) stream.tick()
    }, everyMs)
    this.#timer.unref()
  }

  get open(): number {
    return this.#streams.size
  }

  add(stream: SseStream): void {
    this.#streams.add(stream)
  }

  delete(stream: SseStream): void {
    this.#streams.delete(stream)
  }

  close(): void {
    clearInterval(this.#timer)
  }
}

/** A text/event-stream towards the client. A slow client slows `send` down; nothing is queued beyond one write. */
class SseStream implements SseWriter {
  readonly #res: ServerResponse
  readonly #keepAlive: KeepAlive
  #quiet = false
  #begun = false
  #open = true

  constructor(res: ServerResponse, keepAlive: KeepAlive) {
    this.#res = res
    this.#keepAlive = keepAlive
    // Such a response says `close` no more, and never that it drained.
    if (isGone(res)) {
      this.#open = false
      return
    }
    keepAlive.add(this)
    res.once('close', () => this.#shut())
    // The client learns that a stream began even where the first event takes its time.
    setImmediate(() => {
      if (this.#open && !this.#begun) res.flushHeaders()
    })
  }

  send(message: string): Promise<void> | void {
    if (!this.#open) return
    this.#quiet = false
    this.#begun = true
    const data = message.includes('\n') ? message.replace(/\r?\n/g, '\ndata: ') : message
    if (this.#res.write(`event: message\ndata: ${data}\n\n`)) return
    return this.#drained()
  }

  comment(text: string): void {
    if (this.#open && !this.#res.writableNeedDrain) this.#res.write(`: ${text.replace(/[\r\n]+/g, ' ')}\n\n`)
  }

  end(): void {
    if (!this.#open) return
    this.#shut()
    this.#res.end()
  }

  /** From KeepAlive: nothing was sent since the last tick. */
  tick(): void {
    if (this.#quiet) this.comment('keep-alive')
    this.#quiet = true
  }

  #shut(): void {
    this.#open = false
    this.#keepAlive.delete(this)
  }

  #drained(): Promise<void> {
    return new Promise((resolve) => {
      const done = (): void => {
        this.#res.off('drain', done)
        this.#res.off('close', done)
        resolve()
      }
      this.#res.on('drain', done)
      this.#res.on('close', done)
    })
  }
}

/** Its client is gone. Of HTTP/2's compatibility object the stream alone says so. */
function isGone(res: ServerResponse): boolean {
  const { stream } = res as unknown as Partial<Http2ServerResponse>
  return res.destroyed || res.closed || stream?.destroyed === true
}

/** The one answer to a request, over HTTP/1.1 and HTTP/2. A second answer is dropped. */
export class HttpReply implements Reply {
  readonly #res: ServerResponse
  readonly #keepAlive: KeepAlive
  /** Sent with every answer: CORS, where the caller's origin is allowed. */
  extra: Readonly<Record<string, string>> | undefined
  /** The stream, where one was opened: faults after that go into it. */
  streaming: SseWriter | undefined
  /** Said by us, whatever became of it: HTTP/2 counts no headers that a client who left did not get. */
  #answered = false

  constructor(res: ServerResponse, keepAlive: KeepAlive) {
    this.#res = res
    this.#keepAlive = keepAlive
  }

  get begun(): boolean {
    return this.streaming !== undefined || this.#answered || this.#res.headersSent || this.#res.destroyed
  }

  json(status: number, body: string, headers?: Record<string, string>): void {
    this.send(status, 'application/json', body, headers)
  }

  send(status: number, contentType: string, body: string | Buffer, headers?: Record<string, string>): void {
    if (this.begun) return
    this.#answered = true
    this.#res.writeHead(status, {
      'content-type': contentType,
      'content-length': Buffer.byteLength(body),
      'cache-control': 'no-store',
      ...this.extra,
      ...headers,
    })
    this.#res.end(body)
  }

  accepted(): void {
    this.empty(202)
  }

  empty(status: number, headers?: Record<string, string>): void {
    if (this.begun) return
    this.#answered = true
    this.#res.writeHead(status, {
      ...(status === 204 ? {} : { 'content-length': 0 }),
      ...this.extra,
      ...headers,
    })
    this.#res.end()
  }

  stream(headers?: Record<string, string>): SseWriter {
    if (this.streaming) return this.streaming
    this.streaming = new SseStream(this.#res, this.#keepAlive)
    if (!this.#res.headersSent && !this.#res.destroyed) {
      this.#res.writeHead(200, {
        'content-type': 'text/event-stream',
        'cache-control': 'no-store',
        'x-accel-buffering': 'no',
        ...this.extra,
        ...headers,
      })
    }
    return this.streaming
  }
}
