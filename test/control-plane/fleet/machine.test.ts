import { once } from 'node:events'
import { createServer } from 'node:net'
import { compactVerify, createLocalJWKSet, type JSONWebKeySet } from 'jose'
import { test } from 'tap'
import { Fault } from '../../../shared/faults.ts'
import { sealingKeysSchema } from '../../../shared/wire/credential.ts'
import { gatewayEnrolmentSchema } from '../../../shared/wire/enrolment.ts'
import { snapshotSchema } from '../../../shared/wire/snapshot.ts'
import { proves } from '../../requirements.ts'
import {
  assertion,
  configOf,
  controllerKeys,
  enrol,
  issuerKeys,
  movable,
  post,
  startFleet,
  yaml,
} from './rig.ts'

test('a controller registers, enrols a gateway, and the gateway gets a snapshot that verifies', async (t) => {
  const fleet = await startFleet()
  t.teardown(fleet.close)
  const { gateway, id, controllerToken, ask } = await enrol(fleet)
  const enrolment = gatewayEnrolmentSchema.parse(gateway)
  t.equal(enrolment.tenantId, 'acme')
  t.ok(Date.parse(enrolment.expiresAt) - Date.now() > 14 * 60_000)

  const headers = { authorization: `Bearer ${enrolment.accessToken}` }
  const answer = await fleet.http.send({ path: '/gateway/v1/snapshot', headers })
  t.match(answer.headers['content-type'], 'application/jose')
  const jwks = createLocalJWKSet(enrolment.snapshotJwks as unknown as JSONWebKeySet)
  const { payload, protectedHeader } = await compactVerify(answer.body.toString(), jwks)
  t.equal(protectedHeader.alg, 'ES256')
  const snapshot = snapshotSchema.parse(JSON.parse(new TextDecoder().decode(payload)))
  t.equal(snapshot.gateway.resource, 'https://gw.example/mcp')
  t.equal(snapshot.servers[0]?.credential, 'none')

  const keys = sealingKeysSchema.parse(
    JSON.parse((await fleet.http.send({ path: '/gateway/v1/keys', headers })).body.toString()),
  )
  t.equal(Buffer.from(keys.keys[0]!.key, 'base64url').length, 32)

  const renewed = await post(
    fleet.http,
    '/controller/v1/gateway-enrolments',
    { ...ask, gatewayId: enrolment.gatewayId },
    controllerToken,
  )
  t.equal(renewed.body.gatewayId, enrolment.gatewayId, 'renewing keeps the id')
  const health = await post(
    fleet.http,
    '/controller/v1/health',
    { version: '1', hostname: 'h', uptimeSecs: 5.5 },
    controllerToken,
  )
  t.equal(health.status, 204)
  t.equal(fleet.controllers.find(id)?.healthy, true)
})

test('tokens are for their own kind of machine, and none is no entry', async (t) => {
  const fleet = await startFleet()
  t.teardown(fleet.close)
  const { gateway, controllerToken, ask } = await enrol(fleet)
  for (const token of [undefined, 'x', 'a'.repeat(43), controllerToken]) {
    const answer = await post(fleet.http, '/gateway/v1/credentials', {}, token)
    t.match(answer, { status: 401, body: { code: 'machine.token' } })
  }
  t.match(await post(fleet.http, '/controller/v1/gateway-enrolments', ask, gateway.accessToken), {
    status: 401,
  })
})

test('a gateway of another controller is not renewed under its name', async (t) => {
  const fleet = await startFleet()
  t.teardown(fleet.close)
  const one = await enrol(fleet)
  const two = await enrol(fleet)
  const answer = await post(
    fleet.http,
    '/controller/v1/gateway-enrolments',
    { ...two.ask, gatewayId: one.gateway.gatewayId },
    two.controllerToken,
  )
  t.equal(answer.status, 200)
  t.not(answer.body.gatewayId, one.gateway.gatewayId)
})

test('a device code works once', async (t) => {
  const fleet = await startFleet()
  t.teardown(fleet.close)
  const { code, registered } = await enrol(fleet)
  t.equal(registered.status, 200)
  t.match(code, /^\d{6}$/)
  const body = { deviceCode: code, publicJwk: controllerKeys().publicJwk, version: '1', hostname: 'h' }
  t.match(await post(fleet.http, '/controller/v1/registrations', body), {
    status: 401,
    body: { code: 'device_code.refused' },
  })
  t.notMatch(fleet.lines.join(''), new RegExp(`\\D${code}\\D`), 'no code in the log')
})

test('a device code is spent by a wrong key, and replaced by a newer one', async (t) => {
  const fleet = await startFleet()
  t.teardown(fleet.close)
  const { id } = fleet.controllers.create('x')
  const first = fleet.controllers.deviceCode(id)!.code
  const second = fleet.controllers.deviceCode(id)!.code
  const host = { version: '1', hostname: 'h' }
  const ask = (deviceCode: string, publicJwk: object) =>
    post(fleet.http, '/controller/v1/registrations', { deviceCode, publicJwk, ...host })
  t.match(await ask(first, controllerKeys().publicJwk), { status: 401 }, 'the former code')
  t.match(await ask(second, controllerKeys().privateJwk), { status: 401 }, 'a private key')
  t.match(await ask(second, controllerKeys().publicJwk), { status: 401 }, 'spent')
  t.same(fleet.controllers.find(id)?.instances, [])
})

test('a device code ends after 15 minutes', async (t) => {
  proves(t, 'AC-03')
  const clock = movable()
  const fleet = await startFleet({ clock })
  t.teardown(fleet.close)
  const { id } = fleet.controllers.create('x')
  const { code } = fleet.controllers.deviceCode(id)!
  clock.advance(15 * 60_000)
  const body = { deviceCode: code, publicJwk: controllerKeys().publicJwk, version: '1', hostname: 'h' }
  t.match(await post(fleet.http, '/controller/v1/registrations', body), { status: 401 })
})

test('guessing is limited, also for the right code', async (t) => {
  proves(t, 'AC-04')
  const fleet = await startFleet({ clock: movable() })
  t.teardown(fleet.close)
  const { id } = fleet.controllers.create('x')
  const { code } = fleet.controllers.deviceCode(id)!
  const wrong = code === '000000' ? '000001' : '000000'
  const ask = (deviceCode: string) =>
    post(fleet.http, '/controller/v1/registrations', {
      deviceCode,
      publicJwk: controllerKeys().publicJwk,
      version: '1',
      hostname: 'h',
    })
  const statuses = []
  for (let guess = 0; guess < 11; guess += 1) statuses.push((await ask(wrong)).status)
  t.same(statuses, [...Array(10).fill(401), 429])
  t.equal((await ask(code)).status, 429)
})

test('assertions: wrong ones and replayed ones are refused', async (t) => {
  proves(t, 'AC-07')
  const fleet = await startFleet()
  t.teardown(fleet.close)
  const { id, privateJwk } = await enrol(fleet)
  const now = Math.floor(Date.now() / 1000)
  const ask = async (text: string, controllerId = id) =>
    (await post(fleet.http, '/controller/v1/token', { controllerId, assertion: text })).status
  const once = await assertion(privateJwk, id)
  t.equal(await ask(once), 200)
  t.equal(await ask(once), 401, 'replay')
  t.equal(await ask(await assertion(privateJwk, id, { aud: 'other' })), 401, 'audience')
  t.equal(await ask(await assertion(privateJwk, id, { iss: 'other' })), 401, 'issuer')
  t.equal(await ask(await assertion(privateJwk, id, { exp: now + 600 })), 401, 'long life')
  t.equal(await ask(await assertion(privateJwk, id, { iat: now - 100, exp: now - 40 })), 401, 'expired')
  t.equal(
    await ask(await assertion(privateJwk, id, { iat: now + 30, exp: now + 60 })),
    401,
    'from the future',
  )
  t.equal(await ask(await assertion(controllerKeys().privateJwk, id)), 401, 'another key')
  const other = fleet.controllers.create('unregistered').id
  t.equal(await ask(await assertion(privateJwk, other), other), 401, 'not registered')
})

test('ETag, restart and versions: the version rises when content changes and only then', async (t) => {
  const fleet = await startFleet()
  const { gateway } = await enrol(fleet)
  const headers = { authorization: `Bearer ${gateway.accessToken}` }
  const first = await fleet.http.send({ path: '/gateway/v1/snapshot', headers })
  const etag = String(first.headers.etag)
  const same = await fleet.http.send({
    path: '/gateway/v1/snapshot',
    headers: { ...headers, 'if-none-match': etag },
  })
  t.equal(same.status, 304)
  await fleet.snapshots.apply(configOf(), issuerKeys)
  t.equal(`"${fleet.snapshots.current().etag}"`, etag, 'the same content again')

  const changed = configOf(yaml().replace('id: in, ', 'id: in, active: false, '))
  const { snapshot } = await fleet.snapshots.apply(changed, issuerKeys)
  t.ok(snapshot.version > Number(etag.slice(1).split('-')[0]))
  t.same(
    snapshot.policies.map(({ id, version }) => [id, version]),
    [
      ['in', 2],
      ['docs', 1],
    ],
    'the version of a policy rises with that policy',
  )
  const later = await fleet.http.send({
    path: '/gateway/v1/snapshot',
    headers: { ...headers, 'if-none-match': etag },
  })
  t.equal(later.status, 200)

  const keys = JSON.stringify(fleet.keys.sealingKeys())
  const jwks = JSON.stringify(fleet.keys.snapshotJwks())
  await fleet.close()
  const again = await startFleet({ path: fleet.path, masterKey: fleet.masterKey })
  t.teardown(again.close)
  t.ok(
    again.snapshots.current().snapshot.version > snapshot.version,
    'back to the first content is a new version',
  )
  const { etag: restarted } = await again.snapshots.apply(configOf(), issuerKeys)
  t.equal(restarted, again.snapshots.current().etag)
  t.equal(JSON.stringify(again.keys.sealingKeys()), keys, 'sealing keys outlive a restart')
  t.equal(JSON.stringify(again.keys.snapshotJwks()), jwks, 'so does the signing key')
  const token = await again.http.send({ path: '/gateway/v1/snapshot', headers })
  t.equal(token.status, 200, 'and so do tokens')
  await t.rejects(startFleet({ path: fleet.path }), { code: 'internal' }, 'another master key opens nothing')
})

test('the stream tells of a change within milliseconds, and of credentials', async (t) => {
  const fleet = await startFleet({ heartbeatMs: 20 })
  t.teardown(fleet.close)
  const { gateway } = await enrol(fleet)
  const stop = new AbortController()
  t.teardown(() => stop.abort())
  const events = fleet.http.events({
    path: '/gateway/v1/stream',
    headers: { authorization: `Bearer ${gateway.accessToken}` },
    idleMs: 5_000,
    signal: stop.signal,
  })
  const next = async (name: string) => {
    for (;;) {
      const { value } = await events.next()
      if (!value) throw new Error('the stream ended')
      if (value.event === name) return JSON.parse(value.data)
    }
  }
  t.same(await next('snapshot'), {
    version: fleet.snapshots.current().snapshot.version,
    etag: `"${fleet.snapshots.current().etag}"`,
  })
  t.match(await next('heartbeat'), { version: Number, time: String })

  const started = performance.now()
  await fleet.snapshots.revoke({ subject: 'ann@example.com' })
  const told = await next('snapshot')
  const took = performance.now() - started
  t.equal(told.version, fleet.snapshots.current().snapshot.version)
  t.match(fleet.snapshots.current().snapshot.revocations, [{ subject: 'ann@example.com' }])
  t.ok(took < 500, `${took.toFixed(1)} ms`)

  const change = { issuer: 'https://gw.example', subject: 'ann@example.com', serverId: 'docs' }
  fleet.changes.publish(change)
  t.same(await next('credential'), change)
})

test('a stream ends with its token', async (t) => {
  const clock = movable()
  const fleet = await startFleet({ heartbeatMs: 10, clock })
  t.teardown(fleet.close)
  const { gateway } = await enrol(fleet)
  const headers = { authorization: `Bearer ${gateway.accessToken}` }
  const events = fleet.http.events({ path: '/gateway/v1/stream', headers, idleMs: 5_000 })
  await events.next()
  clock.advance(16 * 60_000)
  for (;;) if ((await events.next()).done) break
  await t.rejects(fleet.http.events({ path: '/gateway/v1/stream', headers, idleMs: 5_000 }).next())
})

test('bad input is refused and named without its values', async (t) => {
  const fleet = await startFleet()
  t.teardown(fleet.close)
  const body = { deviceCode: 'not-a-code', publicJwk: {}, version: '1', hostname: 'h' }
  t.match(await post(fleet.http, '/controller/v1/registrations', body), {
    status: 400,
    body: { code: 'request.invalid' },
  })
  t.match(await post(fleet.http, '/controller/v1/registrations', { x: 'y'.repeat(70_000) }), { status: 413 })
  t.match(await post(fleet.http, '/nowhere', {}), { status: 404 })
  t.notMatch(fleet.lines.join(''), /not-a-code/)
})

test('the socket is not needed twice', async (t) => {
  const fleet = await startFleet()
  await fleet.close()
  const server = createServer().listen(fleet.socket)
  await once(server, 'listening')
  t.pass('closing leaves no socket behind')
  server.close()
})

test('a credential that is not there right now is an error with its code, and does not look like a lost control plane', async (t) => {
  const fleet = await startFleet({
    credential: async () => {
      throw new Fault('credential.unavailable', { detail: 'token endpoint answered 503' })
    },
  })
  t.teardown(fleet.close)
  const { gateway } = await enrol(fleet)
  const ask = { issuer: 'https://gw.example', subject: 'ann', clientId: 'c', serverId: 'docs' }
  const answer = await post(fleet.http, '/gateway/v1/credentials', ask, gateway.accessToken)
  t.match(answer, { status: 424, body: { code: 'credential.unavailable', status: 424 } })
})
