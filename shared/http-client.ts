import type { Readable } from 'node:stream'
import { TextDecoder } from 'node:util'
import { type Dispatcher, Pool, ProxyAgent } from 'undici'
import type { z } from 'zod'
import { Fault, type FaultCode } from './faults.ts'
import { proxyFor } from './outbound-proxy.ts'
import { AnswerFault, isFaultCode } from './problem.ts'
import { type SseEvent, SseParser } from './sse.ts'
import { type Problem, problemSchema } from './wire/enrolment.ts'

/**
 * How one program of ours speaks to another: `https://host/…`, `http://` on this machine alone, or `unix:/path`.
 * Redirects are not followed, every body and every wait has a bound, every failure is a Fault.
 */
export interface HttpClientOptions {
  readonly base: string
  /** Fault for: no connection, no answer in time, 429 and 5xx. The same request may succeed later. */
  readonly unreachable: FaultCode
  /** Fault for: every other answer that is not 2xx and has no code of ours, and an answer that makes no sense. */
  readonly rejected: FaultCode
  /** For one whole request and answer, ms; 10 s unless told. */
  readonly timeoutMs?: number
  /** Largest answer, bytes; 8 MiB unless told. */
  readonly maxBodyBytes?: number
  /** Sockets at most; 16 unless told. An event stream holds one. */
  readonly connections?: number
  /** Where HTTPS_PROXY and NO_PROXY are looked up; without it no forward proxy is used. */
  readonly proxyEnv?: Readonly<Record<string, string | undefined>>
}

export interface HttpRequest {
  readonly method?: 'GET' | 'POST' | 'PUT' | 'DELETE'
  /** Starts with `/`; appended to the base. */
  readonly path: string
  readonly headers?: Readonly<Record<string, string>>
  /** Sent as JSON. */
  readonly body?: unknown
  readonly timeoutMs?: number
  readonly signal?: AbortSignal
}

export interface HttpAnswer {
  /** 2xx or 304. */
  readonly status: number
  readonly headers: Readonly<Record<string, string | string[] | undefined>>
  readonly body: Buffer
}

export interface EventStreamRequest extends Omit<HttpRequest, 'timeoutMs'> {
  /** The stream ends with the `unreachable` Fault when nothing, not even a comment, came for so long. */
  readonly idleMs: number
  /** 256 Ki characters unless told. */
  readonly maxEventChars?: number
}

export interface HttpClient {
  /** The answer of a 2xx as `schema` reads it. Throws AnswerFault for a refusal, Fault otherwise. */
  json<T>(request: HttpRequest, schema: z.ZodType<T>): Promise<T>
  /** The raw answer of a 2xx or 304; also for endpoints that answer no JSON or nothing. */
  send(request: HttpRequest): Promise<HttpAnswer>
  /** Events as they come, after `onOpen`. Returns when the other side ends the stream or `signal` aborts. */
  events(request: EventStreamRequest, onOpen?: () => void): AsyncGenerator<SseEvent, void, void>
  /** Drops every connection; what runs fails with the `unreachable` Fault. */
  close(): Promise<void>
}

interface Target {
  readonly origin: string
  readonly prefix: string
  readonly socketPath: string | null
}

/** Throws `config.invalid` for a base we do not speak to, plain http to another machine among them. */
export function parseBase(base: string): Target {
  if (base.startsWith('unix:/')) {
    return { origin: 'http://localhost', prefix: '', socketPath: base.slice('unix:'.length) }
  }
  const url = URL.canParse(base) ? new URL(base) : undefined
  const loopback = url && /^(localhost|127(\.\d{1,3}){3}|\[::1\])$/.test(url.hostname)
  if (!url || !(url.protocol === 'https:' || (url.protocol === 'http:' && loopback))) {
    throw new Fault('config.invalid', {
      detail: `${base} must be https://…, http:// on this machine, or unix:/path`,
    })
  }
  return { origin: url.origin, prefix: url.pathname.replace(/\/+$/, ''), socketPath: null }
}

export function createHttpClient(options: HttpClientOptions): HttpClient {
  const { base, unreachable, rejected, timeoutMs = 10_000, maxBodyBytes = 8 << 20 } = options
  const { origin, prefix, socketPath } = parseBase(base)
  const proxy = socketPath === null ? proxyFor(new URL(origin), options.proxyEnv ?? {}) : null
  const limits = {
    connections: options.connections ?? 16,
    pipelining: 1,
    // Our own signals bound every wait; undici's coarse timers would only blur them.
    headersTimeout: 0,
    bodyTimeout: 0,
  }
  const pool = proxy
    ? new ProxyAgent({ ...limits, uri: proxy.href, connectTimeout: timeoutMs })
    : new Pool(origin, {
        ...limits,
        connect: { timeout: timeoutMs, ...(socketPath === null ? {} : { socketPath }) },
      })
  const through = proxy ? ` through the proxy ${proxy.host}` : ''

  const open = async (request: HttpRequest, signal: AbortSignal): Promise<Dispatcher.ResponseData> => {
    const json = request.body === undefined ? null : JSON.stringify(request.body)
    return pool.request({
      origin,
      method: request.method ?? 'GET',
      path: prefix + request.path,
      headers: {
        accept: 'application/json',
        ...(json === null ? {} : { 'content-type': 'application/json' }),
        ...request.headers,
      },
      body: json,
      signal,
    })
  }

  /** Names the endpoint, never a header or body. */
  const away = (request: { method?: string; path: string }, error: unknown): Fault => {
    if (error instanceof Fault) return error
    const why = error instanceof Error ? messageOf(error) : String(error)
    return new Fault(unreachable, {
      detail: `${request.method ?? 'GET'} ${base}${request.path}${through}: ${why}`,
      cause: error,
    })
  }

  const refuse = (request: HttpRequest, status: number, body: Buffer): AnswerFault => {
    const problem = parseProblem(body)
    const known = problem && isFaultCode(problem.code) ? problem.code : undefined
    const code = status === 429 || status >= 500 ? unreachable : (known ?? rejected)
    const said = problem ? `${problem.code}: ${problem.detail ?? problem.title}` : 'no reason given'
    const detail = `${request.method ?? 'GET'} ${base}${request.path} answered ${status} (${said.slice(0, 500)})`
    return new AnswerFault(code, status, problem ? { detail, problem } : { detail })
  }

  const send = async (request: HttpRequest): Promise<HttpAnswer> => {
    const limit = AbortSignal.timeout(request.timeoutMs ?? timeoutMs)
    const signal = request.signal ? AbortSignal.any([request.signal, limit]) : limit
    try {
      const { statusCode, headers, body } = await open(request, signal)
      const bytes = await readAll(body, maxBodyBytes, rejected)
      if ((statusCode >= 200 && statusCode < 300) || statusCode === 304) {
        return { status: statusCode, headers, body: bytes }
      }
      throw refuse(request, statusCode, bytes)
    } catch (error) {
      throw away(request, error)
    }
  }

  const json = async <T>(request: HttpRequest, schema: z.ZodType<T>): Promise<T> => {
    const answer = await send(request)
    let value: unknown
    try {
      value = JSON.parse(answer.body.toString('utf8'))
    } catch {
      throw new Fault(rejected, { detail: `${base}${request.path} answered something that is not JSON` })
    }
    const parsed = schema.safeParse(value)
    if (parsed.success) return parsed.data
    // Names fields alone: the values may be credentials.
    const fields = parsed.error.issues.slice(0, 5).map((issue) => `${issue.path.join('.')}: ${issue.code}`)
    throw new Fault(rejected, {
      detail: `${base}${request.path} answered another shape (${fields.join('; ')})`,
    })
  }

  async function* events(
    request: EventStreamRequest,
    onOpen?: () => void,
  ): AsyncGenerator<SseEvent, void, void> {
    const idle = new AbortController()
    const expire = (): void => idle.abort(new Error(`silent for ${request.idleMs} ms`))
    const timer = setTimeout(expire, request.idleMs)
    timer.unref()
    const signal = request.signal ? AbortSignal.any([request.signal, idle.signal]) : idle.signal
    try {
      const { statusCode, headers, body } = await open(
        { ...request, headers: { accept: 'text/event-stream', ...request.headers } },
        signal,
      )
      try {
        if (statusCode !== 200) {
          throw refuse(request, statusCode, await readAll(body, maxBodyBytes, rejected))
        }
        if (!String(headers['content-type']).startsWith('text/event-stream')) {
          throw new Fault(rejected, { detail: `${base}${request.path} is not an event stream` })
        }
        onOpen?.()
        const parser = new SseParser(request.maxEventChars ?? 256 << 10)
        const decoder = new TextDecoder()
        for await (const chunk of body) {
          timer.refresh()
          yield* parser.push(decoder.decode(chunk as Uint8Array, { stream: true }))
        }
      } finally {
        // An unread body would hold its socket, and undici reports its abort to nobody else.
        body.on('error', () => {})
        body.destroy()
      }
    } catch (error) {
      if (request.signal?.aborted) return
      throw away(request, error)
    } finally {
      clearTimeout(timer)
    }
  }

  return { json, send, events, close: () => pool.destroy() }
}

async function readAll(body: Readable, maxBytes: number, rejected: FaultCode): Promise<Buffer> {
  const chunks: Buffer[] = []
  let size = 0
  for await (const chunk of body as AsyncIterable<Buffer>) {
    size += chunk.length
    if (size > maxBytes) {
      throw new Fault(rejected, { detail: `the answer is larger than ${maxBytes} bytes` })
    }
    chunks.push(chunk)
  }
  return Buffer.concat(chunks, size)
}

function parseProblem(body: Buffer): Problem | undefined {
  try {
    const parsed = problemSchema.safeParse(JSON.parse(body.toString('utf8')))
    return parsed.success ? parsed.data : undefined
  } catch {
    return undefined
  }
}

function messageOf(error: Error): string {
  // An AggregateError (both address families refused) has an empty message.
  const code = 'code' in error && typeof error.code === 'string' ? error.code : undefined
  return error.message || code || error.name
}
