import type { Principal } from '../../../../shared/policy.ts'
import type { ServerWorkload } from '../../../../shared/wire/snapshot.ts'
import { metaKeys, modernVersion, type ServerInfo, upstreamMeta } from '../protocol/shape.ts'
import type { Era, JsonObject, JsonRpcRequest, JsonRpcResponse } from '../protocol/types.ts'
import type { Exchanged } from './exchange.ts'
import { encodeHeaderValue } from './headers.ts'

export type Headers = Record<string, string>

/** One request of the gateway to one server, on behalf of one person. */
export interface UpstreamRequest {
  server: ServerWorkload
  principal: Principal
  /** Which downstream party the upstream session belongs to: a session id, or the person for stateless clients. */
  binding: string
  method: string
  params?: JsonObject
  /** Mcp-Name: the un-prefixed tool or prompt name, or the resource URI. */
  name?: string
  /** What the gateway can carry back to the client. */
  capabilities: JsonObject
  /** Whether a legacy server may ask questions in mid-call: the client is legacy and has a session. */
  live: boolean
  /** Log level that the client asked for in this request (modern) or session (legacy). */
  logLevel?: string
  wantsProgress?: boolean
  /** Aborts with a Fault as its reason. */
  signal: AbortSignal
  onNotification?(message: { method: string; params?: JsonObject }): void | Promise<void>
  onRequest?(
    message: JsonRpcRequest,
  ): Promise<{ result: JsonObject } | { error: { code: number; message: string } }>
}

export interface UpstreamAnswer {
  era: Era
  response: JsonRpcResponse
}

/** HTTP 401: the credential is not accepted. Says nothing about the server's era. */
export class Unauthorized extends Error {
  constructor() {
    super('HTTP 401')
    this.name = 'Unauthorized'
  }
}

export function refuseUnauthorized(exchanged: Exchanged): Exchanged {
  if (exchanged.status === 401) throw new Unauthorized()
  return exchanged
}

const common = { accept: 'application/json, text/event-stream', 'content-type': 'application/json' }

/** Fresh headers for a legacy server; nothing of the client's is copied. */
export const legacyHeaders = (credential: Headers, session: Headers = {}): Headers => ({
  ...credential,
  ...session,
  ...common,
})

export function legacyMessage(request: UpstreamRequest, id: number): JsonRpcRequest {
  const meta = upstreamMeta(request.params, request.wantsProgress ? id : undefined)
  const { _meta: _client, ...params } = request.params ?? {}
  if (Object.keys(meta).length > 0) params._meta = meta
  return { jsonrpc: '2.0', id, method: request.method, params }
}

/** MCP 2026-07-28: protocol fields in `_meta`, mirrored by the standard headers of the rewritten body. */
export function modernMessage(request: UpstreamRequest, credential: Headers, id: number, info: ServerInfo) {
  const meta = upstreamMeta(request.params, request.wantsProgress ? id : undefined)
  meta[metaKeys.version] = modernVersion
  meta[metaKeys.capabilities] = request.capabilities
  meta[metaKeys.clientInfo] = { name: info.name, version: info.version }
  if (request.logLevel) meta[metaKeys.logLevel] = request.logLevel
  const headers: Headers = {
    ...credential,
    ...common,
    'mcp-protocol-version': modernVersion,
    'mcp-method': request.method,
  }
  if (request.name !== undefined) headers['mcp-name'] = encodeHeaderValue(request.name)
  const message: JsonRpcRequest = {
    jsonrpc: '2.0',
    id,
    method: request.method,
    params: { ...request.params, _meta: meta },
  }
  return { headers, message }
}
