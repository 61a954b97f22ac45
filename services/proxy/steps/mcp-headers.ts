import type { IncomingMessage } from 'node:http'
import { Fault } from '../../../shared/faults.ts'
import { header } from '../exchange.ts'
import type { JsonRpcRequest } from '../mcp/protocol/types.ts'
import { decodeHeaderValue } from '../mcp/upstream/param-headers.ts'

/** A header value, optional white space around it trimmed (RFC 9110 §5.5). */
export function plainHeader(req: IncomingMessage, name: string): string | undefined {
  return header(req, name)?.trim()
}

/** The methods of the extension io.modelcontextprotocol/tasks; others that begin so are of no revision that has the header. */
const taskMethods = new Set(['tasks/get', 'tasks/update', 'tasks/cancel'])

/** What Mcp-Name must repeat of the body; undefined for methods that carry no such header. */
function nameOf({ method, params }: JsonRpcRequest): unknown {
  if (method === 'tools/call' || method === 'prompts/get') return params?.name
  if (method === 'resources/read') return params?.uri
  if (taskMethods.has(method)) return params?.taskId
  return undefined
}

/** Mcp-Name must be there and agree with the body. Throws mcp.header_mismatch. */
export function checkNameHeader(req: IncomingMessage, message: JsonRpcRequest): void {
  const expected = nameOf(message)
  // A body without the name is the method's own concern: invalid params.
  if (typeof expected !== 'string') return
  const sent = plainHeader(req, 'mcp-name')
  if (sent !== undefined && decodeHeaderValue(sent) === expected) return
  const why = sent === undefined ? 'missing' : 'not the body’s'
  throw new Fault('mcp.header_mismatch', { data: { header: 'Mcp-Name', why } })
}
