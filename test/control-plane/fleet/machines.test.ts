import { test } from 'tap'
import { watchOnce } from '../../../services/control-plane/fleet-plane.ts'
import { proves } from '../../requirements.ts'
import { assertion, controllerKeys, enrol, type Fleet, memoryLog, post, startFleet } from './rig.ts'

const look = async (fleet: Fleet, accessToken: string): Promise<number> => {
  const headers = { authorization: `Bearer ${accessToken}` }
  return fleet.http.send({ path: '/gateway/v1/keys', headers }).then(
    ({ status }) => status,
    ({ status }: { status: number }) => status,
  )
}
const streamOf = (fleet: Fleet, accessToken: string) =>
  fleet.http.events({
    path: '/gateway/v1/stream',
    headers: { authorization: `Bearer ${accessToken}` },
    idleMs: 5_000,
  })
const ended = async (stream: ReturnType<typeof streamOf>): Promise<void> => {
  for (;;) if ((await stream.next()).done) return
}

test('a machine that is forgotten takes the tokens and streams of its gateways with it', async (t) => {
  proves(t, 'AC-FLEET-01')
  const fleet = await startFleet({ heartbeatMs: 20 })
  t.teardown(fleet.close)
  const one = await enrol(fleet)
  const other = await enrol(fleet)
  const stream = streamOf(fleet, one.gateway.accessToken)
  await stream.next()
  const [machine] = fleet.controllers.find(one.id)?.instances ?? []
  t.ok(fleet.controllers.forget(one.id, machine?.kid ?? ''))
  t.equal(await look(fleet, one.gateway.accessToken), 401)
  t.equal(await look(fleet, other.gateway.accessToken), 200, 'those of another controller stay')
  await ended(stream)
})

test('another machine of the same controller keeps its gateways', async (t) => {
  const fleet = await startFleet()
  t.teardown(fleet.close)
  const { id, gateway } = await enrol(fleet)
  const { accessToken } = gateway
  fleet.controllers.forget(id, 'another')
  t.equal(await look(fleet, accessToken), 200)
  fleet.db.exec("UPDATE machine_token SET machine = NULL WHERE kind = 'gateway'")
  fleet.controllers.forget(id, 'another')
  t.equal(await look(fleet, accessToken), 401, 'one from before machines were noted')
})

test('registering again by device code takes what the former key enrolled', async (t) => {
  proves(t, 'AC-FLEET-01')
  const fleet = await startFleet({ heartbeatMs: 20 })
  t.teardown(fleet.close)
  const { id, gateway, ask } = await enrol(fleet)
  const stream = streamOf(fleet, gateway.accessToken)
  await stream.next()
  const { publicJwk, privateJwk } = controllerKeys()
  const host = { version: '1.0.0', hostname: 'host' }
  const deviceCode = fleet.controllers.deviceCode(id)?.code
  const registered = await post(fleet.http, '/controller/v1/registrations', {
    deviceCode,
    publicJwk,
    ...host,
  })
  t.equal(registered.status, 200)
  t.equal(await look(fleet, gateway.accessToken), 401)
  await ended(stream)
  const token = await post(fleet.http, '/controller/v1/token', {
    controllerId: id,
    assertion: await assertion(privateJwk, id),
  })
  const again = await post(
    fleet.http,
    '/controller/v1/gateway-enrolments',
    { ...ask, gatewayId: gateway.gatewayId },
    token.body.accessToken,
  )
  t.equal(again.body.gatewayId, gateway.gatewayId, 'the gateway comes again under its id')
  t.equal(await look(fleet, again.body.accessToken), 200)
})

test('a look at silent controllers that fails is logged and ends nothing', async (t) => {
  proves(t, 'AC-FLEET-02')
  const { log, lines } = memoryLog()
  const watch = (): void => {
    throw new Error('database or disk is full')
  }
  t.doesNotThrow(() => watchOnce({ watch }, log))
  t.match(lines.join(''), /silent agent controllers could not be noted/)
})
