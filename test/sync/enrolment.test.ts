import { readFile, writeFile } from 'node:fs/promises'
import t, { type Test } from 'tap'
import { Enrolment } from '../../services/sync/enrolment.ts'
import type { HttpClient } from '../../shared/http-client.ts'
import type { GatewayEnrolRequest } from '../../shared/wire/enrolment.ts'
import { startTestController } from '../agent-controller/support.ts'
import { proves } from '../requirements.ts'
import { ManualClock } from '../rig/manual-clock.ts'
import { FakeControlPlane } from './fake-control-plane.ts'
import { startRig, startTestSync } from './rig.ts'
import { captureLog, tempDir, until } from './support.ts'

const enrolments = 'POST /controller/v1/gateway-enrolments'

/** Its clock can go on without the timers, as that of a machine does which was suspended. */
class Suspendable extends ManualClock {
  #ahead = 0
  override now(): number {
    return super.now() + this.#ahead
  }
  jump(ms: number): void {
    this.#ahead += ms
  }
}

function startEnrolment(t: Test) {
  const lives = 900_000
  const clock = new Suspendable()
  let count = 0
  const json = async () => ({
    accessToken: `token-${++count}`,
    gatewayId: 'g',
    tenantId: 't',
    time: new Date(clock.now()).toISOString(),
    expiresAt: new Date(clock.now() + lives).toISOString(),
  })
  const enrolment = new Enrolment({
    controller: { json } as unknown as HttpClient,
    request: {} as GatewayEnrolRequest,
    gatewayId: null,
    secretPath: null,
    clock,
    random: () => 0.5,
    log: captureLog().log,
    onEnrolled: async () => {},
    onState: () => {},
  })
  const stop = new AbortController()
  void enrolment.run(stop.signal)
  t.teardown(() => stop.abort())
  return { clock, enrolment, lives }
}

t.test(
  'the token is renewed at two thirds of its life, with the same gateway id, and over a restart',
  async (t) => {
    const { plane, sync } = await startRig(t)
    const clock = new ManualClock(Date.now())
    plane.now = () => clock.now()
    const run = await sync({ clock })
    await until(() => plane.streams === 1, 'the stream')
    t.equal(plane.count(enrolments), 1)
    const pins = async () => JSON.parse(await readFile(`${run.config.stateDir}/pins.json`, 'utf8'))
    const { gatewayId } = await pins()
    clock.advance(9.5 * 60_000)
    t.equal(plane.count(enrolments), 1)
    clock.advance(40_000)
    await until(() => plane.count(enrolments) === 2, 'the renewal')
    await until(async () => (await pins()).gatewayId === gatewayId, 'one gateway')
    await run.stop()
    await sync({ clock })
    await until(() => plane.count(enrolments) === 3, 'the enrolment of the next life')
    t.same(plane.gatewayIds, [undefined, gatewayId, gatewayId])
  },
)

t.test('a controller that is away is asked again until it is there', async (t) => {
  const { plane, sync, controller, dir } = await startRig(t)
  const { port } = controller
  await controller.close()
  const run = await sync()
  await until(() => run.checks.get('sync.enrolment')?.status === 'failing', 'the failed check')
  t.match(run.checks.get('sync.enrolment')?.fault, { code: 'controller.unreachable' })
  t.match(run.stats.last_error, /controller\.unreachable/)
  await startTestController(t, dir, { httpPort: port })
  await until(() => plane.streams === 1, 'the stream')
  await until(() => run.checks.get('sync.enrolment')?.status === 'running', 'the check')
  t.equal(run.checks.get('sync.enrolment')?.fault, undefined)
})

t.test('the enrolment secret is read from its file, again at each try', async (t) => {
  const dir = await tempDir(t)
  const plane = await FakeControlPlane.start(dir)
  t.teardown(() => plane.down())
  const { controller } = await startTestController(t, dir, { enrolmentSecret: 'the-right-secret-of-it' })
  await until(() => controller.registrar.health === 'Healthy', 'Healthy')
  const path = `${dir}/secret`
  await writeFile(path, 'a-wrong-secret-of-it\n')
  const run = await startTestSync(t, dir, controller.port, { config: { enrolmentSecretPath: path } })
  await until(() => run.checks.get('sync.enrolment')?.status === 'failing', 'the refusal')
  t.match(run.checks.get('sync.enrolment')?.fault, { code: 'enrolment.refused' })
  await writeFile(path, 'the-right-secret-of-it\n')
  await until(() => plane.streams === 1, 'the stream')
  t.notMatch(run.text(), /(wrong|right)-secret/)
})

t.test('clocks that differ by an hour do no harm, and are told', async (t) => {
  const { plane, sync } = await startRig(t)
  const clock = new ManualClock(Date.now() - 3_600_000)
  const run = await sync({ clock })
  await until(() => plane.streams === 1, 'the stream')
  t.equal(run.snapshots[0]?.confirmedAt, clock.now(), 'on our clock')
  t.ok(run.lines.some(({ skewMs }) => Number(skewMs) > 3_590_000))
  await until(() => run.stats.enrolment_expires_at, 'the figure')
  const leftMs = Date.parse(String(run.stats.enrolment_expires_at)) - clock.now()
  t.ok(Math.abs(leftMs - plane.gatewayTokenLifeMs) < 10_000, 'the life counts on our clock')
  clock.advance(5_000)
  plane.heartbeat()
  await until(() => run.confirmed.length > 0, 'a heartbeat that is not taken for a late one')
})

t.test('after a suspend the token is renewed for who needs it, not when its timer ends', async (t) => {
  proves(t, 'SYNC-09')
  const { clock, enrolment, lives } = startEnrolment(t)
  t.equal(await enrolment.token(), 'token-1')
  t.same(clock.waits, [60_000], 'no longer than a minute at a time')
  clock.jump(2 * lives)
  t.equal(await enrolment.token(), 'token-2', 'no timer has ended')
  clock.jump(2 * lives)
  clock.advance(1)
  t.equal(await enrolment.token(), 'token-3')
})

t.test('limits are reloaded; what names a peer takes a restart', async (t) => {
  const { sync } = await startRig(t)
  const run = await sync()
  await run.child.reconfigure?.({ ...run.config, spoolMaxBytes: 5_000 })
  await t.rejects(async () => run.child.reconfigure?.({ ...run.config, controlPlaneUrl: 'unix:/other' }), {
    code: 'config.invalid',
    detail: /controlPlaneUrl takes `restart sync`/,
  })
})
