import type { IncomingMessage, ServerResponse } from 'node:http'
import { Fault } from '../../shared/faults.ts'
import { refuseProblem } from './refuse-problem.ts'
import { HttpReply, type KeepAlive } from './reply.ts'

/** Which Host and Origin values belong to this gateway: against DNS rebinding and foreign web pages. */
export interface Origins {
  /** Is this Host (or :authority) one of ours? */
  host(value: string | undefined): boolean
  /** May a page of this Origin call us? The Origin, as it goes into CORS headers, is the value itself. */
  origin(value: string): boolean
}

/**
 * RFC 9112 §3.2: a request with two Host headers is refused. Node keeps the first; what stands before or behind us may
 * keep the other, and so mean another server. `rawHeaders` is name, value, name, value …
 */
export function hasOneHost({ rawHeaders }: Pick<IncomingMessage, 'rawHeaders'>): boolean {
  let found = 0
  for (let at = 0; at < rawHeaders.length; at += 2) {
    const name = rawHeaders[at]!
    if (name.length === 4 && name.toLowerCase() === 'host') found++
  }
  return found < 2
}

const defaultPorts: Record<string, string> = { 'https:': '443', 'http:': '80' }

/**
 * `origin` is the gateway's own; each of `allowed` is an origin (`https://app.example`), counted for both, or a bare
 * `host[:port]`, counted as a Host alone.
 */
export function createOrigins(origin: string, allowed: readonly string[]): Origins {
  const hosts = new Set<string>()
  const origins = new Set<string>()
  for (const entry of [origin, ...allowed]) {
    if (!/^https?:\/\//i.test(entry)) {
      hosts.add(entry.toLowerCase())
      continue
    }
    const url = new URL(entry)
    origins.add(url.origin)
    hosts.add(url.host)
    hosts.add(`${url.hostname}:${url.port || defaultPorts[url.protocol]}`)
  }
  return {
    host: (value) => value !== undefined && (hosts.has(value) || hosts.has(value.toLowerCase())),
    origin: (value) => origins.has(value),
  }
}

/** A page of an allowed origin may read the answer and the two headers that a client acts on. */
export function corsHeaders(origin: string): Record<string, string> {
  return {
    'access-control-allow-origin': origin,
    'access-control-expose-headers': 'Mcp-Session-Id, WWW-Authenticate',
    vary: 'Origin',
  }
}

const allowedHeaders = [
  ...['Authorization', 'Content-Type', 'Accept', 'Last-Event-ID'],
  ...['Mcp-Session-Id', 'MCP-Protocol-Version', 'Mcp-Method', 'Mcp-Name'],
  ...['traceparent', 'tracestate', 'baggage'],
]
const maxParamHeaders = 32

/** A tool names such headers itself (MCP 2026-07-28, streamable HTTP, custom headers): those of the request that is asked for. */
function paramHeaders(asked: string | undefined): string[] {
  const names = (asked ?? '').split(',').map((name) => name.trim())
  return names
    .filter((name) => /^mcp-param-[!#$%&'*+.^_`|~0-9a-z-]{1,128}$/i.test(name))
    .slice(0, maxParamHeaders)
}

/** OPTIONS on the MCP path (Fetch standard, CORS preflight): it carries no token, so Origin alone decides. */
export function preflight(
  origins: Origins,
  keepAlive: KeepAlive,
): (req: IncomingMessage, res: ServerResponse) => void {
  return (req, res) => {
    const { origin } = req.headers
    if (origin !== undefined && !origins.origin(origin)) {
      refuseProblem(req, res, new Fault('http.origin'))
      return
    }
    new HttpReply(res, keepAlive).empty(204, {
      allow: 'POST, DELETE, OPTIONS',
      ...(origin === undefined ? {} : corsHeaders(origin)),
      'access-control-allow-methods': 'POST, DELETE',
      'access-control-allow-headers': [
        ...allowedHeaders,
        ...paramHeaders(req.headers['access-control-request-headers']),
      ].join(', '),
      'access-control-max-age': '600',
    })
  }
}
