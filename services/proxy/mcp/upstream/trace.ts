import { randomBytes } from 'node:crypto'
import type { IncomingHttpHeaders } from 'node:http'
import { isObject } from '../protocol/jsonrpc.ts'
import type { Headers } from './http.ts'

/** W3C Trace Context §3.2.2: version, trace-id, parent-id, flags; later versions may add fields. */
const traceparent = /^(?!ff)[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-([0-9a-f]{2})(?:$|-)/
/** W3C Trace Context §3.3.1.5, W3C Baggage §3.3.2: what has to be carried at least. */
const limits = { tracestate: 512, baggage: 8192 } as const

/**
 * The trace that a client's request belongs to, one span further: what goes to the server, in `_meta` (MCP 2026-07-28)
 * where the client had it there, else from the HTTP headers. Undefined where the client sent none that is valid.
 */
export function childSpan(meta: unknown, headers: IncomingHttpHeaders): Headers | undefined {
  const own = isObject(meta) && meta.traceparent !== undefined ? meta : headers
  const found = typeof own.traceparent === 'string' ? traceparent.exec(own.traceparent) : null
  if (!found) return undefined
  const span = { traceparent: `00-${found[1]}-${randomBytes(8).toString('hex')}-${found[2]}` }
  const more = Object.entries(limits).flatMap(([name, limit]) => {
    const value = own[name]
    return typeof value === 'string' && value.length <= limit && /^[\x20-\x7e]+$/.test(value)
      ? [[name, value] as const]
      : []
  })
  return { ...span, ...Object.fromEntries(more) }
}
