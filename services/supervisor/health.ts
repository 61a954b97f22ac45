import { createServer, type Server } from 'node:http'
import { Fault } from '../../shared/faults.ts'
import { formatAddress } from './listeners.ts'
import type { Metrics } from './metrics.ts'
import type { GatewayStatus } from './status.ts'

export interface Health {
  readonly status: () => GatewayStatus
  /** No process owes its pings for too long. */
  readonly alive: () => boolean
  /** What the readiness probes have against it. */
  readonly probes: { readonly reasons: readonly string[] }
  readonly metrics: Metrics
}

/**
 * On AEMBIT_METRICS_PORT: `GET /metrics` (Prometheus text), `GET /healthz` (200 while the supervisor runs and no process
 * is stuck, else 503: restart it) and `GET /readyz`, alias `/ready` (200, or 503 with the reasons: send clients elsewhere).
 * Throws Fault `listen.failed`.
 */
export async function startHealth(address: string, port: number, health: Health): Promise<Server> {
  const server = createServer(
    {
      maxHeaderSize: 8 * 1024,
      headersTimeout: 5_000,
      requestTimeout: 5_000,
      connectionsCheckingInterval: 1_000,
    },
    (request, response) => {
      void (async () => {
        const json = (good: boolean, body: unknown): void => {
          const headers = { 'content-type': 'application/json', 'cache-control': 'no-store' }
          response.writeHead(good ? 200 : 503, headers).end(JSON.stringify(body))
        }
        if (request.method !== 'GET' && request.method !== 'HEAD')
          return void response.writeHead(405, { allow: 'GET, HEAD' }).end()
        switch (request.url?.split('?')[0]) {
          case '/metrics': {
            const text = await health.metrics.render(health.status())
            return void response.writeHead(200, { 'content-type': health.metrics.contentType }).end(text)
          }
          case '/healthz': {
            const healthy = health.alive()
            return json(healthy, { healthy })
          }
          case '/ready':
          case '/readyz': {
            const { ready, reasons: own } = health.status()
            const reasons = [...own, ...health.probes.reasons]
            const good = ready && reasons.length === 0
            return json(good, { ready: good, reasons })
          }
          default:
            return void response.writeHead(404).end()
        }
      })().catch(() => response.destroy())
    },
  )
  server.maxConnections = 64
  await new Promise<void>((resolve, reject) => {
    server.once('error', (error: NodeJS.ErrnoException) => {
      const where = formatAddress(address, port)
      const detail =
        error.code === 'EADDRINUSE'
          ? `${where} is taken by another process; stop it or set AEMBIT_METRICS_PORT`
          : `${where} can not be listened on (${error.code}); set AEMBIT_METRICS_PORT`
      reject(new Fault('listen.failed', { detail, cause: error }))
    })
    server.listen(port, address, resolve)
  })
  return server
}
