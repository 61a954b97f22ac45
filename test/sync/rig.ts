import { mkdir } from 'node:fs/promises'
import type { Test } from 'tap'
import type { RunningController } from '../../services/agent-controller/app.ts'
import { startSync } from '../../services/sync/app.ts'
import { type Clock, systemClock } from '../../shared/clock.ts'
import type { Fault } from '../../shared/faults.ts'
import { createHttpClient, type HttpClient } from '../../shared/http-client.ts'
import type { ChildContext, RunningChild } from '../../shared/ipc/child.ts'
import type { ConfigOf, SnapshotRef } from '../../shared/ipc/contract.ts'
import { Meter } from '../../shared/metrics/meter.ts'
import { startTestController } from '../agent-controller/support.ts'
import { FakeControlPlane } from './fake-control-plane.ts'
import { type CapturedLog, captureLog, tempDir, until } from './support.ts'

export interface SyncRun extends CapturedLog {
  readonly child: RunningChild<'sync'>
  readonly config: ConfigOf['sync']
  /** What the supervisor heard, in order. */
  readonly snapshots: { ref: SnapshotRef; confirmedAt: number }[]
  readonly confirmed: { version: number; confirmedAt: number }[]
  readonly checks: Map<string, { status: string; fault: Fault | undefined }>
  readonly stats: Record<string, string | number>
  /** Speaks to sync.sock. */
  readonly http: HttpClient
  stop(): Promise<number>
}

export interface Rig {
  readonly dir: string
  readonly plane: FakeControlPlane
  readonly controller: RunningController
  readonly spoolDir: string
  sync(options?: {
    clock?: Clock
    config?: Partial<ConfigOf['sync']>
    adoptAfterMs?: number
    scanEveryMs?: number
  }): Promise<SyncRun>
}

/** A fake control plane, the real agent controller registered at it, and sync on demand. */
export async function startRig(t: Test): Promise<Rig> {
  const dir = await tempDir(t)
  const plane = await FakeControlPlane.start(dir)
  t.teardown(() => plane.down())
  const { controller } = await startTestController(t, dir)
  await until(() => controller.registrar.health === 'Healthy', 'a registered controller')
  const spoolDir = `${dir}/state/spool`
  await mkdir(spoolDir, { recursive: true })
  return {
    dir,
    plane,
    controller,
    spoolDir,
    sync: (options = {}) => startTestSync(t, dir, controller.port, options),
  }
}

/** Sync in this process, with a supervisor that only listens. */
export async function startTestSync(
  t: Test,
  dir: string,
  controllerPort: number,
  {
    clock = systemClock,
    config: more = {},
    adoptAfterMs = 200,
    scanEveryMs,
  }: Parameters<Rig['sync']>[0] = {},
): Promise<SyncRun> {
  const captured = captureLog()
  const config: ConfigOf['sync'] = {
    logLevel: 'debug',
    version: '1.2.3',
    gatewayUrl: 'https://localhost:8443/mcp',
    agentControllerUrl: `http://127.0.0.1:${controllerPort}`,
    controlPlaneUrl: `unix:${dir}/machine.sock`,
    enrolmentSecretPath: null,
    stateDir: `${dir}/state`,
    socketPath: `${dir}/sync.sock`,
    spoolDir: `${dir}/state/spool`,
    spoolMaxBytes: 1 << 20,
    snapshotMaxAgeMs: 3_600_000,
    ...more,
  }
  const heard: Pick<SyncRun, 'snapshots' | 'confirmed' | 'checks' | 'stats'> = {
    snapshots: [],
    confirmed: [],
    checks: new Map(),
    stats: {},
  }
  const context: ChildContext<'sync'> = {
    config,
    log: captured.log,
    meter: new Meter(),
    tenant: () => {},
    check: (name, status, fault) => void heard.checks.set(name, { status, fault }),
    stats: (values) => void Object.assign(heard.stats, values),
    send: (report) => {
      if (report.type === 'snapshot') heard.snapshots.push(report)
      else heard.confirmed.push(report)
    },
  }
  const child = await startSync(context, {
    clock,
    random: () => 0.5,
    hostname: 'host-a',
    adoptAfterMs,
    scanEveryMs,
  })
  const http = createHttpClient({
    base: `unix:${config.socketPath}`,
    unreachable: 'control_plane.unreachable',
    rejected: 'control_plane.rejected',
    connections: 128,
  })
  let stopped: Promise<number> | undefined
  const stop = (): Promise<number> => {
    stopped ??= http.close().then(() => child.drain(2_000))
    return stopped
  }
  t.teardown(stop)
  return { ...captured, ...heard, child, config, http, stop }
}
