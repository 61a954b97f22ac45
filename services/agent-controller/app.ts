import type { Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import type { Clock } from '../../shared/clock.ts'
import { Fault } from '../../shared/faults.ts'
import { createHttpClient } from '../../shared/http-client.ts'
import type { Logger } from '../../shared/log.ts'
import type { BuildInfo } from './build-info.ts'
import { ControlPlane } from './control-plane.ts'
import { bindServer, listening } from './listen.ts'
import { ControllerMetrics, createMetricsServer } from './metrics.ts'
import { Registrar } from './registrar.ts'
import { buildServer } from './server.ts'
import type { ControllerSettings } from './settings.ts'
import { ControllerState } from './state.ts'

export interface AppDeps {
  readonly build: BuildInfo
  readonly hostname: string
  readonly clock: Clock
  readonly random: () => number
  readonly log: Logger
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
  })
  const controlPlane = new ControlPlane(http, clock)
  const metrics = new ControllerMetrics(build.version)
  const registrar = new Registrar({
    state,
    controlPlane,
    metrics,
    tenantId: settings.tenantId,
    deviceCode: settings.deviceCode,
    version: build.version,
    hostname,
    clock,
    random,
    log,
  })
  metrics.registered(registrar.controllerId !== null)
  const app = buildServer({
    registrar,
    controlPlane,
    metrics,
    enrolmentSecret: settings.enrolmentSecret,
    build,
    hostname,
    clock,
    log,
  })
  // Loopback, whatever the settings say: nothing off this machine may enrol a gateway.
  const api = { host: '127.0.0.1', port: settings.httpPort }
  await listening(api, 'AEMBIT_HTTP_PORT', () => app.listen(api))
  const metricsServer = settings.metrics && createMetricsServer(metrics.registry)
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
  const loops = registrar.run(stop.signal)

  const close = async (): Promise<void> => {
    stop.abort()
    metricsServer?.close()
    metricsServer?.closeIdleConnections()
    await app.close()
    await http.close()
    await loops
  }
  const portOf = (server: Server | null): number | null =>
    server ? (server.address() as AddressInfo).port : null
  return { registrar, port: portOf(app.server) ?? 0, metricsPort: portOf(metricsServer), close }
}

/** The settings and the state folder must speak of the same registration. */
function checkRegistration(settings: ControllerSettings, state: ControllerState): void {
  const stored = state.registration
  if (stored && stored.tenantId !== settings.tenantId) {
    throw new Fault('config.invalid', {
      detail:
        `AEMBIT_TENANT_ID is ${settings.tenantId}, but AEMBIT_STATE_DIR holds a registration at tenant ` +
        `${stored.tenantId}; correct one of them`,
    })
  }
  if (settings.controllerId !== null && settings.controllerId !== stored?.controllerId) {
    throw new Fault('config.invalid', {
      detail: stored
        ? `AEMBIT_AGENT_CONTROLLER_ID is not the registration in AEMBIT_STATE_DIR (${stored.controllerId})`
        : 'AEMBIT_AGENT_CONTROLLER_ID names a registration that AEMBIT_STATE_DIR does not hold; attestation by ' +
          'a cloud is not supported by this version, register with AEMBIT_DEVICE_CODE',
    })
  }
  if (!stored && settings.deviceCode === null && settings.controllerId === null) {
    throw new Fault('config.invalid', {
      detail: 'AEMBIT_DEVICE_CODE is required: this machine is not registered yet',
    })
  }
}
