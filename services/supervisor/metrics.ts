import { createServer, type Server } from 'node:http'
import { availableParallelism, hostname } from 'node:os'
import { Gauge, Registry } from 'prom-client'
import { Fault } from '../../shared/faults.ts'
import { formatAddress } from './listeners.ts'
import type { GatewayStatus } from './status.ts'

const component = 'aembit_mcp_gateway'

/**
 * `GET /metrics` (Prometheus text) and `GET /ready` (200 or 503 with the reasons), of what the supervisor knows of its
 * processes. Throws Fault `listen.failed`.
 */
export async function startMetrics(
  address: string,
  port: number,
  status: () => GatewayStatus,
): Promise<Server> {
  const metrics = createMetrics()
  const server = createServer(
    {
      maxHeaderSize: 8 * 1024,
      headersTimeout: 5_000,
      requestTimeout: 5_000,
      connectionsCheckingInterval: 1_000,
    },
    (request, response) => {
      void (async () => {
        if (request.method !== 'GET') return void response.writeHead(405, { allow: 'GET' }).end()
        const now = status()
        if (request.url === '/ready') {
          response.writeHead(now.ready ? 200 : 503, { 'content-type': 'application/json' })
          return void response.end(JSON.stringify({ ready: now.ready, reasons: now.reasons }))
        }
        if (request.url !== '/metrics') return void response.writeHead(404).end()
        response.writeHead(200, { 'content-type': metrics.registry.contentType })
        response.end(await metrics.render(now))
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

function createMetrics() {
  const registry = new Registry()
  const gauge = (name: string, help: string, labelNames: string[] = []): Gauge =>
    new Gauge({ name, help, labelNames, registers: [registry] })

  const versionGauge = gauge('version', 'The version that runs', ['component', 'version'])
  const cores = gauge('machine_cpu_cores', 'Cores of this machine', ['component', 'hostname'])
  const memory = gauge('process_memory_usage_bytes', 'Memory of all processes of the gateway', [
    'component',
    'hostname',
  ])
  const ready = gauge('aembit_mcp_gateway_ready', '1 when every check runs')
  const age = gauge(
    'aembit_mcp_gateway_policy_age_seconds',
    'Since the control plane last confirmed the policy',
  )
  const up = gauge('aembit_mcp_gateway_process_up', '1 when the process serves', ['process'])
  const restarts = gauge('aembit_mcp_gateway_process_restarts', 'Processes started again in this place', [
    'process',
  ])
  const lag = gauge(
    'aembit_mcp_gateway_process_event_loop_lag_seconds',
    'Longest stall since the last ping',
    ['process'],
  )
  const resident = gauge('aembit_mcp_gateway_process_resident_bytes', 'Resident memory', ['process'])
  const figure = gauge('aembit_mcp_gateway_process_figure', 'A number that the process tells of itself', [
    'process',
    'name',
  ])
  const perProcess = [up, restarts, lag, resident, figure]

  return {
    registry,
    render: (status: GatewayStatus): Promise<string> => {
      for (const each of [versionGauge, age, ...perProcess]) each.reset()
      versionGauge.set({ component, version: status.version }, 1)
      cores.set({ component, hostname: hostname() }, availableParallelism())
      ready.set(status.ready ? 1 : 0)
      if (status.snapshot) age.set(status.snapshot.ageSecs)
      let total = process.memoryUsage.rss()
      for (const { name, state, restarts: count, lagMs, rssBytes, stats } of status.processes) {
        total += rssBytes
        // While one drains, the figures are those of the process that serves.
        if (state === 'draining') continue
        up.set({ process: name }, state === 'running' ? 1 : 0)
        restarts.set({ process: name }, count)
        lag.set({ process: name }, lagMs / 1000)
        resident.set({ process: name }, rssBytes)
        for (const [key, value] of Object.entries(stats)) {
          if (typeof value === 'number') figure.set({ process: name, name: key }, value)
        }
      }
      memory.set({ component, hostname: hostname() }, total)
      return registry.metrics()
    },
  }
}
