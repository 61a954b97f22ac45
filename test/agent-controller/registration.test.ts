import { readFile, stat } from 'node:fs/promises'
import t, { type Test } from 'tap'
import { proves } from '../requirements.ts'
import { ManualClock } from '../rig/manual-clock.ts'
import { FakeControlPlane } from '../sync/fake-control-plane.ts'
import { tempDir, until } from '../sync/support.ts'
import { startTestController } from './support.ts'

const world = async (t: Test) => {
  const dir = await tempDir(t)
  const plane = await FakeControlPlane.start(dir)
  t.teardown(() => plane.down())
  return { dir, plane }
}
const registrations = 'POST /controller/v1/registrations'
const tokens = 'POST /controller/v1/token'

t.test('a device code registers once; the second start reuses key and registration', async (t) => {
  proves(t, 'AC-01')
  const { dir, plane } = await world(t)
  const first = await startTestController(t, dir)
  await until(() => first.controller.registrar.health === 'Healthy', 'Healthy')
  t.same(await first.health(), {
    status: 200,
    body: { status: 'Healthy', version: '1.2.3', gitSHA: 'abc', host: 'host-a' },
  })
  const path = `${dir}/controller/agent-controller.json`
  t.equal((await stat(path)).mode & 0o777, 0o600)
  const stored = JSON.parse(await readFile(path, 'utf8'))
  t.equal(first.controller.registrar.controllerId, stored.registration.controllerId)
  t.notMatch(first.text(), stored.privateJwk.d, 'the key is in no log')
  t.notMatch(first.text(), '123456', 'nor is the code')
  await until(() => plane.healthReports.length > 0, 'a health report')
  t.match(plane.healthReports[0], { version: '1.2.3', hostname: 'host-a', uptimeSecs: Number })
  await first.controller.close()

  const second = await startTestController(t, dir)
  await until(() => second.controller.registrar.health === 'Healthy', 'Healthy')
  t.equal(second.controller.registrar.controllerId, stored.registration.controllerId)
  t.equal(plane.count(registrations), 1, 'the spent code was not sent again')
  t.same(JSON.parse(await readFile(path, 'utf8')), stored)
})

t.test('a used code is refused with a clear message and is not tried again', async (t) => {
  const { dir, plane } = await world(t)
  plane.deviceCodes.clear()
  const { health, lines, controller } = await startTestController(t, dir)
  const line = await until(() => lines.find(({ code }) => code === 'device_code.refused'), 'the refusal')
  t.match(line.msg, /unknown, used or expired\. Make a new one, set AEMBIT_DEVICE_CODE and restart/)
  t.match(await health(), { status: 401, body: { status: 'Unregistered', host: 'host-a' } })
  await t.rejects(controller.registrar.accessToken(), { code: 'controller.unregistered' })
  t.equal(plane.count(registrations), 1)
  const enrol = await fetch(`http://127.0.0.1:${controller.port}/v1/gateways/enrol`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ gatewayUrl: 'https://gw.test/mcp', hostname: 'h', version: '1' }),
  })
  t.equal(enrol.status, 503)
  t.match(await enrol.json(), { code: 'controller.unregistered' })
})

t.test('a code of another tenant makes no registration', async (t) => {
  const { dir, plane } = await world(t)
  plane.tenantId = 'other'
  const { lines, health, controller } = await startTestController(t, dir)
  await until(() => lines.some(({ msg }) => String(msg).includes('another tenant')), 'the refusal')
  t.equal((await health()).status, 401)
  await controller.close()
  t.equal(JSON.parse(await readFile(`${dir}/controller/agent-controller.json`, 'utf8')).registration, null)
})

t.test('the token is renewed ahead of its end, reports go out each minute', async (t) => {
  const { dir, plane } = await world(t)
  const clock = new ManualClock()
  plane.now = () => clock.now()
  const { controller } = await startTestController(t, dir, {}, clock)
  const token = await until(() => controller.registrar.accessToken().catch(() => null), 'a token')
  await until(() => clock.waits.length === 2, 'both loops at rest')
  t.ok((clock.waits.at(-1) ?? 0) < plane.controllerTokenLifeMs * 0.67, 'planned ahead of the end')
  const reports = plane.healthReports.length
  // One or two: who asks while the loop is about to ask as well gets a token of its own.
  const before = plane.count(tokens)
  for (let minute = 0; minute < 10; minute++) {
    clock.advance(60_000)
    await until(() => clock.waits.length === 2, 'both loops at rest')
  }
  t.equal(plane.count(tokens), before + 1)
  t.not(await controller.registrar.accessToken(), token)
  t.ok(plane.healthReports.length >= reports + 9)
  t.equal(controller.registrar.health, 'Healthy')
})

t.test('control plane away: RegisteredAndNotConnected, and Healthy again by itself', async (t) => {
  proves(t, 'AC-02')
  const { dir, plane } = await world(t)
  await (await startTestController(t, dir)).controller.close()
  const first = await startTestController(t, dir)
  await until(() => first.controller.registrar.health === 'Healthy', 'Healthy')
  await first.controller.close()
  await plane.down()
  const { health, controller } = await startTestController(t, dir)
  await until(() => controller.registrar.health === 'RegisteredAndNotConnected', 'not connected')
  t.match(await health(), { status: 503, body: { status: 'RegisteredAndNotConnected' } })
  await plane.up()
  await until(() => controller.registrar.health === 'Healthy', 'Healthy')
  t.equal((await health()).status, 200)
})

t.test('before the first answer a known registration is Registered', async (t) => {
  const { dir, plane } = await world(t)
  const first = await startTestController(t, dir)
  await until(() => first.controller.registrar.health === 'Healthy', 'Healthy')
  await first.controller.close()
  let answer = (): void => {}
  const held = new Promise<void>((resolve) => {
    answer = resolve
  })
  plane.before = async (path) => {
    if (path === '/controller/v1/token') await held
  }
  const { health, controller } = await startTestController(t, dir)
  t.match(await health(), { status: 503, body: { status: 'Registered' } })
  answer()
  await until(() => controller.registrar.health === 'Healthy', 'Healthy')
})

t.test('a controller that was removed is Unregistered, and takes a new code', async (t) => {
  const { dir, plane } = await world(t)
  const first = await startTestController(t, dir)
  const id = await until(() => first.controller.registrar.controllerId, 'an id')
  await first.controller.close()
  plane.controllers.clear()
  const second = await startTestController(t, dir)
  await until(() => second.controller.registrar.health === 'Unregistered', 'Unregistered')
  t.equal((await second.health()).status, 401)
  await second.controller.close()
  plane.deviceCodes.add('654321')
  const third = await startTestController(t, dir, { deviceCode: '654321' })
  await until(() => third.controller.registrar.health === 'Healthy', 'Healthy')
  t.not(third.controller.registrar.controllerId, id)
})

t.test('settings that contradict the state folder stop the start', async (t) => {
  const { dir } = await world(t)
  const none = startTestController(t, dir, { deviceCode: null })
  await t.rejects(none, { code: 'config.invalid', detail: /not registered yet: set AEMBIT_DEVICE_CODE/ })
  const first = await startTestController(t, dir)
  const id = await until(() => first.controller.registrar.controllerId, 'an id')
  await first.controller.close()
  await t.rejects(startTestController(t, dir, { tenantId: 'other' }), {
    code: 'config.invalid',
    detail: /AEMBIT_STATE_DIR holds a registration at tenant acme/,
  })
  const named = await startTestController(t, dir, { deviceCode: null, controllerId: id })
  await until(() => named.controller.registrar.health === 'Healthy', 'Healthy')
})
