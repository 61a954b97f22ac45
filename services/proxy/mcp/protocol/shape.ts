import { isObject } from './jsonrpc.ts'
import type { Era, JsonObject, JsonRpcError } from './types.ts'

export const legacyVersions = ['2025-11-25', '2025-06-18', '2025-03-26'] as const
export const modernVersion = '2026-07-28'

export const metaKeys = {
  version: 'io.modelcontextprotocol/protocolVersion',
  capabilities: 'io.modelcontextprotocol/clientCapabilities',
  clientInfo: 'io.modelcontextprotocol/clientInfo',
  serverInfo: 'io.modelcontextprotocol/serverInfo',
  logLevel: 'io.modelcontextprotocol/logLevel',
  /** Ours: what each server said to a fan-out. */
  servers: 'io.aembit/servers',
} as const

/** Results that must carry caching hints towards modern clients (MCP 2026-07-28, caching). */
const cacheable = new Set([
  'server/discover',
  'tools/list',
  'prompts/list',
  'resources/list',
  'resources/templates/list',
  'resources/read',
])

export interface ServerInfo {
  name: string
  title: string
  version: string
}

/**
 * A result as the client's era writes it, from whichever era it came. Everything but protocol fields stays as the
 * server sent it.
 */
export function shapeResult(method: string, result: JsonObject, client: Era, info: ServerInfo): JsonObject {
  const meta: JsonObject = isObject(result._meta) ? { ...result._meta } : {}
  delete meta[metaKeys.serverInfo]
  if (client === 'legacy') {
    const { resultType: _type, ttlMs: _ttl, cacheScope: _scope, ...rest } = result
    delete rest._meta
    return Object.keys(meta).length > 0 ? { ...rest, _meta: meta } : rest
  }
  const shaped: JsonObject = { ...result, _meta: { ...meta, [metaKeys.serverInfo]: info } }
  shaped.resultType ??= 'complete'
  if (cacheable.has(method)) {
    shaped.ttlMs = typeof shaped.ttlMs === 'number' && shaped.ttlMs >= 0 ? shaped.ttlMs : 0
    // What one person may see is no other's business, whatever the server thinks.
    shaped.cacheScope = 'private'
  }
  return shaped
}

/** A server's error as the client's era writes it. */
export function shapeError(error: JsonRpcError, client: Era): JsonRpcError {
  if (client === 'modern' && error.code === -32002) return { ...error, code: -32602 }
  // -32020..-32099 belong to the modern wire; a legacy client would not know them.
  if (client === 'legacy' && error.code <= -32020 && error.code >= -32041) return { ...error, code: -32603 }
  return error
}

/**
 * `_meta` for an upstream request: the client's own keys (tracing among them), without protocol keys, which the
 * gateway writes itself, and with our progress token in place of the client's.
 */
export function upstreamMeta(params: JsonObject | undefined, progressToken: number | undefined): JsonObject {
  const meta: JsonObject = {}
  if (isObject(params?._meta)) {
    for (const [key, value] of Object.entries(params._meta)) {
      if (!key.startsWith('io.modelcontextprotocol/') && key !== 'progressToken') meta[key] = value
    }
  }
  if (progressToken !== undefined) meta.progressToken = progressToken
  return meta
}
