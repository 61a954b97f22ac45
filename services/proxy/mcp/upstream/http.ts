import { isIP } from 'node:net'
import { Agent } from 'undici'
import { Fault } from '../../../../shared/faults.ts'
import { createNetworkGuard, type NetworkGuard } from '../../../../shared/networks.ts'
import type { ServerWorkload } from '../../../../shared/wire/snapshot.ts'
import { UpstreamBody } from './body.ts'

export interface UpstreamResponse {
  status: number
  headers: Record<string, string | string[] | undefined>
  body: UpstreamBody
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

interface Target {
  agent: Agent
  origin: string
  path: string
}

export function createUpstreamHttp(): UpstreamHttp {
  /** One agent per set of allowed networks: a connection opened for one server is never used by a stricter one. */
  const pools = new Map<string, { agent: Agent; guard: NetworkGuard }>()
  const targets = new WeakMap<ServerWorkload, Target>()

  const poolOf = (server: ServerWorkload) => {
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

  /** Throws `upstream.blocked` where the URL is a literal address out of bounds: a lookup is not asked for those. */
  const targetOf = (server: ServerWorkload): Target => {
    let target = targets.get(server)
    if (!target) {
      const { agent, guard } = poolOf(server)
      const url = new URL(server.url)
      const host = url.hostname.replace(/^\[|\]$/g, '')
      if (isIP(host)) guard.check(host)
      target = { agent, origin: url.origin, path: url.pathname + url.search }
      targets.set(server, target)
    }
    return target
  }

  return {
    async send(server, { method, headers, body, signal }) {
      if (signal.aborted) throw signal.reason
      const { agent, origin, path } = targetOf(server)
      return new Promise((resolve, reject) => {
        let answer: UpstreamBody | undefined
        let stop: (() => void) | undefined
        const fail = (error: Error): void => {
          signal.removeEventListener('abort', onAbort)
          const failure = signal.aborted ? (signal.reason as Error) : asFault(error, origin)
          if (answer) answer.finish(failure)
          else reject(failure)
        }
        const onAbort = (): void => {
          if (stop) stop()
          // Still waiting for a connection: nobody else would notice before there is one.
          else reject(signal.reason as Error)
        }
        signal.addEventListener('abort', onAbort, { once: true })
        agent.dispatch(
          { origin, path, method, headers, body: body ?? null },
          {
            onRequestStart(controller) {
              stop = () => controller.abort(signal.reason as Error)
              if (signal.aborted) stop()
            },
            onResponseStart(controller, status, answered) {
              if (status < 200) return
              answer = new UpstreamBody(controller)
              resolve({ status, headers: answered, body: answer })
            },
            onResponseData(_controller, chunk) {
              answer?.push(chunk)
            },
            onResponseEnd() {
              signal.removeEventListener('abort', onAbort)
              answer?.finish()
            },
            onResponseError(_controller, error) {
              fail(error)
            },
          },
        )
      })
    },
    async close() {
      await Promise.all([...pools.values()].map(({ agent }) => agent.destroy()))
    },
  }
}

function asFault(error: Error, origin: string): Fault {
  if (error instanceof Fault) return error
  if (error.cause instanceof Fault) return error.cause
  return new Fault('upstream.unreachable', { detail: `${origin}: ${error.message}`, cause: error })
}
