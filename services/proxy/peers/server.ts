import { once } from 'node:events'
import { chmod, rename, rm } from 'node:fs/promises'
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import type { z } from 'zod'
import { Fault } from '../../../shared/faults.ts'
import type { Logger } from '../../../shared/log.ts'
import { problemContentType, problemStatus, toProblem } from '../../../shared/problem.ts'
import { sseEvent } from '../../../shared/sse.ts'
import type { LocalCalls } from '../mcp/protocol/peers.ts'
import { Stop } from '../mcp/stop.ts'
import {
  answerSchema,
  cancellationSchema,
  endingSchema,
  lastUseSchema,
  levelSchema,
  noticeSchema,
  paths,
  resumeSchema,
  type SharedSessions,
  watchingSchema,
} from './protocol.ts'

/** What this worker knows of sessions, as far as other workers ask or tell. */
export interface LocalSessions {
  ended(uuid: string, until: number): void
  level(uuid: string, level: string): void
  watching(watching: z.infer<typeof watchingSchema>): void
  /** When the session was last used here, ms since the epoch; undefined where it was not. */
  lastUse(uuid: string): number | undefined
  shared(): SharedSessions
}

export interface PeerServerDeps {
  readonly calls: LocalCalls
  readonly sessions: LocalSessions
  readonly log: Logger
  readonly maxBodyBytes: number
  /** Comments on the streams of rounds, so that the other side sees that this worker lives, ms. */
  readonly keepAliveMs?: number
}

const maxConnections = 1_024

/** The socket of one worker, for the other workers alone: 0600 in a folder that is 0700. */
export class PeerServer {
  readonly #deps: PeerServerDeps
  readonly #server: Server
  readonly #rounds = new Set<Stop>()

  constructor(deps: PeerServerDeps) {
    this.#deps = deps
    this.#server = createServer((request, response) => {
      this.#route(request, response).catch((error: unknown) => this.#refuse(request, response, error))
    })
    this.#server.requestTimeout = 10_000
    this.#server.keepAliveTimeout = 60_000
    this.#server.maxConnections = maxConnections
  }

  /** Binds beside `path` and renames over it, so that nobody sees the socket before its mode is 0600. */
  async listen(path: string): Promise<void> {
    const beside = `${path}.new`
    await rm(beside, { force: true })
    this.#server.listen(beside)
    await once(this.#server, 'listening')
    await chmod(beside, 0o600)
    await rename(beside, path)
  }

  async close(): Promise<void> {
    for (const stop of this.#rounds) stop.stop(new Fault('drain.timeout'))
    if (!this.#server.listening) return
    const closed = once(this.#server, 'close')
    this.#server.close()
    this.#server.closeIdleConnections()
    const timer = setTimeout(() => this.#server.closeAllConnections(), 500)
    await closed
    clearTimeout(timer)
  }

  async #route(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const { calls, sessions } = this.#deps
    const path = request.url
    if (request.method === 'GET' && path === paths.sessions) return json(response, sessions.shared())
    if (request.method !== 'POST') throw new Fault('http.not_found')
    switch (path) {
      case paths.rounds:
        return this.#round(response, await this.#read(request, resumeSchema))
      case paths.answers: {
        const { owner, message } = await this.#read(request, answerSchema)
        calls.answer(owner, message)
        return json(response, {})
      }
      case paths.cancellations: {
        const { owner, requestId } = await this.#read(request, cancellationSchema)
        calls.cancel(owner, requestId)
        return json(response, {})
      }
      case paths.notices:
        calls.noticed(await this.#read(request, noticeSchema))
        return json(response, {})
      case paths.endings: {
        const { id, uuid, until } = await this.#read(request, endingSchema)
        sessions.ended(uuid, until)
        // Servers may take their time; the other worker's client waits for the tombstone alone.
        void calls.endSession(id).catch((error: unknown) => {
          this.#deps.log.warn({ code: Fault.from(error).code }, 'upstream sessions were not ended')
        })
        return json(response, {})
      }
      case paths.levels: {
        const { uuid, level } = await this.#read(request, levelSchema)
        sessions.level(uuid, level)
        return json(response, {})
      }
      case paths.watching:
        sessions.watching(await this.#read(request, watchingSchema))
        return json(response, {})
      case paths.lastUses: {
        const { uuid } = await this.#read(request, lastUseSchema)
        return json(response, { lastUse: sessions.lastUse(uuid) ?? null })
      }
      default:
        throw new Fault('http.not_found')
    }
  }

  /** One round of a parked call: notifications as they come, then how it ends. Closing the connection gives it up. */
  async #round(response: ServerResponse, asked: z.infer<typeof resumeSchema>): Promise<void> {
    const stop = new Stop()
    this.#rounds.add(stop)
    response.once('close', () => stop.stop(new Fault('upstream.timeout', { detail: 'the client went away' })))
    response.writeHead(200, { 'content-type': 'text/event-stream', 'cache-control': 'no-store' })
    response.flushHeaders()
    const keepAlive = setInterval(() => response.write(':\n\n'), this.#deps.keepAliveMs ?? 5_000)
    keepAlive.unref()
    try {
      const turn = await this.#deps.calls.resume(asked, {
        stop,
        notify: (message) => {
          if (response.write(sseEvent('notification', message)) || response.destroyed) return
          return new Promise<void>((resolve) => {
            const done = (): void => {
              response.off('drain', done).off('close', done)
              resolve()
            }
            response.on('drain', done).on('close', done)
          })
        },
      })
      response.write(sseEvent('turn', turn))
    } catch (error) {
      const { code, detail, data } = Fault.from(error)
      response.write(sseEvent('fault', { code, detail, data }))
    } finally {
      clearInterval(keepAlive)
      this.#rounds.delete(stop)
      stop.end()
      response.end()
    }
  }

  async #read<T>(request: IncomingMessage, schema: z.ZodType<T>): Promise<T> {
    const chunks: Buffer[] = []
    let size = 0
    for await (const chunk of request as AsyncIterable<Buffer>) {
      size += chunk.length
      if (size > this.#deps.maxBodyBytes) throw new Fault('http.body_too_large')
      chunks.push(chunk)
    }
    let value: unknown
    try {
      value = JSON.parse(Buffer.concat(chunks, size).toString('utf8'))
    } catch {
      throw new Fault('request.invalid')
    }
    const parsed = schema.safeParse(value)
    if (!parsed.success) throw new Fault('request.invalid')
    return parsed.data
  }

  #refuse(request: IncomingMessage, response: ServerResponse, error: unknown): void {
    const fault = Fault.from(error)
    const level = fault.code === 'internal' ? 'error' : 'debug'
    this.#deps.log[level]({ code: fault.code, detail: fault.detail, path: request.url }, 'refused a peer')
    if (response.headersSent) return void response.destroy()
    response.writeHead(problemStatus(fault), {
      'content-type': problemContentType,
      ...(request.complete ? {} : { connection: 'close' }),
    })
    response.end(JSON.stringify(toProblem(fault)))
  }
}

function json(response: ServerResponse, value: unknown): void {
  const body = JSON.stringify(value)
  response.writeHead(200, { 'content-type': 'application/json', 'content-length': Buffer.byteLength(body) })
  response.end(body)
}
