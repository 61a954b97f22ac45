import { type Fault, faults } from '../../shared/faults.ts'
import type { Logger } from '../../shared/log.ts'
import { problemContentType, toProblem } from '../../shared/problem.ts'
import { challenge } from './auth/challenge.ts'
import { abandonBody } from './body.ts'
import type { Exchange } from './exchange.ts'
import { faultError, isRequest } from './mcp/protocol/jsonrpc.ts'

export interface RefuseDeps {
  readonly log: Logger
  readonly metadataUrl: string
  /** Scopes that a token should ask for; of the newest snapshot. */
  readonly scopes: () => readonly string[]
  readonly allow: string
}

/**
 * The one place where a Fault becomes an answer: HTTP status, WWW-Authenticate, JSON-RPC error with the request's id
 * where it is known. Only the table's text and the Fault's `data` go out. Gives the HTTP status that was answered.
 */
export function refuse(x: Exchange, fault: Fault, deps: RefuseDeps): number {
  const { spec } = fault
  // MCP 2026-07-28, streamable HTTP: a method that a server does not know is 404 on the modern wire.
  const status =
    fault.code === 'rpc.method' && x.era === 'modern' ? faults['http.not_found'].status : spec.status
  log(x, fault, deps.log)
  if (x.reply.streaming) {
    x.reply.streaming.send(rpcBody(x, fault))
    x.reply.streaming.end()
    return 200
  }
  if (x.reply.begun) return x.res.statusCode
  abandonBody(x.req, x.res)
  const headers: Record<string, string> = {}
  if (status === 401 || spec.oauth === 'insufficient_scope')
    headers['www-authenticate'] = challenge(fault, deps.metadataUrl, deps.scopes())
  if (status === 405) headers.allow = deps.allow
  if (status === 503) headers['retry-after'] = '1'
  if (status === 401) x.reply.json(status, oauthBody(fault), headers)
  else if (spec.rpc !== undefined || x.parsed) x.reply.json(status, rpcBody(x, fault), headers)
  else x.reply.send(status, problemContentType, JSON.stringify(toProblem(fault)), headers)
  return status
}

/** RFC 6750 leaves the body open; the words of RFC 6749 §5.2 are what OAuth clients know how to show. */
function oauthBody(fault: Fault): string {
  return JSON.stringify({
    error: fault.spec.oauth ?? 'unauthorized',
    error_description: fault.message,
    code: fault.code,
  })
}

function rpcBody(x: Exchange, fault: Fault): string {
  const id = x.parsed && isRequest(x.message) ? x.message.id : null
  return JSON.stringify({ jsonrpc: '2.0', id, error: faultError(fault, x.era) })
}

function log(x: Exchange, fault: Fault, logger: Logger): void {
  const fields = {
    connectionId: x.connectionId,
    code: fault.code,
    detail: fault.detail,
    client: x.client.address,
    subject: x.verified?.subject,
    method: x.parsed && 'method' in x.message ? x.message.method : undefined,
  }
  if (fault.code === 'internal') logger.error({ ...fields, err: fault.cause ?? fault }, 'request failed')
  else if (fault.code === 'token.missing' || fault.code === 'http.method')
    logger.debug(fields, 'request refused')
  else logger.info(fields, 'request refused')
}
