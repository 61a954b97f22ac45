import type { z } from 'zod'
import type { HttpAnswer, HttpClient, HttpRequest } from '../../shared/http-client.ts'
import { AnswerFault } from '../../shared/problem.ts'
import type { SseEvent } from '../../shared/sse.ts'
import {
  type CredentialAnswer,
  type CredentialRequest,
  credentialAnswerSchema,
  type SealingKeys,
  sealingKeysSchema,
} from '../../shared/wire/credential.ts'
import { eventBatchAnswerSchema, type WorkloadEvent } from '../../shared/wire/event.ts'
import { chainPageSchema, type StoredChain, storedChainsSchema } from '../../shared/wire/event-chain.ts'
import type { Enrolment } from './enrolment.ts'

/** Nothing came on the stream for so long: it is dead. Heartbeats come every 10 s. */
const streamIdleMs = 35_000

/**
 * The one link to the control plane: /gateway/v1 with this gateway's bearer. A token that is refused is replaced and
 * the request sent once more. Throws `control_plane.unreachable`, or an AnswerFault.
 */
export class ControlPlane {
  readonly #http: HttpClient
  readonly #enrolment: Enrolment

  constructor(http: HttpClient, enrolment: Enrolment) {
    this.#http = http
    this.#enrolment = enrolment
  }

  snapshot(etag: string | null, signal: AbortSignal): Promise<HttpAnswer> {
    const headers = { accept: 'application/jose', ...(etag === null ? {} : { 'if-none-match': etag }) }
    return this.#authorized({ path: '/gateway/v1/snapshot', headers, timeoutMs: 30_000, signal }, (request) =>
      this.#http.send(request),
    )
  }

  async *stream(signal: AbortSignal, onOpen: () => void): AsyncGenerator<SseEvent, void, void> {
    const token = await this.#enrolment.token(signal)
    const request = { path: '/gateway/v1/stream', headers: bearer(token), idleMs: streamIdleMs, signal }
    try {
      yield* this.#http.events(request, onOpen)
    } catch (error) {
      if (unauthorized(error)) await this.#enrolment.replace(token, signal)
      throw error
    }
  }

  keys(): Promise<SealingKeys> {
    return this.#json({ path: '/gateway/v1/keys' }, sealingKeysSchema)
  }

  credential(request: CredentialRequest): Promise<CredentialAnswer> {
    return this.#json(
      { method: 'POST', path: '/gateway/v1/credentials', body: request },
      credentialAnswerSchema,
    )
  }

  async events(events: readonly WorkloadEvent[], signal: AbortSignal): Promise<void> {
    const request = {
      method: 'POST',
      path: '/gateway/v1/events',
      body: { events },
      timeoutMs: 30_000,
      signal,
    } as const
    await this.#json(request, eventBatchAnswerSchema)
  }

  async eventChains(): Promise<StoredChain[]> {
    const request = { path: '/gateway/v1/event-chains', timeoutMs: 30_000 }
    return (await this.#json(request, storedChainsSchema)).chains
  }

  async eventChain(id: string, after: number): Promise<Record<string, unknown>[]> {
    const path = `/gateway/v1/event-chains/${encodeURIComponent(id)}?after=${after}`
    return (await this.#json({ path, timeoutMs: 30_000 }, chainPageSchema)).events
  }

  #json<T>(request: HttpRequest, schema: z.ZodType<T>): Promise<T> {
    return this.#authorized(request, (authorized) => this.#http.json(authorized, schema))
  }

  async #authorized<T>(request: HttpRequest, send: (request: HttpRequest) => Promise<T>): Promise<T> {
    const token = await this.#enrolment.token(request.signal)
    const withToken = (value: string): HttpRequest => ({
      ...request,
      headers: { ...request.headers, ...bearer(value) },
    })
    try {
      return await send(withToken(token))
    } catch (error) {
      if (!unauthorized(error)) throw error
      return send(withToken(await this.#enrolment.replace(token, request.signal)))
    }
  }
}

const bearer = (token: string): { authorization: string } => ({ authorization: `Bearer ${token}` })
const unauthorized = (error: unknown): boolean => error instanceof AnswerFault && error.status === 401
