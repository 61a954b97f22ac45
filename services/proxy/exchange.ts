import type { IncomingMessage, ServerResponse } from 'node:http'
import type { Circumstances, Locate, PolicyIndex, Principal } from '../../shared/policy.ts'
import type { Endpoint } from '../../shared/proxy-protocol.ts'
import type { Verified } from './auth/verifier.ts'
import type { Era, JsonRpcMessage, McpCall, Session } from './mcp/protocol/types.ts'
import type { Outcome } from './measures.ts'
import { HttpReply, type KeepAlive } from './reply.ts'

/**
 * One client request on its way through the steps, and the McpCall that the core gets. Steps fill it in table order;
 * what a later step reads, an earlier one has set. HTTP/2's compatibility objects are taken for HTTP/1's: every
 * member used here exists on both.
 */
export class Exchange implements McpCall {
  readonly connectionId: string
  readonly req: IncomingMessage
  readonly res: ServerResponse
  readonly client: Endpoint
  readonly reply: HttpReply
  /** Milliseconds since the epoch. */
  readonly startedAt: number

  verified!: Verified
  index!: PolicyIndex
  era: Era = 'legacy'
  protocolVersion = ''
  session: Session | null = null
  message!: JsonRpcMessage
  /** In place of the message: several in one body (MCP 2025-03-26). */
  batch: readonly JsonRpcMessage[] | undefined
  /** How it ended, for the count of requests. */
  outcome: Outcome = 'success'
  /** Response events recorded so far; a refusal that nobody recorded becomes one. */
  responses = 0
  /** What all events of this exchange say alike, as JSON; made with the first. */
  trail: string | undefined

  readonly #locate: Locate | undefined
  readonly keepAlive: KeepAlive
  #circumstances: Circumstances | undefined
  #abort: AbortController | undefined
  #gone = false

  constructor(
    req: IncomingMessage,
    res: ServerResponse,
    client: Endpoint,
    connectionId: string,
    startedAt: number,
    keepAlive: KeepAlive,
    locate?: Locate,
    /** Of a member of a batch, whose answer goes with the others'. */
    reply: HttpReply = new HttpReply(res, keepAlive),
  ) {
    this.req = req
    this.res = res
    this.client = client
    this.connectionId = connectionId
    this.startedAt = startedAt
    this.reply = reply
    this.keepAlive = keepAlive
    this.#locate = locate
  }

  /** One message of the batch, as if it had come alone: a request of its own to policy and to events. */
  member(message: JsonRpcMessage, connectionId: string, reply: HttpReply): Exchange {
    const { req, res, client, startedAt } = this
    const x = new Exchange(req, res, client, connectionId, startedAt, this.keepAlive, this.#locate, reply)
    x.verified = this.verified
    x.index = this.index
    x.era = this.era
    x.protocolVersion = this.protocolVersion
    x.session = this.session
    x.message = message
    // The client goes away from all of them at once.
    if (!this.signal.aborted) x.#abort = this.#abort
    else x.#gone = true
    return x
  }

  get headers(): IncomingMessage['headers'] {
    return this.req.headers
  }

  get principal(): Principal {
    return this.verified.principal
  }

  /** The moment it came in counts for all of it, however long it takes. */
  get circumstances(): Circumstances {
    this.#circumstances ??= {
      now: this.startedAt,
      clientIp: this.client.address,
      locate: this.#locate,
    }
    return this.#circumstances
  }

  /** Aborts when the client goes away before its answer is complete. Made on first use: most calls never ask. */
  get signal(): AbortSignal {
    this.#abort ??= new AbortController()
    if (this.#gone) this.#abort.abort()
    return this.#abort.signal
  }

  /** The response is closed, finished or not. */
  closed(): void {
    // Not `writableFinished`: Node finishes an HTTP/2 stream that the client reset.
    if (this.res.writableEnded) return
    this.#gone = true
    this.#abort?.abort()
  }

  /** Is the message parsed yet? A fault before that has no request id to answer to. */
  get parsed(): boolean {
    return this.message !== undefined
  }
}

/** A request header as one string; Node joins repeated ones, except those it keeps the first of. */
export function header(req: IncomingMessage, name: string): string | undefined {
  const value = req.headers[name]
  return Array.isArray(value) ? value.join(', ') : value
}
