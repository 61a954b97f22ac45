import { LRUCache } from 'lru-cache'
import { Fault } from '../../../shared/faults.ts'
import { createGuards } from '../guard/guards.ts'
import { Measures, type Outcome } from '../measures.ts'
import { createAccess } from './access.ts'
import { createCatalogue } from './catalogue.ts'
import type { Context, Parts } from './context.ts'
import { Cancelled, Flights, type RequestCall } from './flight.ts'
import { methods } from './methods/table.ts'
import { Notices } from './notices/notices.ts'
import { partyOf, partyOfSession, principalKeyOf } from './party.ts'
import { faultError, isNotification, isObject, isRequest, isResponse } from './protocol/jsonrpc.ts'
import { metaKeys, type ServerInfo } from './protocol/shape.ts'
import type { CoreDeps, McpCall, McpCore, SessionLevels } from './protocol/types.ts'
import { ParkedCalls } from './rounds/parked.ts'
import { createRequestStates } from './rounds/states.ts'
import { createProcessSeals } from './seals.ts'
import { createUpstreamHttp } from './upstream/http.ts'
import { createUpstreams, type KeptSession } from './upstream/upstreams.ts'

/** For methods that wait for no server, and the outer limit of those that wait for many. */
const ownLimitMs = 60_000
/** Streams of notices take at most this part of the requests that a worker takes at a time. */
const listenShare = 0.5
/** Nobody is warmed up for with more servers than this: most of them would never be used. */
const warmServers = 50

/** Where nobody shares them: in memory. */
function createSessionLevels(): SessionLevels {
  const levels = new LRUCache<string, string>({ max: 50_000 })
  return { get: ({ id }) => levels.get(id), set: ({ id }, level) => void levels.set(id, level) }
}

/**
 * From an authenticated message to its answer: decide per server, attach the credential, relay, shape, record.
 * State is in memory and can be lost at any time: upstream sessions are gone on with where the edge keeps them, else opened
 * again, listings asked again.
 */
export function createMcpCore(deps: CoreDeps): McpCore {
  const { config, clock, log } = deps
  const info: ServerInfo = {
    name: 'mcp-identity-gateway',
    title: 'MCP Identity Gateway',
    version: config.version,
  }
  const seals = deps.seals ?? createProcessSeals()
  const measures = deps.measures ?? new Measures()
  const http = createUpstreamHttp(config.stdioSocketPath, measures, deps.addresses)
  const upstreams = createUpstreams({
    http,
    credentials: deps.credentials,
    config,
    clock,
    log,
    info,
    onSession: (party, session) => notices.channels.moved(party, session),
    onSessionEnded: (id) => void endSession(id),
    notes: deps.sessionNotes,
  })
  const catalogue = createCatalogue({ upstreams, config, clock, log })
  const parked = new ParkedCalls(deps.parkedLimits)
  const accessOf = createAccess()
  const ownerOf = (call: McpCall): string => call.session?.id ?? principalKeyOf(call.principal)
  const self = deps.peers?.self ?? '0'
  const flights = new Flights(ownerOf, self)
  const sessionLevels = deps.sessionLevels ?? createSessionLevels()
  const guards = createGuards({ credentials: deps.credentials, clock, log, measures })
  const notices = new Notices(
    {
      upstreams,
      catalogue,
      flights,
      clock,
      log,
      accessOf,
      guards,
      random: deps.random ?? Math.random,
      standing: deps.standing,
      peers: deps.peers,
      notes: deps.sessionNotes,
      levelOf: (session) => sessionLevels.get(session),
    },
    Math.ceil(config.limits.concurrent * listenShare),
  )
  const parts: Parts = { ...deps, measures, upstreams, catalogue, guards, notices, accessOf, seals, parked }
  const states = createRequestStates(seals, clock)

  const logLevelOf = ({ session, era, message }: RequestCall): string | undefined => {
    if (session) return sessionLevels.get(session)
    const meta = era === 'modern' ? message.params?._meta : undefined
    const level = isObject(meta) ? meta[metaKeys.logLevel] : undefined
    return typeof level === 'string' ? level : undefined
  }

  async function run(call: RequestCall): Promise<Outcome> {
    const method = methods.get(call.message.method)
    if (!method || (method.era !== undefined && method.era !== call.era)) throw new Fault('rpc.method')
    const limitMs = method.timeout === undefined ? ownLimitMs : (config.timeouts[method.timeout] ?? 30_000)
    const flight = flights.open(call, limitMs)
    const context: Context = {
      call,
      params: call.message.params ?? {},
      flight,
      access: accessOf(call.index, call.principal, call.circumstances),
      party: partyOf(call),
      logLevel: logLevelOf(call),
      deps: parts,
      states,
      info,
      setLogLevel: (level) => {
        if (call.session) sessionLevels.set(call.session, level)
      },
    }
    try {
      if (call.session) {
        notices.used(call, context.access)
        notices.watches.begin(flight)
      }
      const answer = await method.run(context)
      if (!answer) return 'success'
      // What its servers told meanwhile goes first, on the same stream.
      if (call.session) for (const notice of notices.watches.take(flight)) void flight.notify(notice)
      if (answer.text !== undefined) flight.answerText(answer.text)
      else flight.answer(answer)
      return 'error' in answer ? 'error' : 'success'
    } catch (error) {
      if (error instanceof Cancelled) {
        flight.abandon()
        return 'error'
      }
      // Once the stream is open the answer has to go on it.
      if (!flight.streaming) throw error
      const fault = Fault.from(error)
      if (fault.code === 'internal')
        log.error({ err: error, method: call.message.method }, 'a request failed')
      flight.answer({ error: faultError(fault, call.era) })
      return 'error'
    } finally {
      flights.close(flight)
    }
  }

  function notice(call: McpCall): void {
    const { message } = call
    const owner = ownerOf(call)
    if (isResponse(message)) {
      const holder = Flights.holderOf(message.id)
      if (holder === undefined || holder === self) flights.resolve(owner, message)
      else deps.peers?.answer(holder, owner, message)
    } else if (!isNotification(message)) return
    else if (message.method === 'notifications/cancelled') {
      const requestId = message.params?.requestId
      if (typeof requestId !== 'string' && typeof requestId !== 'number') return
      if (!flights.cancel(owner, requestId)) deps.peers?.cancel(owner, requestId)
    } else if (message.method === 'notifications/roots/list_changed') {
      const roots = call.session?.clientCapabilities.roots
      if (isObject(roots) && roots.listChanged === true) notices.rootsChanged(owner)
    } else if (message.method === 'notifications/initialized' && call.session) {
      const party = partyOf(call)
      const access = accessOf(call.index, call.principal, call.circumstances)
      const { allowed } = access
      if (allowed.length <= warmServers) for (const server of allowed) catalogue.warm(server, party)
      notices.watches.touch(call, access)
    }
  }

  const endSession = async (id: string, kept: readonly KeptSession[] = []): Promise<void> => {
    flights.cancelAll(id)
    notices.watches.end(id)
    await upstreams.end(id, kept)
  }

  return {
    local: {
      resume: (request, waiter) => parked.resume(request, waiter),
      answer: (owner, message) => flights.resolve(owner, message),
      cancel: (owner, requestId) => void flights.cancel(owner, requestId),
      noticed: (notice) => notices.noticed(notice),
      endSession: (id) => endSession(id),
    },
    async handle(call) {
      // The same object, not a copy: the edge's calls have getters and count what is recorded on them.
      if (isRequest(call.message)) return run(call as RequestCall)
      notice(call)
      call.reply.accepted()
      return 'success'
    },
    async endSession(session, ending) {
      if (!ending) return endSession(session.id)
      const party = partyOfSession(session, ending.principal, ending.circumstances.clientIp)
      const kept = ending.index.snapshot.servers.flatMap((server) => {
        const found = ending.upstreams.get(server.id)
        return found?.url === server.url ? [{ party, server, session: found }] : []
      })
      await endSession(session.id, kept)
    },
    recheck(objection) {
      flights.recheck(objection)
      parked.recheck(objection)
    },
    credentialChanged(issuer, subject, serverId) {
      notices.channels.refresh(JSON.stringify([issuer, subject]), serverId)
    },
    async drain(deadlineMs) {
      notices.drain()
      const left = await Promise.all([flights.drained(deadlineMs), parked.drained(deadlineMs)])
      return left[0] + left[1]
    },
    async close() {
      flights.end()
      parked.end()
      await notices.closed()
      await guards.close()
      await upstreams.close()
    },
    stats: () => ({
      activeCalls: flights.size,
      parkedCalls: parked.size,
      listeners: notices.listeners,
      watchedSessions: notices.watches.awake,
      waitingNotices: notices.watches.waiting,
      heldQuestions: notices.watches.held,
      noticeStreams: notices.channels.size,
      upstreamSessions: upstreams.size(),
      ...guards.stats(),
    }),
  }
}
