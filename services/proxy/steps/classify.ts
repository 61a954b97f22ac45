import { Fault } from '../../../shared/faults.ts'
import { type Exchange, header } from '../exchange.ts'
import { isObject, isRequest, isResponse } from '../mcp/protocol/jsonrpc.ts'
import { legacyVersions, metaKeys, modernVersion } from '../mcp/protocol/shape.ts'
import type { JsonObject, JsonRpcRequest } from '../mcp/protocol/types.ts'
import { checkNameHeader, plainHeader } from './mcp-headers.ts'

/** Of a client that names none; the only one that knows batches (MCP 2025-06-18, changelog). */
export const batchVersion = '2025-03-26'
const assumedVersion = batchVersion
const supported = [modernVersion, ...legacyVersions]
/** Methods that a client can not mean on the modern wire (MCP 2026-07-28: removed). */
const legacyOnly = new Set([
  'initialize',
  'ping',
  'logging/setLevel',
  'resources/subscribe',
  'resources/unsubscribe',
])

/** Which era does the client speak in this request, and does what it sent hold to that era's rules? */
export function classify(x: Exchange): void {
  const declared = header(x.req, 'mcp-protocol-version')?.trim()
  if (x.batch) {
    if (declared !== undefined && declared !== batchVersion) throw new Fault('rpc.batch')
    x.era = 'legacy'
    x.protocolVersion = batchVersion
    return
  }
  const meta = metaOf(x)
  const inBody = meta?.[metaKeys.version]
  const initialize = 'method' in x.message && x.message.method === 'initialize'
  // An initialize without the modern _meta opens a legacy session, whatever the header says.
  if (inBody !== undefined || (declared === modernVersion && !initialize)) {
    x.era = 'modern'
    modern(x, declared, meta, inBody)
    return
  }
  x.era = 'legacy'
  if (initialize || declared === undefined) {
    x.protocolVersion = assumedVersion
    return
  }
  if (!(legacyVersions as readonly string[]).includes(declared)) {
    throw new Fault('http.protocol_version', { data: { supported: [...legacyVersions] } })
  }
  x.protocolVersion = declared
}

function metaOf(x: Exchange): JsonObject | undefined {
  const params = 'params' in x.message ? x.message.params : undefined
  return params !== undefined && isObject(params._meta) ? params._meta : undefined
}

/** MCP 2026-07-28, streamable HTTP: the standard headers must be there and agree with the body. */
function modern(
  x: Exchange,
  declared: string | undefined,
  meta: JsonObject | undefined,
  inBody: unknown,
): void {
  if (isResponse(x.message)) throw new Fault('rpc.invalid', { detail: 'modern clients send no responses' })
  if (declared === undefined) mismatch('MCP-Protocol-Version', 'missing')
  if (inBody !== undefined && inBody !== declared) mismatch('MCP-Protocol-Version', 'not the body’s')
  if (declared !== modernVersion) {
    throw new Fault('mcp.version', { data: { supported, requested: declared } })
  }
  x.protocolVersion = modernVersion
  const method = plainHeader(x.req, 'mcp-method')
  if (method === undefined) mismatch('Mcp-Method', 'missing')
  if (method !== x.message.method) mismatch('Mcp-Method', 'not the body’s')
  if (!isRequest(x.message)) return
  if (inBody === undefined || !isObject(meta?.[metaKeys.capabilities])) {
    const missing = [
      inBody === undefined ? metaKeys.version : [],
      isObject(meta?.[metaKeys.capabilities]) ? [] : metaKeys.capabilities,
    ]
    throw new Fault('mcp.meta_missing', { data: { missing: missing.flat() } })
  }
  checkNameHeader(x.req, x.message as JsonRpcRequest)
  if (legacyOnly.has(x.message.method)) throw new Fault('rpc.method')
}

function mismatch(name: string, why: string): never {
  throw new Fault('mcp.header_mismatch', { data: { header: name, why } })
}
