import { LRUCache } from 'lru-cache'
import type { Clock } from '../../../../shared/clock.ts'
import { Fault } from '../../../../shared/faults.ts'
import type { ConfigOf } from '../../../../shared/ipc/contract.ts'
import type { ServerWorkload } from '../../../../shared/wire/snapshot.ts'
import { isObject } from '../protocol/jsonrpc.ts'
import type { KeptUpstream } from '../protocol/kept.ts'
import { legacyVersions, type ServerInfo } from '../protocol/shape.ts'
import type { JsonRpcRequest } from '../protocol/types.ts'
import { Stop } from '../stop.ts'
import { isModernCode } from './answers.ts'
import { type Exchanged, exchange } from './exchange.ts'
import type { Headers, UpstreamHttp } from './http.ts'
import { createSession, type LegacySession } from './legacy-session.ts'
import { legacyHeaders, type Party, refuseUnauthorized, Unauthorized } from './request.ts'
import { NoEventStream, openSseChannel } from './sse-channel.ts'

/** The server does not take `initialize`: it may speak the other era. */
export class NotLegacy extends Error {
  readonly status: number
  constructor(status: number) {
    super(`initialize was answered with HTTP ${status}`)
    this.name = 'NotLegacy'
    this.status = status
  }
}

/** Older servers of streamable HTTP know no version header, but speak the same wire. */
const acceptedVersions: readonly string[] = [...legacyVersions, '2024-11-05']
/** How long an address counts as HTTP+SSE without being asked for streamable HTTP first. */
const transportMs = 10 * 60_000
/** The first event of HTTP+SSE says where to POST; servers of later versions may hold a GET open in silence. */
const endpointMs = 5_000

export type OpenSession = (
  party: Party,
  server: ServerWorkload,
  credential: Headers,
  /** Whether one was open before: other time-outs count. */
  again: boolean,
) => Promise<LegacySession>

/**
 * `initialize`, over streamable HTTP, else over HTTP+SSE (MCP 2025-11-25, transports, backwards compatibility). What an
 * address spoke last is tried first for a while; the other is tried where that is refused.
 */
export function createOpening(deps: {
  http: UpstreamHttp
  config: ConfigOf['proxy']
  clock: Clock
  info: ServerInfo
  nextId(): number
}): OpenSession {
  const { http, config, clock, info, nextId } = deps
  const timeout = (name: string): number => config.timeouts[name] ?? 10_000
  const onSse = new LRUCache<string, true>({
    max: 5_000,
    ttl: transportMs,
    perf: clock,
  })

  return async (party, server, credential, again) => {
    const prefix = again ? 'reinit_' : ''
    const stop = new Stop().limit(timeout(`${prefix}initialize`), 'initialize')
    const message: JsonRpcRequest = {
      jsonrpc: '2.0',
      id: nextId(),
      method: 'initialize',
      params: {
        protocolVersion: party.protocolVersion,
        capabilities: party.capabilities,
        clientInfo: { name: info.name, version: info.version },
      },
    }
    const options = { headers: legacyHeaders(credential), message, stop, limit: config.limits.responseBytes }

    const overSse = async (): Promise<LegacySession> => {
      const waiting = new Stop().limit(
        Math.min(endpointMs, timeout(`${prefix}initialize`)),
        'the endpoint event',
      )
      const channel = await openSseChannel(http, server, {
        headers: credential,
        limit: config.limits.responseBytes,
        stop: waiting,
      }).finally(() => waiting.end())
      try {
        const answer = refuseUnauthorized(await channel.exchange(options))
        const session = createSession(http, server, { ...acknowledged(answer), url: server.url }, channel)
        onSse.set(server.url, true)
        return session
      } catch (error) {
        channel.close()
        throw error
      }
    }

    const overHttp = async (): Promise<LegacySession> => {
      const answer = refuseUnauthorized(await exchange(http, server, options))
      if (!refusesPost(answer)) {
        const given = answer.headers['mcp-session-id']
        const id = typeof given === 'string' ? { id: given } : {}
        return createSession(http, server, { ...acknowledged(answer), url: server.url, ...id })
      }
      try {
        return await overSse()
      } catch (error) {
        if (error instanceof NoEventStream && error.status === 401) throw new Unauthorized()
        // What was refused first says more about the server than the second try does.
        const silent = error instanceof Fault && error.code === 'upstream.timeout'
        if (error instanceof NoEventStream || silent) acknowledged(answer)
        throw error
      }
    }

    try {
      const session = await (onSse.has(server.url) ? overSse().catch(fallBack) : overHttp())
      await session.exchange({
        headers: session.headers(credential),
        message: { jsonrpc: '2.0', method: 'notifications/initialized' },
        stop: stop.limit(timeout(`${prefix}notifications_initialized`), 'notifications/initialized'),
        limit: 65_536,
      })
      return session
    } finally {
      stop.end()
    }

    function fallBack(error: unknown): Promise<LegacySession> {
      if (!(error instanceof NoEventStream)) throw error
      if (error.status === 401) throw new Unauthorized()
      onSse.delete(server.url)
      return overHttp()
    }
  }
}

/** A server that takes no POST here, or none that it understands: not where it says so in JSON-RPC of its era. */
function refusesPost({ status, refusal }: Exchanged): boolean {
  if (status === 404 || status === 405) return !isModernCode(refusal?.error?.code ?? 0)
  return status >= 400 && status < 500 && ![403, 408, 429].includes(status) && !refusal
}

/** The result of `initialize`, or what its absence means. */
function acknowledged({
  status,
  response,
  refusal,
}: Exchanged): Pick<KeptUpstream, 'protocolVersion' | 'capabilities'> {
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
  const { capabilities } = result
  return { protocolVersion: version, capabilities: isObject(capabilities) ? capabilities : {} }
}
