import { request } from 'node:http'
import t, { type Test } from 'tap'
import { gatewayEnrolmentSchema } from '../../shared/wire/enrolment.ts'
import { proves } from '../requirements.ts'
import { ManualClock } from '../rig/manual-clock.ts'
import { FakeControlPlane } from '../sync/fake-control-plane.ts'
import { tempDir, until } from '../sync/support.ts'
import { startTestController } from './support.ts'

const secret = 'a-secret-of-enough-characters'
const asked = { gatewayUrl: 'https://gw.test/mcp', hostname: 'host-a', version: '1.2.3' }

const world = async (t: Test, enrolmentSecret: string | null, clock?: ManualClock) => {
  const dir = await tempDir(t)
  const plane = await FakeControlPlane.start(dir)
  t.teardown(() => plane.down())
  if (clock) plane.now = () => clock.now()
  const started = await startTestController(t, dir, { enrolmentSecret }, clock)
  await until(() => started.controller.registrar.health === 'Healthy', 'Healthy')
  return { plane, ...started }
}

/** fetch hides Host; this does not. */
const call = (
  port: number,
  options: { method?: string; path: string; headers?: Record<string, string>; body?: string },
): Promise<{ status: number; body: Record<string, unknown> }> =>
  new Promise((resolve, reject) => {
    const { method = 'GET', path, headers, body } = options
    const outgoing = request({ host: '127.0.0.1', port, method, path, headers, agent: false }, (response) => {
      let text = ''
      response.on('data', (chunk) => {
        text += chunk
      })
      response.on('end', () => resolve({ status: response.statusCode ?? 0, body: JSON.parse(text) }))
    })
    outgoing.on('error', reject)
    outgoing.end(body)
  })

const enrol = (port: number, headers: Record<string, string> = {}, body: unknown = asked) =>
  call(port, {
    method: 'POST',
    path: '/v1/gateways/enrol',
    headers: { 'content-type': 'application/json', ...headers },
    body: typeof body === 'string' ? body : JSON.stringify(body),
  })

t.test('a gateway enrols and renews with its id', async (t) => {
  const { controller, text } = await world(t, null)
  const first = await enrol(controller.port)
  t.equal(first.status, 200)
  const enrolment = gatewayEnrolmentSchema.parse(first.body)
  const again = await enrol(controller.port, {}, { ...asked, gatewayId: enrolment.gatewayId })
  t.equal(again.body.gatewayId, enrolment.gatewayId)
  t.not(again.body.accessToken, enrolment.accessToken)
  t.notMatch(text(), enrolment.accessToken, 'no token in a log')
})

t.test('with a secret configured, only who sends it enrols', async (t) => {
  const { controller, plane } = await world(t, secret)
  for (const headers of [{}, { 'x-aembit-enrolment-secret': `${secret}x` }]) {
    t.match(await enrol(controller.port, headers as Record<string, string>), {
      status: 401,
      body: { code: 'enrolment.refused' },
    })
  }
  t.equal(plane.count('POST /controller/v1/gateway-enrolments'), 0)
  t.equal((await enrol(controller.port, { 'x-aembit-enrolment-secret': secret })).status, 200)
})

t.test('guesses and enrolments are limited apart from each other', async (t) => {
  const clock = new ManualClock()
  const { controller } = await world(t, secret, clock)
  const right = { 'x-aembit-enrolment-secret': secret }
  const statuses: number[] = []
  for (let n = 0; n < 8; n++) statuses.push((await enrol(controller.port)).status)
  t.same(statuses, [401, 401, 401, 401, 401, 429, 429, 429])
  const good: number[] = []
  for (let n = 0; n < 22; n++) good.push((await enrol(controller.port, right)).status)
  t.same(good, [...Array(20).fill(200), 429, 429], 'guessing took nothing from the honest')
  clock.advance(3_000)
  t.equal((await enrol(controller.port, right)).status, 200)
})

t.test('a web page can not reach it: foreign Host, any Origin, a simple content type', async (t) => {
  proves(t, 'AC-06')
  const { controller, plane } = await world(t, null)
  const { port } = controller
  t.match(await call(port, { path: '/health', headers: { host: 'evil.test' } }), {
    status: 403,
    body: { code: 'http.host' },
  })
  t.match(await call(port, { path: '/health', headers: { host: `localhost.evil.test:${port}` } }), {
    status: 403,
  })
  for (const host of ['localhost', '127.0.0.1:5000', `[::1]:${port}`]) {
    t.equal((await call(port, { path: '/health', headers: { host } })).status, 200, host)
  }
  t.match(await enrol(port, { origin: 'http://localhost:3000' }), {
    status: 403,
    body: { code: 'http.origin' },
  })
  t.match(await enrol(port, { 'content-type': 'text/plain' }), { status: 415 })
  t.equal(plane.count('POST /controller/v1/gateway-enrolments'), 0)
})

t.test('bad requests are refused and the process lives on', async (t) => {
  const { controller } = await world(t, null)
  const { port } = controller
  t.match(await enrol(port, {}, '{'), { status: 400, body: { code: 'request.invalid' } })
  t.match(await enrol(port, {}, { ...asked, gatewayId: 'x' }), { status: 400 })
  t.match(await enrol(port, {}, { ...asked, hostname: 'x'.repeat(20_000) }), {
    status: 413,
    body: { code: 'http.body_too_large' },
  })
  t.match(await call(port, { path: '/nothing' }), { status: 404, body: { code: 'http.not_found' } })
  t.equal((await enrol(port)).status, 200)
})

t.test('a token that the control plane forgot is replaced within the same enrolment', async (t) => {
  const { controller, plane } = await world(t, null)
  plane.forgetControllerTokens()
  t.equal((await enrol(controller.port)).status, 200)
  t.equal(plane.count('POST /controller/v1/token'), 2)
})

t.test('control plane away: 503 with its code', async (t) => {
  const { controller, plane } = await world(t, null)
  await plane.down()
  t.match(await enrol(controller.port), { status: 503, body: { code: 'control_plane.unreachable' } })
})

t.test('metrics carry the documented names and labels', async (t) => {
  proves(t, 'AC-05')
  const { controller } = await world(t, null)
  await enrol(controller.port)
  const text = await (await fetch(`http://127.0.0.1:${controller.metricsPort}/metrics`)).text()
  const id = controller.registrar.controllerId
  for (const line of [
    'aembit_agent_controller_registration_status 1',
    `aembit_agent_controller_access_token_requests_total{Result="Success",Agent_Controller_Id="${id}"} 1`,
    `aembit_agent_controller_proxy_token_requests_total{Result="Success",Agent_Controller_Id="${id}"} 1`,
    'version{component="aembit_agent_controller",version="1.2.3"} 1',
  ]) {
    t.ok(text.split('\n').includes(line), line)
  }
  const expires = /^aembit_agent_controller_token_expiration_unix_timestamp (\d+)$/m.exec(text)
  t.ok(Math.abs(Number(expires?.[1]) - Date.now() / 1000 - 900) < 60, 'seconds since the epoch')
  t.equal((await fetch(`http://127.0.0.1:${controller.metricsPort}/other`)).status, 404)
})
