import { LRUCache } from 'lru-cache'
import { Fault } from '../../../../shared/faults.ts'
import type { ConfigOf } from '../../../../shared/ipc/contract.ts'
import type { ServerWorkload } from '../../../../shared/wire/snapshot.ts'
import { isObject } from '../protocol/jsonrpc.ts'
import { legacyVersions, type ServerInfo } from '../protocol/shape.ts'
import type { JsonObject } from '../protocol/types.ts'
import { Stop } from '../stop.ts'
import { exchange } from './exchange.ts'
import type { Headers, UpstreamHttp } from './http.ts'
import { legacyHeaders, type Party, refuseUnauthorized } from './request.ts'

export interface LegacySession {
  readonly server: ServerWorkload
  /** Undefined where the server keeps no session. */
  readonly id: string | undefined
  readonly capabilities: JsonObject
  /** The log level that the server was told, if any. */
  logLevel: string | undefined
  /** Every header of a request in this session. Built once per credential. */
  headers(credential: Headers): Headers
}

/** The server does not take `initialize`: it may speak the other era. */
export class NotLegacy extends Error {
  readonly status: number
  constructor(status: number) {
    super(`initialize was answered with HTTP ${status}`)
    this.name = 'NotLegacy'
    this.status = status
  }
}

/**
 * Sessions at legacy servers, one per downstream session and server, opened when first needed. They live in memory
 * alone: what is lost is opened again.
 */
export interface LegacySessions {
  /** The one that is open, or a promise of one. `gone`: the one that the server just refused; another is opened. */
  get(
    party: Party,
    server: ServerWorkload,
    credential: Headers,
    gone?: LegacySession,
  ): LegacySession | Promise<LegacySession>
  /** Ends those of one downstream party at their servers. */
  end(binding: string): Promise<void>
  /** Ends those that nobody used for their time. */
  sweep(): void
  /** Ends all; waits for the servers no longer than `ms`. */
  close(ms: number): Promise<void>
  size(): number
}

interface Slot {
  session?: LegacySession
  opening?: Promise<LegacySession>
}
type Slots = Map<string, Slot>

const maxParties = 50_000
/** Clients without a session id leave no sign when they go, so what is held for them is given back sooner. */
const statelessIdleMs = 15 * 60_000
/** Older servers of streamable HTTP know no version header, but speak the same wire. */
const acceptedVersions: readonly string[] = [...legacyVersions, '2024-11-05']

export function createLegacySessions(deps: {
  http: UpstreamHttp
  config: ConfigOf['proxy']
  info: ServerInfo
  nextId(): number
}): LegacySessions {
  const { http, config, info, nextId } = deps
  const timeout = (name: string): number => config.timeouts[name] ?? 10_000
  const idleMs = config.sessionIdleTtlSecs * 1000
  const parties = new LRUCache<string, Slots>({
    max: maxParties,
    ttl: idleMs,
    updateAgeOnGet: true,
    // Whatever pushed it out, the servers need not keep it.
    dispose: (slots, _binding, reason) => {
      if (reason !== 'set') void endAll(slots)
    },
  })

  async function open(
    party: Party,
    server: ServerWorkload,
    credential: Headers,
    again: boolean,
  ): Promise<LegacySession> {
    const prefix = again ? 'reinit_' : ''
    const params = {
      protocolVersion: party.protocolVersion,
      capabilities: party.live ? party.capabilities : {},
      clientInfo: { name: info.name, version: info.version },
    }
    const { status, headers, response, refusal } = refuseUnauthorized(
      await exchange(http, server, {
        headers: legacyHeaders(credential),
        message: { jsonrpc: '2.0', id: nextId(), method: 'initialize', params },
        stop: new Stop().limit(timeout(`${prefix}initialize`), 'initialize'),
        limit: config.limits.responseBytes,
      }),
    )
    const result = response?.result
    if (!result) {
      if (status === 400 || status === 404 || refusal?.error?.code === -32601) throw new NotLegacy(status)
      const said = (response ?? refusal)?.error?.code
      const detail = `initialize: HTTP ${status}${said === undefined ? '' : `, error ${said}`}`
      throw new Fault(status > 299 ? 'upstream.rejected' : 'upstream.garbage', { detail })
    }
    const version = result.protocolVersion
    if (typeof version !== 'string' || !acceptedVersions.includes(version)) {
      throw new Fault('upstream.garbage', {
        detail: `initialize: protocol version ${String(version).slice(0, 40)}`,
      })
    }
    const id = headers['mcp-session-id']
    const session = createSession(
      server,
      typeof id === 'string' ? id : undefined,
      version,
      result.capabilities,
    )
    await exchange(http, server, {
      headers: session.headers(credential),
      message: { jsonrpc: '2.0', method: 'notifications/initialized' },
      stop: new Stop().limit(timeout(`${prefix}notifications_initialized`), 'notifications/initialized'),
      limit: 65_536,
    })
    return session
  }

  async function close(session: LegacySession): Promise<void> {
    if (session.id === undefined) return
    const stop = new Stop().limit(5_000)
    // With the credential it was used with last: no request is around to ask for another.
    await exchange(http, session.server, { headers: session.headers(lastUsed), stop, limit: 65_536 }).catch(
      () => {},
    )
    stop.end()
  }

  async function endAll(slots: Slots): Promise<void> {
    const ending = [...slots.values()].map(async ({ session, opening }) => {
      const found = session ?? (await opening?.catch(() => undefined))
      if (found) await close(found)
    })
    await Promise.all(ending)
  }

  const slotOf = (party: Party, serverId: string): Slot => {
    let slots = parties.get(party.binding)
    if (!slots) {
      slots = new Map()
      parties.set(party.binding, slots, { ttl: party.live ? idleMs : Math.min(idleMs, statelessIdleMs) })
    }
    let slot = slots.get(serverId)
    if (!slot) {
      slot = {}
      slots.set(serverId, slot)
    }
    return slot
  }

  return {
    get(party, server, credential, gone) {
      const slot = slotOf(party, server.id)
      const { session } = slot
      // Of several calls that found the same session gone, the first opens the next one for all. A server that moved
      // by a new configuration gets a new one too.
      if (session && session !== gone && (session.server === server || session.server.url === server.url))
        return session
      if (slot.opening) return slot.opening
      const opening = open(party, server, credential, gone !== undefined).finally(() => {
        slot.opening = undefined
      })
      slot.opening = opening
      opening.then(
        (opened) => {
          slot.session = opened
        },
        () => {
          slot.session = undefined
        },
      )
      return opening
    },
    async end(binding) {
      const slots = parties.peek(binding)
      if (!slots) return
      const ending = endAll(new Map(slots))
      slots.clear()
      parties.delete(binding)
      await ending
    },
    sweep: () => {
      parties.purgeStale()
    },
    async close(ms) {
      const all = [...parties.values()].map((slots) => endAll(slots))
      let timer: NodeJS.Timeout | undefined
      const limit = new Promise((resolve) => {
        timer = setTimeout(resolve, ms)
      })
      await Promise.race([Promise.all(all), limit])
      clearTimeout(timer)
    },
    size() {
      let count = 0
      for (const slots of parties.values()) count += slots.size
      return count
    },
  }
}

/** Stands for the credential that a session was used with last. */
const lastUsed: Headers = Object.freeze({})

function createSession(
  server: ServerWorkload,
  id: string | undefined,
  version: string,
  capabilities: unknown,
): LegacySession {
  const own: Headers = {
    ...(id === undefined ? {} : { 'mcp-session-id': id }),
    'mcp-protocol-version': version,
  }
  let builtFor: Headers | undefined
  let built = legacyHeaders({}, own)
  return {
    server,
    id,
    capabilities: isObject(capabilities) ? capabilities : {},
    logLevel: undefined,
    headers(credential) {
      if (credential === lastUsed || credential === builtFor) return built
      builtFor = credential
      built = legacyHeaders(credential, own)
      return built
    },
  }
}
