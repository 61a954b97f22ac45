import { createHash } from 'node:crypto'
import { Fault } from '../../../../shared/faults.ts'
import type { ConfigOf } from '../../../../shared/ipc/contract.ts'
import type { Logger } from '../../../../shared/log.ts'
import type { ServerInfo } from '../protocol/shape.ts'
import type { Credentials, JsonObject, JsonRpcMessage, JsonRpcResponse } from '../protocol/types.ts'
import { AuthorizationRequired } from './authorization.ts'
import { createEras } from './eras.ts'
import { type Exchanged, exchange } from './exchange.ts'
import type { UpstreamHttp } from './http.ts'
import {
  type Headers,
  legacyHeaders,
  legacyMessage,
  modernMessage,
  refuseUnauthorized,
  Unauthorized,
  type UpstreamAnswer,
  type UpstreamRequest,
} from './request.ts'
import { createLegacySessions, type LegacySession } from './sessions.ts'
import { abortable, deadline } from './signals.ts'

export interface Upstreams {
  /** Throws Faults `upstream.*`, `credential.*`, `policy.denied`, and AuthorizationRequired. */
  request(request: UpstreamRequest): Promise<UpstreamAnswer>
  /** What the server said it can do, asking it first where that is not known. */
  capabilities(request: Omit<UpstreamRequest, 'method'>): Promise<JsonObject>
  end(binding: string): void
  size(): number
}

export function createUpstreams(deps: {
  http: UpstreamHttp
  credentials: Credentials
  config: ConfigOf['proxy']
  log: Logger
  info: ServerInfo
}): Upstreams {
  const { http, credentials, config, log, info } = deps
  const limit = config.limits.responseBytes
  let lastId = 0
  // Ids and progress tokens are minted anew: two clients may have picked the same.
  const nextId = (): number => ++lastId
  const eras = createEras({ http, config, info, nextId })
  const sessions = createLegacySessions({ http, config, info, nextId })

  async function credentialHeaders(request: UpstreamRequest, rejected?: string): Promise<Headers> {
    if (request.server.credential === 'none') return {}
    const answer = await credentials.get(request.principal, request.server, rejected)
    switch (answer.kind) {
      case 'none':
        return {}
      case 'headers':
        return Object.fromEntries(answer.headers.map(({ name, value }) => [name.toLowerCase(), value]))
      case 'authorization_required':
        throw new AuthorizationRequired(answer)
      case 'denied':
        throw new Fault('policy.denied', { detail: answer.reason })
    }
  }

  /** Messages on the stream before the answer: progress and logs go to the client, questions get answered. */
  const listener = (request: UpstreamRequest, id: number, reply: (message: JsonRpcResponse) => void) => {
    return async (message: JsonRpcMessage): Promise<void> => {
      if (!('method' in message)) return
      if (!('id' in message)) {
        if (message.method === 'notifications/progress' && message.params?.progressToken !== id) return
        await request.onNotification?.(message)
        return
      }
      // Not awaited: the server may send progress while a person thinks.
      void (async () => {
        const answer =
          message.method === 'ping'
            ? { result: {} }
            : ((await request.onRequest?.(message)) ?? {
                error: {
                  code: -32601,
                  message: 'The client of this gateway did not declare this capability.',
                },
              })
        reply({ jsonrpc: '2.0', id: message.id, ...answer })
      })().catch((error) => log.debug({ err: error }, 'a question of a server could not be answered'))
    }
  }

  function askModern(request: UpstreamRequest, credential: Headers): Promise<Exchanged> {
    const id = nextId()
    const { headers, message } = modernMessage(request, credential, id, info)
    const onMessage = listener(request, id, () => {})
    return exchange(http, request.server, { headers, message, signal: request.signal, limit, onMessage })
  }

  async function askLegacy(
    request: UpstreamRequest,
    credential: Headers,
    session: LegacySession,
  ): Promise<Exchanged> {
    const { server, signal } = request
    const id = nextId()
    const headers = legacyHeaders(credential, session.headers)
    const post = (message: JsonRpcMessage): void => {
      exchange(http, server, { headers, message, signal: deadline(5_000), limit: 65_536 }).catch((error) =>
        log.debug({ err: error, server: server.id }, 'a message to a server was lost'),
      )
    }
    try {
      const message = legacyMessage(request, id)
      return await exchange(http, server, {
        headers,
        message,
        signal,
        limit,
        onMessage: listener(request, id, post),
      })
    } catch (error) {
      // Closing the connection is no cancellation for a legacy server: it has to be told.
      if (signal.aborted)
        post({ jsonrpc: '2.0', method: 'notifications/cancelled', params: { requestId: id } })
      throw error
    }
  }

  async function once(request: UpstreamRequest, credential: Headers): Promise<UpstreamAnswer> {
    const { server, signal } = request
    const { era } = eras.known(server) ?? (await abortable(eras.of(request, credential), signal))
    if (era === 'modern') {
      const exchanged = refuseUnauthorized(await askModern(request, credential))
      const response = exchanged.response ?? exchanged.refusal
      if (response) return { era, response }
      if (![400, 404, 405].includes(exchanged.status)) throw unanswered(exchanged)
      // It was modern and may not be any more (a rollback): find out anew, once.
      eras.forget(server)
      const now = await abortable(eras.of(request, credential), signal)
      if (now.era === 'modern') throw unanswered(exchanged)
    }
    const session = sessions.known(request) ?? (await abortable(sessions.get(request, credential), signal))
    let exchanged = await askLegacy(request, credential, session)
    if (session.id !== undefined && (exchanged.status === 404 || exchanged.status === 400)) {
      // The server forgot the session (restart, expiry; some say 400): open another and ask again, unseen by the client.
      log.info({ server: server.id, status: exchanged.status }, 'upstream session is gone, opening another')
      const fresh = await abortable(sessions.get(request, credential, session), signal)
      exchanged = await askLegacy(request, credential, fresh)
    }
    refuseUnauthorized(exchanged)
    const response = exchanged.response ?? exchanged.refusal
    if (!response) throw unanswered(exchanged)
    return { era: 'legacy', response }
  }

  /** Runs with the person's credential; one that the server refuses is asked for anew, once. */
  async function withCredential<T>(
    request: UpstreamRequest,
    run: (credential: Headers) => Promise<T>,
  ): Promise<T> {
    const credential = await abortable(credentialHeaders(request), request.signal)
    try {
      return await run(credential)
    } catch (error) {
      if (!(error instanceof Unauthorized)) throw error
    }
    if (request.server.credential === 'none') {
      throw new Fault('upstream.rejected', { detail: 'the server wants a credential and none is configured' })
    }
    const fresh = await abortable(credentialHeaders(request, digest(credential)), request.signal)
    try {
      return await run(fresh)
    } catch (error) {
      if (!(error instanceof Unauthorized)) throw error
      throw new Fault('upstream.rejected', { detail: 'the server refused the credential twice (HTTP 401)' })
    }
  }

  return {
    request: (request) => withCredential(request, (credential) => once(request, credential)),
    capabilities: (partial) => {
      const request: UpstreamRequest = { ...partial, method: 'server/discover' }
      return withCredential(request, async (credential) => {
        const verdict = await abortable(eras.of(request, credential), request.signal)
        if (verdict.era === 'modern') return verdict.capabilities
        return (await abortable(sessions.get(request, credential), request.signal)).capabilities
      })
    },
    end: (binding) => sessions.end(binding),
    size: () => sessions.size(),
  }
}

function unanswered({ status }: Exchanged): Fault {
  if (status >= 200 && status < 300)
    return new Fault('upstream.garbage', { detail: `HTTP ${status} without an answer` })
  return new Fault('upstream.rejected', { detail: `HTTP ${status}`, data: { status } })
}

/** The value that stands for a credential when it is refused: of the Authorization header, else of all values. */
function digest(headers: Headers): string {
  const value = headers.authorization ?? Object.values(headers).join('\n')
  return createHash('sha256').update(value).digest('base64url')
}
