import { randomInt } from 'node:crypto'
import type { Clock } from '../../../../shared/clock.ts'
import { Fault } from '../../../../shared/faults.ts'
import type { ConfigOf } from '../../../../shared/ipc/contract.ts'
import type { Logger } from '../../../../shared/log.ts'
import type { ServerWorkload } from '../../../../shared/wire/snapshot.ts'
import type { KeptUpstream, SessionNotes } from '../protocol/kept.ts'
import type { UpstreamAnswer } from '../protocol/peers.ts'
import type { ServerInfo } from '../protocol/shape.ts'
import type { Credentials, JsonObject } from '../protocol/types.ts'
import { type Stop, within } from '../stop.ts'
import { headerMismatch, isModernCode, isModernError, isSessionGone, unanswered } from './answers.ts'
import { createAsking } from './asking.ts'
import { createCredentialHeaders, digest, withParty } from './credential-headers.ts'
import { createEras, type Verdict } from './eras.ts'
import type { Headers, UpstreamHttp } from './http.ts'
import { type LegacySession, lastUsed } from './legacy-session.ts'
import { createListening, type ListenEnd, type ListenRequest } from './listening.ts'
import { NotLegacy } from './opening.ts'
import {
  InsufficientScope,
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
  /** Ends the sessions of a client at its servers, those that other processes opened (`kept`) too. */
  end(binding: string, kept?: readonly KeptSession[]): Promise<void>
  close(): Promise<void>
  size(): number
}

export interface KeptSession {
  readonly party: Party
  readonly server: ServerWorkload
  readonly session: KeptUpstream
}

/** Sessions are given back at most this long after their time. */
const sweepMs = 60_000
/** A server that restarts again while its session is opened anew gets another chance; what it refused has not run. */
const maxReopened = 3

export function createUpstreams(deps: {
  http: UpstreamHttp
  credentials: Credentials
  config: ConfigOf['proxy']
  clock: Clock
  log: Logger
  info: ServerInfo
  /** Another session at a legacy server is used from now on. */
  onSession?(party: Party, session: LegacySession): void
  /** A client's session is over, as another gateway knows. */
  onSessionEnded?(id: string): void
  notes?: SessionNotes | undefined
}): Upstreams {
  const { http, credentials, config, clock, log, info, notes } = deps
  const { onSession = () => {}, onSessionEnded = () => {} } = deps
  const limit = config.limits.responseBytes
  // Not from 1: another process may go on with our sessions, and an id is used once in each (JSON-RPC 2.0, section 4).
  let lastId = randomInt(2 ** 30)
  // Ids and progress tokens are minted anew: two clients may have picked the same.
  const nextId = (): number => ++lastId
  const eras = createEras({ http, config, clock, info, nextId })
  const sessions = createLegacySessions({
    http,
    config,
    clock,
    info,
    nextId,
    notes,
    onOpen: onSession,
    onEnded: onSessionEnded,
  })
  const credentialHeaders = createCredentialHeaders(credentials)
  const sweeper = setInterval(() => sessions.sweep(), sweepMs)
  sweeper.unref()
  const { begun, tell, askModern, askLegacy } = createAsking({ http, log, info, limit, nextId })

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
    return retrying(asked, ask, () => begun(asked))
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
    async end(binding, kept = []) {
      const open = new Set(sessions.openOf(binding).map(({ id }) => id))
      const elsewhere = kept.filter(({ session }) => !open.has(session.id))
      await Promise.all([
        sessions.end(binding),
        ...elsewhere.map(async ({ party, server, session }) => {
          try {
            const credential = await credentialHeaders(party, server)
            await sessions.endKept(server, session, credential)
          } catch (error) {
            log.debug(
              { server: server.id, code: Fault.from(error).code },
              'a session at a server was not ended',
            )
          }
        }),
      ])
    },
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
