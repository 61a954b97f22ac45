import { createServer, type RequestListener, type Server } from 'node:http'
import { Counter, Gauge, Registry } from 'prom-client'
import type { ServerCertificate } from './tls.ts'

export type Outcome = 'Success' | 'Failure'

/** The documented metrics of the agent controller, names and labels as documented. */
export class ControllerMetrics {
  readonly registry = new Registry()
  readonly #expiration: Gauge
  readonly #status: Gauge
  readonly #accessTokens: Counter
  readonly #proxyTokens: Counter

  constructor(version: string) {
    const registers = [this.registry]
    const labelNames = ['Result', 'Agent_Controller_Id']
    this.#expiration = new Gauge({
      name: 'aembit_agent_controller_token_expiration_unix_timestamp',
      help: 'When the access token of this controller expires, seconds since the epoch; 0 without one',
      registers,
    })
    this.#status = new Gauge({
      name: 'aembit_agent_controller_registration_status',
      help: '1 while this controller is registered, else 0',
      registers,
    })
    this.#accessTokens = new Counter({
      name: 'aembit_agent_controller_access_token_requests_total',
      help: 'Access tokens this controller asked for',
      labelNames,
      registers,
    })
    this.#proxyTokens = new Counter({
      name: 'aembit_agent_controller_proxy_token_requests_total',
      help: 'Tokens that gateways on this machine asked this controller for',
      labelNames,
      registers,
    })
    new Gauge({
      name: 'version',
      help: 'Version of the component',
      labelNames: ['component', 'version'],
      registers,
    }).set({ component: 'aembit_agent_controller', version }, 1)
  }

  registered(yes: boolean): void {
    this.#status.set(yes ? 1 : 0)
    if (!yes) this.#expiration.set(0)
  }

  /** `expiresAt` in ms since the epoch. */
  tokenExpires(expiresAt: number): void {
    this.#expiration.set(Math.floor(expiresAt / 1000))
  }

  accessTokenRequest(result: Outcome, controllerId: string | null): void {
    this.#accessTokens.inc({ Result: result, Agent_Controller_Id: controllerId ?? '' })
  }

  proxyTokenRequest(result: Outcome, controllerId: string | null): void {
    this.#proxyTokens.inc({ Result: result, Agent_Controller_Id: controllerId ?? '' })
  }
}

/** GET /metrics and nothing else. */
export function createMetricsServer(registry: Registry, tls: ServerCertificate | null = null): Server {
  const listener: RequestListener = async (request, response) => {
    if (request.method !== 'GET' || request.url?.split('?')[0] !== '/metrics') {
      response.writeHead(404, { 'content-type': 'text/plain' }).end('GET /metrics\n')
      return
    }
    response.writeHead(200, { 'content-type': registry.contentType })
    response.end(await registry.metrics())
  }
  const server = tls ? (tls.createServer(listener) as unknown as Server) : createServer(listener)
  server.requestTimeout = 10_000
  server.maxConnections = 32
  return server
}
