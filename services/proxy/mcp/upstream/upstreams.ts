import type { Clock } from '../../../../shared/clock.ts'
import { Fault } from '../../../../shared/faults.ts'
import type { ConfigOf } from '../../../../shared/ipc/contract.ts'
import type { Logger } from '../../../../shared/log.ts'
import type { ServerWorkload } from '../../../../shared/wire/snapshot.ts'
import { isObject } from '../protocol/jsonrpc.ts'
import type { UpstreamAnswer } from '../protocol/peers.ts'
import { logLevels, type ServerInfo } from '../protocol/shape.ts'
import type { Credentials, JsonObject, JsonRpcMessage, JsonRpcResponse } from '../protocol/types.ts'
import { Stop, within } from '../stop.ts'
import {
  headerMismatch,
  isModernCode,
  isModernError,
  isSessionGone,
  unanswered,
  unsupported,
} from './answers.ts'
import { createCredentialHeaders, digest, withParty } from './credential-headers.ts'
import { createEras, type Verdict } from './eras.ts'
import { type Exchanged, exchange } from './exchange.ts'
import type { Headers, UpstreamHttp } from './http.ts'
import { createListening, type ListenEnd, type ListenRequest } from './listening.ts'
import { type LegacySession, lastUsed, NotLegacy } from './opening.ts'
import {
  InsufficientScope,
  legacyMessage,
  modernMessage,
  type Party,
  refuseUnauthorized,
  Unauthorized,
  type UpstreamRequest,
} from './request.ts'
import { retrying } from './retries.ts'
import { createLegacySessions } from './sessions.ts'

export interface Upstreams {
  /** Throws Faults `upstream.*`, `credential.*`, `policy.denied`, and AuthorizationRequired. */
  request(request: UpstreamRequest): Promise<UpstreamAnswer>
  /** What the server said it can do, asking it first where that is not known; null where it does not say. */
  capabilities(server: ServerWorkload, party: Party, stop: Stop): Promise<JsonObject | null>
  /** Rejects with AuthorizationRequired where the person has to connect an account. Asks no server. */
  authorize(server: ServerWorkload, party: Party, stop: Stop): Promise<void>
  /**
   * Hears what a server tells outside of calls, until the request's stop or the server ends it. Throws as `request`
   * does.
   */
  listen(request: ListenRequest): Promise<ListenEnd>
  /** The session that is open at a legacy server, which is kept from going idle by this. */
  session(server: ServerWorkload, party: Party): LegacySession | undefined
  /** notifications/roots/list_changed in every open session of a client. */
  tellRoots(binding: string): void
  end(binding: string): Promise<void>
  close(): Promise<void>
  size(): number
}

/**
 * Whether the server has to be told. A session that several requests of different levels share stays at the lowest;
 * what is too much for one of them is filtered on its way.
 */
function wantsLevel({ capabilities, logLevel }: LegacySession, wanted: string, { live }: Party): boolean {
  if (!isObject(capabilities.logging) || wanted === logLevel) return false
  return live || logLevel === undefined || logLevels.indexOf(wanted) < logLevels.indexOf(logLevel)
}

/** Sessions are given back at most this long after their time. */
const sweepMs = 60_000
/** A server that restarts again while its session is opened anew gets another chance; what it refused has not run. */
const maxReopened = 3
/** What a message to a server, that nobody waits for, may take. */
const messageMs = 5_000

export function createUpstreams(deps: {
  http: UpstreamHttp
  credentials: Credentials
  config: ConfigOf['proxy']
  clock: Clock
  log: Logger
  info: ServerInfo
  /** A session was opened at a legacy server, the first or another. */
  onSession?(party: Party, session: LegacySession): void
}): Upstreams {
  const { http, credentials, config, clock, log, info, onSession = () => {} } = deps
  const limit = config.limits.responseBytes
  let lastId = 0
  /** Requests that may have reached their server. */
  const begun = new WeakSet<UpstreamRequest>()
  // Ids and progress tokens are minted anew: two clients may have picked the same.
  const nextId = (): number => ++lastId
  const eras = createEras({ http, config, clock, info, nextId })
  const sessions = createLegacySessions({ http, config, clock, info, nextId, onOpen: onSession })
  const credentialHeaders = createCredentialHeaders(credentials)
  const sweeper = setInterval(() => sessions.sweep(), sweepMs)
  sweeper.unref()

  /** Messages on the stream before the answer: progress and logs go to the client, questions get answered. */
  const listener = (
    request: UpstreamRequest,
    id: number,
    reply: ((answer: JsonRpcResponse) => void) | undefined,
  ) => {
    return (message: JsonRpcMessage): void | Promise<void> => {
      if (!('method' in message)) return
      if (!('id' in message)) {
        if (message.method === 'notifications/progress' && message.params?.progressToken !== id) return
        return request.onNotification?.(message)
      }
      // A modern server has no way to ask here.
      if (!reply) return
      // Not waited for: the server may send progress while a person thinks.
      const answering =
        message.method === 'ping'
          ? Promise.resolve({ result: {} })
          : (request.onRequest?.(message) ?? unsupported())
      answering.then(
        (answer) => reply({ jsonrpc: '2.0', id: message.id, ...answer }),
        (error: unknown) => log.debug({ err: error }, 'a question of a server could not be answered'),
      )
    }
  }

  /** A message that nobody waits for; lost where the server does not take it in time. */
  const tell = (session: LegacySession, headers: Headers, message: JsonRpcMessage): Promise<void> => {
    const stop = new Stop().limit(messageMs)
    return session
      .exchange({ headers, message, stop, limit: 65_536 })
      .then(
        () => {},
        (error: unknown) =>
          log.debug(
            { server: session.server.id, code: Fault.from(error).code },
            'a message to a server was lost',
          ),
      )
      .finally(() => stop.end())
  }

  function askModern(request: UpstreamRequest, credential: Headers): Promise<Exchanged> {
    const id = nextId()
    begun.add(request)
    const { headers, message } = modernMessage(request, credential, id, info)
    return exchange(http, request.server, {
      headers:
        request.trace || request.mirror
          ? { ...headers, ...request.trace, ...request.mirror?.headers() }
          : headers,
      message,
      stop: request.stop,
      limit,
      onMessage: listener(request, id, undefined),
    })
  }

  async function askLegacy(
    request: UpstreamRequest,
    credential: Headers,
    session: LegacySession,
  ): Promise<Exchanged> {
    const { stop, logLevel } = request
    const headers = session.headers(credential)
    if (logLevel !== undefined && wantsLevel(session, logLevel, request.party)) {
      session.logLevel = logLevel
      await tell(session, headers, {
        jsonrpc: '2.0',
        id: nextId(),
        method: 'logging/setLevel',
        params: { level: logLevel },
      })
    }
    const id = nextId()
    begun.add(request)
    try {
      return await session.exchange({
        headers: request.trace ? { ...headers, ...request.trace } : headers,
        message: legacyMessage(request, id),
        stop,
        limit,
        onMessage: listener(request, id, (answer) => void tell(session, headers, answer)),
      })
    } catch (error) {
      // Closing the connection is no cancellation for a legacy server: it has to be told.
      if (stop.reason) {
        void tell(session, headers, {
          jsonrpc: '2.0',
          method: 'notifications/cancelled',
          params: { requestId: id },
        })
      }
      throw error
    }
  }

  async function onModern(
    request: UpstreamRequest,
    credential: Headers,
    verdict: Verdict,
  ): Promise<UpstreamAnswer | undefined> {
    let exchanged = refuseUnauthorized(await askModern(request, credential))
    if (request.mirror && (exchanged.response ?? exchanged.refusal)?.error?.code === headerMismatch) {
      // The tool's definition may have changed since it was listed: once more with the new one.
      await within(request.mirror.renew(), request.stop)
      exchanged = refuseUnauthorized(await askModern(request, credential))
    }
    const response = exchanged.response ?? exchanged.refusal
    const unfit = [400, 404, 405].includes(exchanged.status)
    // A server that never said what it is and now refuses, or one that was modern before a rollback.
    if (unfit && (!response || (verdict.capabilities === null && !isModernError(response)))) return undefined
    if (!response) throw unanswered(exchanged)
    return { era: 'modern', response, ...(exchanged.text === undefined ? {} : { text: exchanged.text }) }
  }

  async function onLegacy(request: UpstreamRequest, credential: Headers): Promise<UpstreamAnswer> {
    const { server, party, stop } = request
    const held = sessions.get(party, server, credential)
    const session = held instanceof Promise ? await within(held, stop) : held
    let exchanged = await askLegacy(request, credential, session)
    let current = session
    for (let turn = 0; turn < maxReopened && current.stateful && isSessionGone(exchanged); turn++) {
      // 400 is also what some servers say to a request that they do not like: believed once.
      if (turn > 0 && exchanged.status !== 404) break
      // The server forgot the session (restart, expiry): open another and ask again, unseen by the client.
      log.info({ server: server.id, status: exchanged.status }, 'upstream session is gone, opening another')
      current = await within(Promise.resolve(sessions.get(party, server, credential, current)), stop)
      exchanged = await askLegacy(request, credential, current)
    }
    refuseUnauthorized(exchanged)
    const response = exchanged.response ?? exchanged.refusal
    if (!response) throw unanswered(exchanged)
    // The server moved on and takes our request for a bad one of its era.
    if (response.error && isModernCode(response.error.code)) throw new NotLegacy(exchanged.status)
    return { era: 'legacy', response, ...(exchanged.text === undefined ? {} : { text: exchanged.text }) }
  }

  /** Tries the era that the server is taken for, then the other one; `attempt` gives undefined where it does not fit. */
  async function inEra<T>(
    { server, party, stop }: Pick<UpstreamRequest, 'server' | 'party' | 'stop'>,
    credential: Headers,
    attempt: (verdict: Verdict) => Promise<T | undefined>,
  ): Promise<T> {
    for (let turn = 0; ; turn++) {
      const found = eras.of(server, party, credential)
      const verdict = found instanceof Promise ? await within(found, stop) : found
      try {
        const answer = await attempt(verdict)
        if (answer !== undefined) return answer
      } catch (error) {
        if (!(error instanceof NotLegacy)) throw error
        if (turn > 0)
          throw new Fault('upstream.rejected', { detail: error.message, data: { status: error.status } })
      }
      if (turn > 0) throw new Fault('upstream.rejected', { detail: 'the server fits neither era' })
      eras.doubt(server, verdict)
    }
  }

  /** Runs with the person's credential; one that the server refuses or finds too little is asked for anew, once. */
  async function withCredential<T>(
    { server, party, stop }: Pick<UpstreamRequest, 'server' | 'party' | 'stop'>,
    run: (credential: Headers) => Promise<T>,
  ): Promise<T> {
    const asked = credentialHeaders(party, server)
    const credential = asked instanceof Promise ? await within(asked, stop) : asked
    const local = server.url.startsWith('stdio:')
    const carry = (headers: Headers): Headers => (local ? withParty(headers, party.principalKey) : headers)
    let fresh: Headers
    try {
      return await run(carry(credential))
    } catch (error) {
      if (!(error instanceof Unauthorized || error instanceof InsufficientScope)) throw error
      if (server.credential === 'none') {
        throw new Fault('upstream.rejected', {
          detail: 'the server wants a credential and none is configured',
        })
      }
      const again =
        error instanceof Unauthorized
          ? credentialHeaders(party, server, digest(credential))
          : credentialHeaders(party, server, undefined, error.scope)
      fresh = await within(Promise.resolve(again), stop)
      if (error instanceof InsufficientScope && digest(fresh) === digest(credential)) throw tooLittle(error)
    }
    try {
      return await run(carry(fresh))
    } catch (error) {
      if (error instanceof InsufficientScope) throw tooLittle(error)
      if (!(error instanceof Unauthorized)) throw error
      throw new Fault('upstream.rejected', { detail: 'the server refused the credential twice (HTTP 401)' })
    }
  }

  const request: Upstreams['request'] = (asked) => {
    const ask = (): Promise<UpstreamAnswer> =>
      withCredential(asked, (credential) =>
        inEra(asked, credential, (verdict) =>
          verdict.era === 'legacy' ? onLegacy(asked, credential) : onModern(asked, credential, verdict),
        ),
      )
    return retrying(asked, ask, () => begun.has(asked))
  }
  const listening = createListening({
    http,
    limit,
    clock,
    nextId,
    tell,
    message: (asked, credential, id) =>
      modernMessage({ ...asked, method: 'subscriptions/listen' }, credential, id, info),
    session: async (party, server, credential) => sessions.get(party, server, credential),
    ping: (server, party, stop) => request({ server, party, stop, method: 'ping', params: {} }),
  })

  return {
    request,
    listen: (asked) =>
      withCredential(asked, (credential) =>
        inEra(asked, credential, (verdict) => listening(asked, credential, verdict)),
      ),
    session: (server, party) => sessions.current(party, server),
    capabilities: (server, party, stop) =>
      withCredential({ server, party, stop }, async (credential) => {
        const verdict = await within(Promise.resolve(eras.of(server, party, credential)), stop)
        if (verdict.era === 'modern') return verdict.capabilities
        try {
          return (await within(Promise.resolve(sessions.get(party, server, credential)), stop)).capabilities
        } catch (error) {
          // The request itself finds the era out.
          if (error instanceof NotLegacy) return null
          throw error
        }
      }),
    async authorize(server, party, stop) {
      const asked = credentialHeaders(party, server)
      if (asked instanceof Promise) await within(asked, stop)
    },
    tellRoots(binding) {
      for (const session of sessions.openOf(binding)) {
        // With the credential it was used with last, as when it is ended.
        void tell(session, session.headers(lastUsed), {
          jsonrpc: '2.0',
          method: 'notifications/roots/list_changed',
        })
      }
    },
    end: (binding) => sessions.end(binding),
    async close() {
      clearInterval(sweeper)
      await sessions.close(1_000)
      await http.close()
    },
    size: () => sessions.size(),
  }
}

/** More scope does not cure it: the credential at hand has been granted what was demanded, or can not get it. */
function tooLittle({ scope }: InsufficientScope): Fault {
  return new Fault('upstream.rejected', { detail: `the server demands more scope (HTTP 403): ${scope}` })
}
