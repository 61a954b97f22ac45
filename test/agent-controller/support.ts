import type { Test } from 'tap'
import { type RunningController, startController } from '../../services/agent-controller/app.ts'
import type { ControllerSettings } from '../../services/agent-controller/settings.ts'
import { type Clock, systemClock } from '../../shared/clock.ts'
import { type CapturedLog, captureLog } from '../sync/support.ts'

export interface Started extends CapturedLog {
  readonly controller: RunningController
  readonly url: string
  health(): Promise<{ status: number; body: Record<string, unknown> }>
}

/** A controller of its own on free ports. */
export async function startTestController(
  t: Test,
  dir: string,
  more: Partial<ControllerSettings> = {},
  clock: Clock = systemClock,
  metadataUrl?: string,
): Promise<Started> {
  const captured = captureLog()
  const settings: ControllerSettings = {
    tenantId: 'acme',
    controllerId: null,
    deviceCode: '123456',
    attestation: { source: 'auto', oidcToken: null, certificate: null, awsCredentials: null },
    tls: null,
    controlPlaneUrl: `unix:${dir}/machine.sock`,
    stateDir: `${dir}/controller`,
    httpPort: 0,
    metrics: { address: '127.0.0.1', port: 0 },
    logLevel: 'debug',
    enrolmentSecret: null,
    ...more,
  }
  const controller = await startController(settings, {
    build: { version: '1.2.3', gitSHA: 'abc' },
    hostname: 'host-a',
    clock,
    random: () => 0.5,
    log: captured.log,
    ...(metadataUrl === undefined ? {} : { metadataUrl }),
  })
  t.teardown(() => controller.close())
  const url = `http://127.0.0.1:${controller.port}`
  const health: Started['health'] = async () => {
    const response = await fetch(`${url}/health`)
    return { status: response.status, body: (await response.json()) as Record<string, unknown> }
  }
  return { ...captured, controller, url, health }
}
