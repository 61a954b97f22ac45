import { isUtf8 } from 'node:buffer'
import type { IncomingMessage } from 'node:http'
import { Fault } from '../../../shared/faults.ts'
import { header } from '../exchange.ts'
import type { JsonRpcRequest } from '../mcp/protocol/types.ts'

const sentinel = /^=\?base64\?([A-Za-z0-9+/]*={0,2})\?=$/

/** A header value, optional white space around it trimmed (RFC 9110 §5.5). */
export function plainHeader(req: IncomingMessage, name: string): string | undefined {
  return header(req, name)?.trim()
}

/**
 * The value behind `=?base64?…?=` (MCP 2026-07-28, header encoding), or the value itself. Undefined where the
 * sentinel holds no UTF-8 text in base64.
 */
export function decodeHeader(value: string): string | undefined {
  const encoded = sentinel.exec(value)?.[1]
  if (encoded === undefined) return value
  const bytes = Buffer.from(encoded, 'base64')
  if (bytes.toString('base64') !== encoded || !isUtf8(bytes)) return undefined
  return bytes.toString('utf8')
}

/** What Mcp-Name must repeat of the body; undefined for methods that carry no such header. */
function nameOf({ method, params }: JsonRpcRequest): unknown {
  if (method === 'tools/call' || method === 'prompts/get') return params?.name
  if (method === 'resources/read') return params?.uri
  if (method.startsWith('tasks/')) return params?.taskId
  return undefined
}

/** Mcp-Name must be there and agree with the body. Throws mcp.header_mismatch. */
export function checkNameHeader(req: IncomingMessage, message: JsonRpcRequest): void {
  const expected = nameOf(message)
  // A body without the name is the method's own concern: invalid params.
  if (typeof expected !== 'string') return
  const sent = plainHeader(req, 'mcp-name')
  if (sent !== undefined && decodeHeader(sent) === expected) return
  const why = sent === undefined ? 'missing' : 'not the body’s'
  throw new Fault('mcp.header_mismatch', { data: { header: 'Mcp-Name', why } })
}
