import { isObject } from './jsonrpc.ts'
import type { Era, JsonObject, JsonRpcError } from './types.ts'

export const legacyVersions = ['2025-11-25', '2025-06-18', '2025-03-26'] as const
export const modernVersion = '2026-07-28'

/** RFC 5424 severities as MCP names them, least first. */
export const logLevels: readonly string[] = [
  'debug',
  'info',
  'notice',
  'warning',
  'error',
  'critical',
  'alert',
  'emergency',
]

export const metaKeys = {
  version: 'io.modelcontextprotocol/protocolVersion',
  capabilities: 'io.modelcontextprotocol/clientCapabilities',
  clientInfo: 'io.modelcontextprotocol/clientInfo',
  serverInfo: 'io.modelcontextprotocol/serverInfo',
  logLevel: 'io.modelcontextprotocol/logLevel',
  subscriptionId: 'io.modelcontextprotocol/subscriptionId',
  /** The extension by which a call is answered later. */
  tasks: 'io.modelcontextprotocol/tasks',
  /** Ours: what each server said to a fan-out. */
  servers: 'io.aembit/servers',
  /** Ours: `changed`, on a tool whose definition is none of the approved ones. */
  definition: 'io.aembit/definition',
} as const

/** W3C names, unprefixed by the specification (MCP 2026-07-28, _meta). */
const traceKeys = new Set(['traceparent', 'tracestate', 'baggage'])

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

/** Fields of the modern wire that a legacy client must not see. */
const modernFields = ['resultType', 'ttlMs', 'cacheScope'] as const

/** Whether a result of a server can go to a legacy client as it is. */
export function isPlain(result: JsonObject): boolean {
  for (const field of modernFields) if (result[field] !== undefined) return false
  if (isObject(result._meta) && result._meta[metaKeys.serverInfo] !== undefined) return false
  return result.structuredContent === undefined || isObject(result.structuredContent)
}

/**
 * A result as the client's era writes it, from whichever era it came. Everything but protocol fields stays as the
 * server sent it.
 */
export function shapeResult(method: string, result: JsonObject, client: Era, info: ServerInfo): JsonObject {
  if (client === 'legacy') return isPlain(result) ? result : legacyResult(result)
  const shaped: JsonObject = {
    ...result,
    _meta: { ...(isObject(result._meta) ? result._meta : {}), [metaKeys.serverInfo]: info },
  }
  shaped.resultType ??= 'complete'
  if (cacheable.has(method) && shaped.resultType === 'complete') {
    shaped.ttlMs = typeof shaped.ttlMs === 'number' && shaped.ttlMs >= 0 ? shaped.ttlMs : 0
    // What one person may see is no other's business, whatever the server thinks.
    shaped.cacheScope = 'private'
  }
  return shaped
}

function legacyResult(result: JsonObject): JsonObject {
  const { _meta, ...shaped } = result
  for (const field of modernFields) delete shaped[field]
  const { structuredContent, content } = shaped
  // Up to 2025-11-25 structured content is an object. The text beside it should say the same; where there is none, it does now.
  if (structuredContent !== undefined && !isObject(structuredContent)) {
    delete shaped.structuredContent
    const said = Array.isArray(content) ? content : []
    if (!said.some((part) => isObject(part) && part.type === 'text'))
      shaped.content = [...said, { type: 'text', text: JSON.stringify(structuredContent) }]
  }
  const { [metaKeys.serverInfo]: _info, ...meta } = isObject(_meta) ? _meta : {}
  if (Object.keys(meta).length > 0) shaped._meta = meta
  return shaped
}

/** A tool as a legacy client can read it: output schemas of anything but objects are of 2026-07-28. */
export function legacyTool(tool: JsonObject): JsonObject {
  const { outputSchema, ...rest } = tool
  return outputSchema === undefined || (isObject(outputSchema) && outputSchema.type === 'object')
    ? tool
    : rest
}

/**
 * A message as its server wrote it, with the client's id in place of ours; undefined where the text does not show
 * beyond doubt which `id` is the message's own.
 */
export function withId(text: string, from: number | string | null, to: number | string): string | undefined {
  const key = `"id":${JSON.stringify(from)}`
  const at = text.indexOf(key)
  if (at === -1 || text.indexOf('"id"') !== at || text.includes('"id"', at + 4)) return undefined
  // A key can be spelled with escapes.
  if (text.includes('\\u')) return undefined
  const end = at + key.length
  if (text[end] !== ',' && text[end] !== '}') return undefined
  return `${text.slice(0, at)}"id":${JSON.stringify(to)}${text.slice(end)}`
}

/** A server's error as the client's era writes it. */
export function shapeError(error: JsonRpcError, client: Era): JsonRpcError {
  if (client === 'modern' && error.code === -32002) return { ...error, code: -32602 }
  // -32020..-32099 belong to the modern wire; a legacy client would not know them.
  if (client === 'legacy' && error.code <= -32020 && error.code >= -32041) return { ...error, code: -32603 }
  return error
}

/** Where an answer goes alone, not on a stream: the one error of a server that has a status of its own (MCP 2026-07-28). */
export const statusOf = (error: JsonRpcError | undefined, client: Era): number =>
  client === 'modern' && error?.code === -32021 ? 400 : 200

/**
 * `_meta` for an upstream request: the client's own keys (tracing among them), without protocol keys, which the
 * gateway writes itself, with our progress token and our span in place of the client's.
 */
export function upstreamMeta(
  params: JsonObject | undefined,
  progressToken: number | undefined,
  trace: Readonly<Record<string, string>> = {},
): JsonObject {
  const meta: JsonObject = {}
  if (isObject(params?._meta)) {
    for (const [key, value] of Object.entries(params._meta)) {
      if (!key.startsWith('io.modelcontextprotocol/') && key !== 'progressToken' && !traceKeys.has(key))
        meta[key] = value
    }
    if (params._meta.traceparent !== undefined) Object.assign(meta, trace)
  }
  if (progressToken !== undefined) meta.progressToken = progressToken
  return meta
}
