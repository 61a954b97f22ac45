import type { Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import type { Clock } from '../../shared/clock.ts'
import { Fault } from '../../shared/faults.ts'
import { createHttpClient } from '../../shared/http-client.ts'
import type { Logger } from '../../shared/log.ts'
import { createCollector } from './attestation/collect.ts'
import type { BuildInfo } from './build-info.ts'
import { ControlPlane } from './control-plane.ts'
import { bindServer, listening } from './listen.ts'
import { ControllerMetrics, createMetricsServer } from './metrics.ts'
import { Registrar } from './registrar.ts'
import { buildServer } from './server.ts'
import type { ControllerSettings } from './settings.ts'
import { ControllerState } from './state.ts'
import { ServerCertificate } from './tls.ts'

export interface AppDeps {
  readonly build: BuildInfo
  readonly hostname: string
  readonly clock: Clock
  readonly random: () => number
  readonly log: Logger
  /** Names the forward proxy to the control plane, where there is one. */
  readonly env?: Readonly<Record<string, string | undefined>>
  /** In place of 169.254.169.254. */
  readonly metadataUrl?: string
}

export interface RunningController {
  readonly registrar: Registrar
  /** Where the API and the metrics are; ports as bound. */
  readonly port: number
  readonly metricsPort: number | null
  /** Finishes what runs, then closes every socket. */
  close(): Promise<void>
}

/**
 * Builds the controller from its settings and serves. Throws `config.invalid` or `listen.failed` before anything
 * was sent: a device code is never spent by a controller that can not serve.
 */
export async function startController(
  settings: ControllerSettings,
  deps: AppDeps,
): Promise<RunningController> {
  const { build, hostname, clock, log, random } = deps
  const state = await ControllerState.open(settings.stateDir)
  checkRegistration(settings, state)
  const http = createHttpClient({
    base: settings.controlPlaneUrl,
    unreachable: 'control_plane.unreachable',
    rejected: 'control_plane.rejected',
    connections: 4,
    proxyEnv: deps.env ?? {},
  })
  const controlPlane = new ControlPlane(http, clock)
  const metrics = new ControllerMetrics(build.version)
  const { controllerId } = settings
  const collector = createCollector(settings.attestation, deps.metadataUrl)
  const attests =
    controllerId !== null && controllerId !== state.registration?.controllerId
      ? { controllerId, collector }
      : null
  const registrar = new Registrar({
    state,
    controlPlane,
    metrics,
    tenantId: settings.tenantId,
    deviceCode: settings.deviceCode,
    attests,
    version: build.version,
    hostname,
    clock,
    random,
    log,
  })
  metrics.registered(registrar.controllerId !== null)
  const tls = settings.tls && new ServerCertificate(settings.tls, log)
  const app = buildServer({
    registrar,
    controlPlane,
    metrics,
    enrolmentSecret: settings.enrolmentSecret,
    build,
    hostname,
    clock,
    log,
    tls,
  })
  // Without TLS loopback, whatever the settings say: nothing off this machine may enrol a gateway.
  const api = settings.tls
    ? { host: settings.tls.address, port: settings.tls.port }
    : { host: '127.0.0.1', port: settings.httpPort }
  await listening(api, settings.tls ? 'AEMBIT_HTTPS_PORT' : 'AEMBIT_HTTP_PORT', () => app.listen(api))
  const metricsServer = settings.metrics && createMetricsServer(metrics.registry, tls)
  if (metricsServer && settings.metrics) {
    const address = { host: settings.metrics.address, port: settings.metrics.port }
    await listening(address, 'AEMBIT_METRICS_PORT', () => bindServer(metricsServer, address)).catch(
      async (error) => {
        await app.close()
        throw error
      },
    )
  }
  const stop = new AbortController()
  const loops = Promise.all([registrar.run(stop.signal), tls?.watch(clock, stop.signal)])

  const close = async (): Promise<void> => {
    stop.abort()
    metricsServer?.close()
    metricsServer?.closeIdleConnections()
    await app.close()
    await http.close()
    await loops
    await collector.close()
  }
  const portOf = (server: Server | null): number | null =>
    server ? (server.address() as AddressInfo).port : null
  return { registrar, port: portOf(app.server) ?? 0, metricsPort: portOf(metricsServer), close }
}

/** The settings and the state folder must speak of the same registration, where this machine does not attest. */
function checkRegistration(settings: ControllerSettings, state: ControllerState): void {
  const stored = state.registration
  if (stored && stored.tenantId !== settings.tenantId) {
    throw new Fault('config.invalid', {
      detail:
        `AEMBIT_TENANT_ID is ${settings.tenantId}, but AEMBIT_STATE_DIR holds a registration at tenant ` +
        `${stored.tenantId}; correct one of them`,
    })
  }
  if (!stored && settings.deviceCode === null && settings.controllerId === null) {
    throw new Fault('config.invalid', {
      detail:
        'this machine is not registered yet: set AEMBIT_DEVICE_CODE, or AEMBIT_AGENT_CONTROLLER_ID where it proves by ' +
        'attestation what it is',
    })
  }
}
