import { isIP } from 'node:net'
import { Agent, type Dispatcher } from 'undici'
import { Fault } from '../../../../shared/faults.ts'
import { createNetworkGuard, type NetworkGuard } from '../../../../shared/networks.ts'
import type { ServerWorkload } from '../../../../shared/wire/snapshot.ts'

export interface UpstreamResponse {
  status: number
  headers: Record<string, string | string[] | undefined>
  body: AsyncIterable<Uint8Array> & { destroy(): void; dump(options?: { limit: number }): Promise<void> }
}

export interface HttpRequest {
  method: 'POST' | 'DELETE'
  headers: Record<string, string>
  body?: string
  signal: AbortSignal
}

/** Pooled keep-alive connections to MCP servers, each through the address guard of its server. */
export interface UpstreamHttp {
  /** Throws `upstream.blocked`, `upstream.unreachable`; aborts reject with the signal's reason. Follows no redirect. */
  send(server: ServerWorkload, request: HttpRequest): Promise<UpstreamResponse>
  close(): Promise<void>
}

interface Pool {
  agent: Agent
  guard: NetworkGuard
}

export function createUpstreamHttp(): UpstreamHttp {
  /** One agent per set of allowed networks: a connection opened for one server is never used by a stricter one. */
  const pools = new Map<string, Pool>()
  const urls = new WeakMap<ServerWorkload, { origin: string; path: string; literal: string | null }>()

  const poolOf = (server: ServerWorkload): Pool => {
    const key = server.allowedNetworks.join(',')
    let pool = pools.get(key)
    if (!pool) {
      const guard = createNetworkGuard(server.allowedNetworks)
      const agent = new Agent({
        connect: { lookup: guard.lookup, timeout: 5_000 },
        connections: 1024,
        // One connection per request in flight: one that breaks fails one request.
        allowH2: false,
        keepAliveTimeout: 30_000,
        // Time-outs are the caller's, per method; these two only stop what forgot to set one.
        headersTimeout: 3_600_000,
        bodyTimeout: 3_600_000,
      })
      pool = { agent, guard }
      pools.set(key, pool)
    }
    return pool
  }

  const urlOf = (server: ServerWorkload) => {
    let parts = urls.get(server)
    if (!parts) {
      const url = new URL(server.url)
      const host = url.hostname.replace(/^\[|\]$/g, '')
      parts = { origin: url.origin, path: url.pathname + url.search, literal: isIP(host) ? host : null }
      urls.set(server, parts)
    }
    return parts
  }

  return {
    async send(server, { method, headers, body, signal }) {
      const { agent, guard } = poolOf(server)
      const { origin, path, literal } = urlOf(server)
      // A lookup is not asked for an address that is written out.
      if (literal !== null) guard.check(literal)
      try {
        const answer = await agent.request({
          origin,
          path,
          method: method as Dispatcher.HttpMethod,
          headers,
          body: body ?? null,
          signal,
        })
        return { status: answer.statusCode, headers: answer.headers, body: answer.body }
      } catch (error) {
        if (signal.aborted) throw signal.reason
        if (error instanceof Fault) throw error
        const cause = (error as { cause?: unknown }).cause
        if (cause instanceof Fault) throw cause
        throw new Fault('upstream.unreachable', {
          detail: `${origin}: ${(error as Error).message}`,
          cause: error,
        })
      }
    },
    async close() {
      await Promise.all([...pools.values()].map(({ agent }) => agent.destroy()))
    },
  }
}

/** A whole body as text, at most `limit` bytes. */
export async function readText(body: UpstreamResponse['body'], limit: number): Promise<string> {
  const chunks: Uint8Array[] = []
  let size = 0
  for await (const chunk of body) {
    size += chunk.length
    if (size > limit) throw new Fault('upstream.too_large')
    chunks.push(chunk)
  }
  return (
    chunks.length === 1 ? Buffer.from(chunks[0]!.buffer, chunks[0]!.byteOffset, size) : Buffer.concat(chunks)
  ).toString('utf8')
}
