import { join } from 'node:path'
import type { Ports } from './ports.ts'
import type { Launch } from './process.ts'
import type { State } from './state.ts'

/** What each process is started with. Everything of the product is configured by its documented variables. */
export interface Scene {
  readonly state: State
  readonly runtimeDir: string
  readonly ports: Ports
  readonly configPath: string
  /** Of the MCP endpoint. */
  readonly url: URL
  readonly tls: { readonly certChainPath: string; readonly privateKeyPath: string } | null
  readonly logLevel: string
  readonly workers: number
}

export const publicSocket = (scene: Scene): string => join(scene.runtimeDir, 'public.sock')
const machineSocket = (scene: Scene): string => join(scene.runtimeDir, 'machine.sock')

export const controlPlane = (scene: Scene): Launch => ({
  name: 'control-plane',
  script: 'services/control-plane/main.ts',
  env: {
    AEMBIT_CONFIG_PATH: scene.configPath,
    AEMBIT_STATE_DIR: scene.state.controlPlane,
    AEMBIT_RUNTIME_DIR: scene.runtimeDir,
    AEMBIT_LOG_LEVEL: scene.logLevel,
  },
})

/** `identity`: a device code at the first start, the controller's id once it has registered. */
export const agentController = (scene: Scene, identity: Record<string, string>): Launch => ({
  name: 'agent-controller',
  script: 'services/agent-controller/main.ts',
  env: {
    AEMBIT_TENANT_ID: 'quickstart',
    AEMBIT_CONTROL_PLANE_URL: `unix:${machineSocket(scene)}`,
    AEMBIT_STATE_DIR: scene.state.agentController,
    AEMBIT_HTTP_PORT: String(scene.ports.controller),
    AEMBIT_METRICS_PORT: String(scene.ports.controllerMetrics),
    AEMBIT_LOG_LEVEL: scene.logLevel,
    ...identity,
  },
})

export const gateway = (scene: Scene): Launch => ({
  name: 'gateway',
  script: 'services/supervisor/main.ts',
  env: {
    AEMBIT_AUTHORIZATION_SERVER: scene.url.origin,
    AEMBIT_MCP_GATEWAY_URL: scene.url.href,
    AEMBIT_AGENT_CONTROLLER_URL: `http://127.0.0.1:${scene.ports.controller}`,
    AEMBIT_CONTROL_PLANE_URL: `unix:${machineSocket(scene)}`,
    AEMBIT_CONTROL_PLANE_SOCKET: publicSocket(scene),
    AEMBIT_LISTEN_ADDRESS: '127.0.0.1',
    AEMBIT_HTTPS_PORT: String(scene.ports.gateway),
    AEMBIT_HTTP_PORT: String(scene.tls ? scene.ports.redirect : 0),
    AEMBIT_METRICS_PORT: String(scene.ports.metrics),
    AEMBIT_RUNTIME_DIR: scene.runtimeDir,
    AEMBIT_STATE_DIR: scene.state.gateway,
    AEMBIT_PROXY_WORKERS: String(scene.workers),
    AEMBIT_WARM_SPARES: 'false',
    AEMBIT_LOG_LEVEL: scene.logLevel,
    ...(scene.tls
      ? {
          AEMBIT_TLS_CERT_CHAIN_PATH: scene.tls.certChainPath,
          AEMBIT_TLS_PRIVATE_KEY_PATH: scene.tls.privateKeyPath,
        }
      : { AEMBIT_PLAIN_HTTP: 'true' }),
  },
})

export const samples = ({ ports, state }: Scene): Launch[] => [
  {
    name: 'everything',
    script: 'installer/quickstart/samples/everything.ts',
    env: { PORT: String(ports.everything) },
  },
  {
    name: 'notes',
    script: 'installer/quickstart/samples/notes/main.ts',
    args: ['--port', String(ports.notes), '--state', state.samples],
  },
  {
    name: 'weather',
    script: 'installer/quickstart/samples/weather.ts',
    args: ['--port', String(ports.weather), '--api-key-file', state.weatherKeyPath],
  },
]
