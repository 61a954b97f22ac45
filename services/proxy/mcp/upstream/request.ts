import type { Principal } from '../../../../shared/policy.ts'
import type { ServerWorkload } from '../../../../shared/wire/snapshot.ts'
import { parseChallenge } from '../../../../shared/www-authenticate.ts'
import { metaKeys, modernVersion, type ServerInfo, upstreamMeta } from '../protocol/shape.ts'
import type {
  JsonObject,
  JsonRpcError,
  JsonRpcNotification,
  JsonRpcRequest,
  Session,
} from '../protocol/types.ts'
import type { Stop } from '../stop.ts'
import type { Exchanged } from './exchange.ts'
import { encodeHeaderValue } from './headers.ts'
import type { Headers } from './http.ts'

/** For whom a server is asked: what stays the same over the requests of one client. */
export interface Party {
  readonly principal: Principal
  /** Who the upstream session belongs to: a session id, or the person and what the client can do, without one. */
  readonly binding: string
  /** Where the client asks from: which credential it gets may hang on it. */
  readonly clientIp?: string | undefined
  /** Issuer and subject in one string. */
  readonly principalKey: string
  /** What listings depend on besides the person: servers may list by what a client can do. */
  readonly variant: string
  /** What the client declared and the gateway can carry. */
  readonly capabilities: JsonObject
  /** Whether the client takes tasks for answers (extension io.modelcontextprotocol/tasks). Modern servers alone learn of it. */
  readonly tasks: boolean
  /** Whether the client has a session, so that it can be asked on the stream of its call. */
  readonly live: boolean
  /** The client's session, where it has one. */
  readonly session?: Session
  /** Version to ask a legacy server for. */
  readonly protocolVersion: string
}

/** One request of the gateway to one server. */
export interface UpstreamRequest {
  server: ServerWorkload
  party: Party
  method: string
  params: JsonObject
  stop: Stop
  /** Mcp-Name: the un-prefixed tool or prompt name, or the resource URI. */
  name?: string
  /** Log level that the client asked for in this request (modern) or session (legacy). */
  logLevel?: string
  wantsProgress?: boolean
  /** The client's trace, one span further. */
  trace?: Headers
  /** Arguments that a modern server wants in headers too, as its tool's definition says now. */
  mirror?: {
    headers(): Headers
    /** Has the definition read anew: the server says that the headers do not fit. */
    renew(): Promise<void>
  }
  onNotification?(message: JsonRpcNotification): void | Promise<void>
  onRequest?(message: JsonRpcRequest): Promise<{ result: JsonObject } | { error: JsonRpcError }>
}

/** HTTP 401: the credential is not accepted. Says nothing about the server's era. */
export class Unauthorized extends Error {
  constructor() {
    super('HTTP 401')
    this.name = 'Unauthorized'
  }
}

/** HTTP 403 that names scopes: the credential is good and not enough (RFC 6750 §3.1). */
export class InsufficientScope extends Error {
  readonly scope: string

  constructor(scope: string) {
    super('HTTP 403 insufficient_scope')
    this.name = 'InsufficientScope'
    this.scope = scope
  }
}

/** Throws Unauthorized or InsufficientScope for what says no to the credential; everything else passes. */
export function refuseUnauthorized(exchanged: Exchanged): Exchanged {
  if (exchanged.status === 401) throw new Unauthorized()
  if (exchanged.status === 403) {
    const header = exchanged.headers['www-authenticate']
    const { error, scope } = parseChallenge(typeof header === 'string' ? header : null)
    if (error === 'insufficient_scope' && scope !== undefined) throw new InsufficientScope(scope)
  }
  return exchanged
}

const common = { accept: 'application/json, text/event-stream', 'content-type': 'application/json' }

/** Fresh headers for a legacy server; nothing of the client's is copied. */
export const legacyHeaders = (credential: Headers, session: Headers = {}): Headers => ({
  ...credential,
  ...session,
  ...common,
})

export function legacyMessage(
  { method, params, wantsProgress, trace }: UpstreamRequest,
  id: number,
): JsonRpcRequest {
  if (params._meta === undefined && !wantsProgress) return { jsonrpc: '2.0', id, method, params }
  const { _meta: _client, ...rest } = params
  const meta = upstreamMeta(params, wantsProgress ? id : undefined, trace)
  if (Object.keys(meta).length > 0) rest._meta = meta
  return { jsonrpc: '2.0', id, method, params: rest }
}

/** MCP 2026-07-28: protocol fields in `_meta`, mirrored by the standard headers of the rewritten body. */
export function modernMessage(
  request: Pick<
    UpstreamRequest,
    'method' | 'params' | 'party' | 'name' | 'logLevel' | 'wantsProgress' | 'trace'
  >,
  credential: Headers,
  id: number,
  info: ServerInfo,
): { headers: Headers; message: JsonRpcRequest } {
  const { method, params, party, name, logLevel, wantsProgress, trace } = request
  const meta = upstreamMeta(params, wantsProgress ? id : undefined, trace)
  meta[metaKeys.version] = modernVersion
  const { roots, ...others } = party.capabilities
  meta[metaKeys.capabilities] = {
    ...others,
    // A request says nothing of what changes later.
    ...(roots === undefined ? {} : { roots: {} }),
    ...(party.tasks ? { extensions: { [metaKeys.tasks]: {} } } : {}),
  }
  meta[metaKeys.clientInfo] = { name: info.name, version: info.version }
  if (logLevel !== undefined) meta[metaKeys.logLevel] = logLevel
  const headers = {
    ...credential,
    ...common,
    'mcp-protocol-version': modernVersion,
    'mcp-method': method,
    ...(name === undefined ? {} : { 'mcp-name': encodeHeaderValue(name) }),
  }
  return { headers, message: { jsonrpc: '2.0', id, method, params: { ...params, _meta: meta } } }
}
