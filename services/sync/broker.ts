import { chmod, rename, rm } from 'node:fs/promises'
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import { dirname, join } from 'node:path'
import { Fault } from '../../shared/faults.ts'
import type { Logger } from '../../shared/log.ts'
import { problemContentType, problemStatus, toProblem } from '../../shared/problem.ts'
import { sseEvent } from '../../shared/sse.ts'
import { credentialRequestSchema } from '../../shared/wire/credential.ts'
import type { TrailReport } from '../../shared/wire/event-chain.ts'
import type { CredentialKey, Credentials } from './credentials.ts'
import type { SealingKeyCache } from './sealing-keys.ts'

export interface BrokerDeps {
  readonly credentials: Credentials
  readonly keys: SealingKeyCache
  /** Goes through the audit trail that the control plane has of this gateway. */
  readonly verifyTrail: () => Promise<TrailReport>
  readonly log: Logger
  /** Comments on the event streams, ms; 15 s unless told. */
  readonly keepAliveMs?: number
}

const maxBodyBytes = 64 << 10
const maxListeners = 256
/** A listener that does not read is cut off; it then drops all it has cached, as after any gap. */
const maxBacklogBytes = 256 << 10

/** sync.sock: what proxies of this gateway ask, and `audit verify`. HTTP/1.1 on a unix socket that only our user may open. */
export class Broker {
  readonly #deps: BrokerDeps
  readonly #server: Server
  readonly #listeners = new Set<ServerResponse>()
  readonly #keepAlive: NodeJS.Timeout
  #closing = false

  constructor(deps: BrokerDeps) {
    this.#deps = deps
    this.#server = createServer((request, response) => {
      this.#route(request, response).catch((error) => this.#refuse(request, response, error))
    })
    this.#server.requestTimeout = 10_000
    this.#server.keepAliveTimeout = 60_000
    this.#server.maxConnections = 1_024
    this.#keepAlive = setInterval(() => this.#send(':\n\n'), deps.keepAliveMs ?? 15_000)
    this.#keepAlive.unref()
  }

  get listeners(): number {
    return this.#listeners.size
  }

  /**
   * Binds beside `path` and renames over it: a stale file of a dead process is replaced, a predecessor that still
   * serves keeps its connections and loses the name, and nobody sees the socket before its mode is 0600.
   */
  async listen(path: string): Promise<void> {
    const beside = join(dirname(path), `sync.${process.pid}.new`)
    await rm(beside, { force: true })
    await new Promise<void>((resolve, reject) => {
      this.#server.once('error', reject)
      this.#server.listen(beside, () => {
        this.#server.off('error', reject)
        resolve()
      })
    })
    await chmod(beside, 0o600)
    await rename(beside, path)
  }

  /** Tells every proxy to drop what it cached of this user and server. */
  invalidated({ issuer, subject, serverId }: CredentialKey): void {
    this.#send(sseEvent('credential', { issuer, subject, serverId }))
  }

  /** Takes no new connection, ends the streams, lets requests finish. */
  async close(deadlineMs: number): Promise<void> {
    this.#closing = true
    clearInterval(this.#keepAlive)
    for (const listener of this.#listeners) listener.end()
    const closed = new Promise<void>((resolve) => this.#server.close(() => resolve()))
    this.#server.closeIdleConnections()
    const timer = setTimeout(() => this.#server.closeAllConnections(), deadlineMs)
    await closed
    clearTimeout(timer)
  }

  async #route(request: IncomingMessage, response: ServerResponse): Promise<void> {
    switch (`${request.method} ${request.url}`) {
      case 'GET /v1/keys':
        return this.#json(response, await this.#deps.keys.get())
      case 'POST /v1/credentials': {
        const parsed = credentialRequestSchema.safeParse(await readJson(request))
        if (!parsed.success) throw new Fault('request.invalid')
        return this.#json(response, await this.#deps.credentials.get(parsed.data))
      }
      case 'GET /v1/audit':
        return this.#json(response, await this.#deps.verifyTrail())
      case 'GET /v1/invalidations':
        return this.#subscribe(response)
      default:
        throw new Fault('http.not_found')
    }
  }

  #json(response: ServerResponse, value: unknown): void {
    const body = JSON.stringify(value)
    response.writeHead(200, {
      'content-type': 'application/json',
      'content-length': Buffer.byteLength(body),
      'cache-control': 'no-store',
      ...(this.#closing ? { connection: 'close' } : {}),
    })
    response.end(body)
  }

  #subscribe(response: ServerResponse): void {
    if (this.#closing || this.#listeners.size >= maxListeners) throw new Fault('http.busy')
    response.writeHead(200, { 'content-type': 'text/event-stream', 'cache-control': 'no-store' })
    response.flushHeaders()
    this.#listeners.add(response)
    response.on('close', () => this.#listeners.delete(response))
  }

  #send(text: string): void {
    for (const listener of this.#listeners) {
      if (listener.writableLength > maxBacklogBytes) listener.destroy()
      else listener.write(text)
    }
  }

  #refuse(request: IncomingMessage, response: ServerResponse, error: unknown): void {
    const fault = Fault.from(error)
    const level = fault.code === 'internal' ? 'error' : 'debug'
    this.#deps.log[level](
      { code: fault.code, detail: fault.detail, url: request.url },
      'refused on sync.sock',
    )
    if (response.headersSent) return void response.destroy()
    response.writeHead(problemStatus(fault), {
      'content-type': problemContentType,
      // What is left of a body that was too large is not worth reading.
      ...(request.complete && !this.#closing ? {} : { connection: 'close' }),
    })
    response.end(JSON.stringify(toProblem(fault)))
  }
}

async function readJson(request: IncomingMessage): Promise<unknown> {
  const chunks: Buffer[] = []
  let size = 0
  for await (const chunk of request as AsyncIterable<Buffer>) {
    size += chunk.length
    if (size > maxBodyBytes) throw new Fault('http.body_too_large')
    chunks.push(chunk)
  }
  try {
    return JSON.parse(Buffer.concat(chunks).toString('utf8'))
  } catch {
    throw new Fault('request.invalid')
  }
}
