import { LRUCache } from 'lru-cache'
import { Fault } from '../../../../shared/faults.ts'
import type { ConfigOf } from '../../../../shared/ipc/contract.ts'
import type { ServerWorkload } from '../../../../shared/wire/snapshot.ts'
import { isObject } from '../protocol/jsonrpc.ts'
import { legacyVersions, type ServerInfo } from '../protocol/shape.ts'
import type { JsonObject } from '../protocol/types.ts'
import { exchange } from './exchange.ts'
import type { UpstreamHttp } from './http.ts'
import { type Headers, legacyHeaders, refuseUnauthorized, type UpstreamRequest } from './request.ts'
import { deadline } from './signals.ts'

export interface LegacySession {
  server: ServerWorkload
  /** Undefined where the server keeps no session. */
  id: string | undefined
  capabilities: JsonObject
  headers: Headers
  /** The credential it was opened with, for ending it when no request is around. */
  credential: Headers
}

/**
 * Sessions at legacy servers, one per downstream session and server, opened when first needed. They live in memory
 * alone: what is lost is opened again.
 */
export interface LegacySessions {
  /** The one that is open, without a wait. */
  known(request: UpstreamRequest): LegacySession | undefined
  /** The one that is there, or a new one. `stale`: the one that the server just refused; another is opened. */
  get(request: UpstreamRequest, credential: Headers, stale?: LegacySession): Promise<LegacySession>
  end(binding: string): void
  size(): number
}

const maxSessions = 50_000

export function createLegacySessions(deps: {
  http: UpstreamHttp
  config: ConfigOf['proxy']
  info: ServerInfo
  nextId(): number
}): LegacySessions {
  const { http, config, info, nextId } = deps
  const timeout = (name: string): number => config.timeouts[name] ?? 10_000
  const sessions = new LRUCache<string, { opening: Promise<LegacySession>; session?: LegacySession }>({
    max: maxSessions,
    ttl: config.sessionIdleTtlSecs * 1000,
    updateAgeOnGet: true,
    // Whatever pushed it out, the server need not keep it.
    dispose: ({ opening }, _key, reason) => {
      if (reason !== 'set') void opening.then(close).catch(() => {})
    },
  })

  async function open(request: UpstreamRequest, credential: Headers, again: boolean): Promise<LegacySession> {
    const { server } = request
    const prefix = again ? 'reinit_' : ''
    const exchanged = refuseUnauthorized(
      await exchange(http, server, {
        headers: legacyHeaders(credential),
        message: {
          jsonrpc: '2.0',
          id: nextId(),
          method: 'initialize',
          params: {
            protocolVersion: legacyVersions[0],
            capabilities: request.live ? request.capabilities : {},
            clientInfo: { name: info.name, version: info.version },
          },
        },
        signal: deadline(timeout(`${prefix}initialize`)),
        limit: config.limits.responseBytes,
      }),
    )
    const result = exchanged.response?.result
    if (!result || typeof result.protocolVersion !== 'string') {
      throw new Fault('upstream.garbage', { detail: `initialize: HTTP ${exchanged.status} without a result` })
    }
    const id = exchanged.headers['mcp-session-id']
    const session: LegacySession = {
      server,
      id: typeof id === 'string' ? id : undefined,
      capabilities: isObject(result.capabilities) ? result.capabilities : {},
      headers: {
        ...(typeof id === 'string' ? { 'mcp-session-id': id } : {}),
        'mcp-protocol-version': result.protocolVersion,
      },
      credential,
    }
    await exchange(http, server, {
      headers: legacyHeaders(credential, session.headers),
      message: { jsonrpc: '2.0', method: 'notifications/initialized' },
      signal: deadline(timeout(`${prefix}notifications_initialized`)),
      limit: 65_536,
    })
    return session
  }

  async function close({ server, id, credential, headers }: LegacySession): Promise<void> {
    if (id === undefined) return
    const { body } = await http.send(server, {
      method: 'DELETE',
      headers: { ...credential, ...headers },
      signal: deadline(5_000),
    })
    body.dump()
  }

  const keyOf = ({ binding, server }: UpstreamRequest): string => `${binding}\n${server.id}`

  return {
    known: (request) => sessions.get(keyOf(request))?.session,
    get(request, credential, stale) {
      const key = keyOf(request)
      const held = sessions.get(key)
      // Of several calls that found the same session gone, the first opens the next one for all.
      if (held && (stale === undefined || held.session !== stale)) return held.opening
      const entry: { opening: Promise<LegacySession>; session?: LegacySession } = {
        opening: open(request, credential, stale !== undefined),
      }
      sessions.set(key, entry)
      entry.opening.then(
        (session) => {
          entry.session = session
        },
        () => {
          if (sessions.peek(key) === entry) sessions.delete(key)
        },
      )
      return entry.opening
    },
    end(binding) {
      for (const key of [...sessions.keys()]) if (key.startsWith(`${binding}\n`)) sessions.delete(key)
    },
    size: () => sessions.size,
  }
}
