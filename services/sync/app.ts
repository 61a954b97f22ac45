import type { Clock } from '../../shared/clock.ts'
import { Fault } from '../../shared/faults.ts'
import { createHttpClient } from '../../shared/http-client.ts'
import type { ChildContext, RunningChild } from '../../shared/ipc/child.ts'
import type { ConfigOf } from '../../shared/ipc/contract.ts'
import { Broker } from './broker.ts'
import { ControlPlane } from './control-plane.ts'
import { Credentials } from './credentials.ts'
import { Enrolment } from './enrolment.ts'
import { LastGood } from './last-good.ts'
import { SealingKeyCache } from './sealing-keys.ts'
import { Snapshots } from './snapshots.ts'
import { Spool } from './spool.ts'
import { Status } from './status.ts'
import { follow } from './stream.ts'
import { Trail } from './trail.ts'
import { Uploader } from './uploader.ts'

export interface SyncDeps {
  readonly clock: Clock
  readonly random: () => number
  readonly hostname: string
  /** Names the forward proxy to the control plane, where there is one. */
  readonly env?: Readonly<Record<string, string | undefined>>
  readonly adoptAfterMs?: number
  readonly scanEveryMs?: number
}

/** Serves from what is on disk first, then finds the controller and the control plane, however long that takes. */
export async function startSync(
  context: ChildContext<'sync'>,
  deps: SyncDeps,
): Promise<RunningChild<'sync'>> {
  const { log } = context
  const { clock, random, hostname } = deps
  let config = context.config
  const stop = new AbortController()

  const lastGood = await LastGood.open(config.stateDir, log)
  const snapshots = new Snapshots({
    lastGood,
    clock,
    log,
    publish: (ref, confirmedAt) => {
      context.send({ type: 'snapshot', ref, confirmedAt })
      status.refresh()
    },
    confirmed: (version, confirmedAt) => {
      context.send({ type: 'confirmed', version, confirmedAt })
      status.refresh()
    },
    skewMs: () => enrolment.skewMs,
  })
  const controller = createHttpClient({
    base: config.agentControllerUrl,
    unreachable: 'controller.unreachable',
    rejected: 'controller.rejected',
    connections: 1,
  })
  const http = createHttpClient({
    base: config.controlPlaneUrl,
    unreachable: 'control_plane.unreachable',
    rejected: 'control_plane.rejected',
    maxBodyBytes: 64 << 20,
    connections: 32,
    proxyEnv: deps.env ?? {},
  })
  const enrolment = new Enrolment({
    controller,
    request: { gatewayUrl: config.gatewayUrl, hostname, version: config.version },
    gatewayId: (await lastGood.pins())?.gatewayId ?? null,
    secretPath: config.enrolmentSecretPath,
    clock,
    random,
    log,
    onEnrolled: ({ gatewayId, tenantId, snapshotJwks }) =>
      snapshots.pin({ gatewayId, tenantId, jwks: snapshotJwks }),
    onState: (fault) => status.enrolment(fault),
  })
  const plane = new ControlPlane(http, enrolment)
  const credentials = new Credentials({
    ask: (request) => plane.credential(request),
    clock,
    skewMs: () => enrolment.skewMs,
  })
  const trail = new Trail(config.stateDir, plane)
  const broker = new Broker({
    credentials,
    keys: new SealingKeyCache(() => plane.keys(), clock),
    verifyTrail: () => trail.verify(),
    log,
  })
  const spool = new Spool({
    dir: config.spoolDir,
    maxBytes: () => config.spoolMaxBytes,
    clock,
    log,
    adoptAfterMs: deps.adoptAfterMs,
  })
  const uploader = new Uploader({
    spool,
    ship: (events, signal) => plane.events(events, signal),
    shipped: (events) => trail.shipped(events),
    clock,
    random,
    log,
    scanEveryMs: deps.scanEveryMs,
  })
  const status = new Status({
    context,
    enrolment,
    snapshots,
    uploader,
    spool,
    maxAgeMs: () => config.snapshotMaxAgeMs,
    clock,
  })

  await spool.prepare()
  await snapshots.restore()
  await broker.listen(config.socketPath)
  context.check('sync.socket', 'running')
  const loops = Promise.all([
    enrolment.run(stop.signal),
    follow(
      {
        plane,
        snapshots,
        clock,
        random,
        log,
        onCredential: (key) => {
          credentials.invalidate(key)
          broker.invalidated(key)
        },
        onGap: () => {
          for (const key of credentials.clear()) broker.invalidated(key)
        },
        onState: (fault) => status.stream(fault),
      },
      stop.signal,
    ),
    uploader.run(stop.signal),
    status.run(stop.signal),
  ])

  // The next sync wants the socket and the spool, and may be there already.
  let lastMs = 2_000

  return {
    orphaned: () => {
      lastMs = 200
    },
    reconfigure: async (next) => {
      checkReload(config, next)
      config = next
      uploader.poke()
    },
    drain: async (deadlineMs) => {
      const end = clock.now() + deadlineMs
      context.check('sync.socket', 'stopping')
      await broker.close(Math.min(lastMs, deadlineMs))
      // What proxies sealed on their way out goes now, if the control plane is there.
      const last = AbortSignal.timeout(Math.max(1, Math.min(lastMs, end - clock.now())))
      await uploader.last(last).catch(() => {})
      status.refresh()
      stop.abort()
      await Promise.all([controller.close(), http.close()])
      await loops
      return (await spool.list()).filter(({ state }) => state === 'ready').length
    },
  }
}

/** Limits may change while we run; what names a peer or a place may not. */
const reloadable = new Set<keyof ConfigOf['sync']>(['spoolMaxBytes', 'snapshotMaxAgeMs'])

function checkReload(former: ConfigOf['sync'], next: ConfigOf['sync']): void {
  const changed = (Object.keys(next) as (keyof ConfigOf['sync'])[]).filter((key) => former[key] !== next[key])
  const fixed = changed.filter((key) => !reloadable.has(key))
  if (fixed.length > 0) {
    throw new Fault('config.invalid', { detail: `a change of ${fixed.join(', ')} takes \`restart sync\`` })
  }
}
