import type { IncomingHttpHeaders, IncomingMessage, OutgoingHttpHeaders, ServerResponse } from 'node:http'
import type { Http2ServerRequest } from 'node:http2'
import { Transform } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import { Pool } from 'undici'
import { Fault } from '../../shared/faults.ts'
import type { Logger } from '../../shared/log.ts'
import type { Endpoint } from '../../shared/proxy-protocol.ts'
import { abandonBody, inviteBody } from './body.ts'
import { hasOneHost, type Origins } from './origins.ts'
import { refuseProblem } from './refuse-problem.ts'

export interface PassthroughDeps {
  /** The control plane's public socket; null where it lives elsewhere, and then these paths do not exist. */
  readonly socketPath: string | null
  /** The gateway's public origin: what the control plane is told it was called as. */
  readonly origin: string
  readonly origins: Origins
  readonly bodyBytes: number
  /** Requests at a time; browsers wait rather than agents. */
  readonly concurrent: number
  readonly log: Logger
}

const methods = new Set(['GET', 'HEAD', 'POST', 'PUT', 'PATCH', 'DELETE', 'OPTIONS'])
/** RFC 9110 §7.6.1, and what older agents still send. */
const hopByHop = new Set([
  'connection',
  'keep-alive',
  'proxy-connection',
  'proxy-authenticate',
  'proxy-authorization',
  'te',
  'trailer',
  'transfer-encoding',
  'upgrade',
  'http2-settings',
])
/** What says who is calling is ours to say; the rest is settled on this hop. */
const ours = /^(:|forwarded$|x-forwarded-|x-real-ip$|host$|expect$)/

/**
 * Single-name mode: every path that is not the gateway's own goes to the control plane's public socket, bodies
 * streamed both ways, nothing read on the way.
 */
export class Passthrough {
  readonly #deps: PassthroughDeps
  readonly #pool: Pool | undefined
  #active = 0

  constructor(deps: PassthroughDeps) {
    this.#deps = deps
    if (deps.socketPath !== null) {
      this.#pool = new Pool('http://control-plane', {
        connect: { socketPath: deps.socketPath, timeout: 2_000 },
        connections: deps.concurrent,
        headersTimeout: 30_000,
        bodyTimeout: 60_000,
      })
    }
  }

  get active(): number {
    return this.#active
  }

  /** Takes a request to its answer. Never rejects. */
  async handle(req: IncomingMessage, res: ServerResponse, client: Endpoint): Promise<void> {
    this.#active++
    try {
      await this.#relay(req, res, client)
    } catch (error) {
      if (res.headersSent || res.destroyed) res.destroy()
      else refuseProblem(req, res, this.#fault(error))
    } finally {
      this.#active--
    }
  }

  async close(): Promise<void> {
    await this.#pool?.destroy()
  }

  #fault(error: unknown): Fault {
    if (error instanceof Fault) return error
    const detail = error instanceof Error ? error.message : String(error)
    this.#deps.log.warn({ detail }, 'the control plane does not answer')
    return new Fault('passthrough.down', { detail, cause: error })
  }

  async #relay(req: IncomingMessage, res: ServerResponse, client: Endpoint): Promise<void> {
    const pool = this.#admit(req)
    const gone = new AbortController()
    res.once('close', () => gone.abort())
    const hasBody = carriesBody(req)
    if (hasBody) inviteBody(req, res)
    const answer = await pool.request({
      method: req.method as 'GET',
      path: req.url ?? '/',
      headers: this.#headers(req, client),
      body: hasBody ? bounded(req, this.#deps.bodyBytes) : null,
      signal: gone.signal,
    })
    abandonBody(req, res)
    res.writeHead(answer.statusCode, responseHeaders(answer.headers))
    await pipeline(answer.body, res)
  }

  #admit(req: IncomingMessage): Pool {
    const { host, upgrade } = req.headers
    const authority = host ?? (req.headers as Record<string, string | undefined>)[':authority']
    if (!hasOneHost(req)) throw new Fault('http.malformed', { detail: 'more than one Host header' })
    if (!this.#deps.origins.host(authority)) throw new Fault('http.host')
    if (!this.#pool) throw new Fault('http.not_found')
    if (!methods.has(req.method ?? '')) throw new Fault('http.method')
    // h2c is an offer that may be ignored (RFC 9110 §7.8); any other upgrade would leave HTTP.
    if (upgrade !== undefined && upgrade.toLowerCase() !== 'h2c') throw new Fault('http.upgrade')
    if (Number(req.headers['content-length'] ?? 0) > this.#deps.bodyBytes)
      throw new Fault('http.body_too_large')
    if (this.#active > this.#deps.concurrent) throw new Fault('http.busy')
    return this.#pool
  }

  #headers(req: IncomingMessage, client: Endpoint): Record<string, string | string[]> {
    const { protocol, host } = new URL(this.#deps.origin)
    return {
      ...endToEnd(req.headers, ours),
      host,
      'x-forwarded-for': client.address,
      'x-forwarded-proto': protocol.slice(0, -1),
      'x-forwarded-host': host,
    }
  }
}

function carriesBody(req: IncomingMessage): boolean {
  if (req.httpVersionMajor === 2) return !(req as unknown as Http2ServerRequest).stream.endAfterHeaders
  return req.headers['transfer-encoding'] !== undefined || Number(req.headers['content-length'] ?? 0) > 0
}

/** The body as it comes; one without a declared length is cut off at the limit. */
function bounded(req: IncomingMessage, limit: number): IncomingMessage | Transform {
  if (req.headers['content-length'] !== undefined) return req
  let size = 0
  const counter = new Transform({
    transform(chunk: Buffer, _encoding, done) {
      size += chunk.length
      if (size > limit) done(new Fault('http.body_too_large'))
      else done(null, chunk)
    },
  })
  req.once('close', () => {
    if (!req.complete) counter.destroy(new Fault('http.malformed'))
  })
  return req.pipe(counter)
}

function endToEnd(headers: IncomingHttpHeaders, drop?: RegExp): Record<string, string | string[]> {
  const named = new Set(headers.connection?.toLowerCase().split(/\s*,\s*/))
  const kept: Record<string, string | string[]> = {}
  for (const [name, value] of Object.entries(headers)) {
    if (value === undefined || hopByHop.has(name) || named.has(name) || drop?.test(name)) continue
    kept[name] = value
  }
  return kept
}

function responseHeaders(headers: IncomingHttpHeaders): OutgoingHttpHeaders {
  return endToEnd(headers)
}
