import { mkdtempSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import Fastify from 'fastify'
import { type Test, test } from 'tap'
import { loadAdminToken } from '../../../services/control-plane/api/admin-token.ts'
import { registerApi } from '../../../services/control-plane/api/routes.ts'
import { systemClock } from '../../../shared/clock.ts'
import { proves } from '../../requirements.ts'
import { memoryLog, startFleet } from './rig.ts'

async function startApi(t: Test) {
  const fleet = await startFleet()
  t.teardown(fleet.close)
  const tokenPath = join(mkdtempSync(join(tmpdir(), 'api-')), 'admin-token')
  const { log, lines } = memoryLog()
  const app = Fastify()
  registerApi(app, {
    ...fleet,
    isAdmin: await loadAdminToken(tokenPath),
    version: '1.2.3',
    clock: systemClock,
    log,
  })
  const origin = await app.listen({ port: 0, host: '127.0.0.1' })
  t.teardown(() => app.close())
  const token = readFileSync(tokenPath, 'utf8').trim()
  const call = async (method: string, path: string, body?: unknown, bearer: string | null = token) => {
    const response = await fetch(`${origin}/api/v1${path}`, {
      method,
      headers: {
        ...(bearer === null ? {} : { authorization: `Bearer ${bearer}` }),
        ...(body === undefined ? {} : { 'content-type': 'application/json' }),
      },
      ...(body === undefined ? {} : { body: typeof body === 'string' ? body : JSON.stringify(body) }),
    })
    const answer = (await response.json()) as Record<string, unknown>
    return { status: response.status, body: answer, headers: response.headers }
  }
  return { fleet, call, token, tokenPath, lines }
}

test('the token is made once, private, and needed everywhere but for health', async (t) => {
  proves(t, 'CP-03')
  const { call, token, tokenPath, lines } = await startApi(t)
  t.equal(statSync(tokenPath).mode & 0o777, 0o600)
  t.equal((await loadAdminToken(tokenPath))(`Bearer ${token}`), true, 'the same at the next start')
  for (const bearer of [null, 'x', `${token}x`, token.slice(1)]) {
    const answer = await call('GET', '/agent-controllers', undefined, bearer)
    t.match(answer, { status: 401, body: { success: false, message: /token/, id: Number } })
    t.match(answer.headers.get('www-authenticate'), /^Bearer/)
  }
  t.same((await call('GET', '/health', undefined, null)).body, { status: 'Healthy' })
  t.match((await call('GET', '/health')).body, {
    status: 'Healthy',
    version: '1.2.3',
    snapshotVersion: Number,
  })
  t.notMatch(lines.join(''), token)
})

test('trying tokens is limited', async (t) => {
  const { call } = await startApi(t)
  const statuses = []
  for (let guess = 0; guess < 25; guess += 1)
    statuses.push((await call('GET', '/agent-controllers', undefined, 'wrong')).status)
  t.equal(statuses.at(0), 401)
  t.equal(statuses.at(-1), 429)
  t.equal((await call('GET', '/agent-controllers')).status, 200, 'the right one still works')
})

test('a token file that others may read, or that is too short, is refused', async (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'api-'))
  writeFileSync(join(folder, 'open'), 'x'.repeat(40), { mode: 0o644 })
  await t.rejects(loadAdminToken(join(folder, 'open')), { code: 'config.invalid' })
  writeFileSync(join(folder, 'short'), 'short', { mode: 0o600 })
  await t.rejects(loadAdminToken(join(folder, 'short')), { code: 'config.invalid' })
})

test('agent controllers and their device codes', async (t) => {
  const { call, lines } = await startApi(t)
  const made = await call('POST', '/agent-controllers', { name: 'host one' })
  t.match(made, {
    status: 201,
    body: { externalId: String, name: 'host one', isHealthy: false, isRegistered: false },
  })
  const code = await call('POST', `/agent-controllers/${made.body.externalId}/device-code`)
  t.match(code, { status: 201, body: { device_code: /^\d{6}$/ } })
  t.notMatch(lines.join(''), new RegExp(`\\b${code.body.device_code}\\b`))
  const all = await call('GET', '/agent-controllers')
  t.match(all.body, {
    page: 1,
    order: 'asc',
    statusCode: 200,
    recordsTotal: 1,
    entities: [{ name: 'host one' }],
  })
  t.match(await call('POST', '/agent-controllers/nobody/device-code'), {
    status: 404,
    body: { success: false },
  })
  t.match(await call('POST', '/agent-controllers', { name: '' }), {
    status: 400,
    body: { success: false, message: /name/ },
  })
  t.match(await call('POST', '/agent-controllers', '{'), { status: 400, body: { success: false } })
  t.match(await call('GET', '/nothing'), { status: 404, body: { success: false } })
})

test('workload events in the documented list shape', async (t) => {
  proves(t, 'EVENT-07')
  const { call } = await startApi(t)
  const empty = await call('GET', '/workload-events?search=x&span-last-hours=1&page=2&per-page=10')
  t.same(empty.body, { page: 2, perPage: 10, order: 'desc', statusCode: 200, recordsTotal: 0, entities: [] })
  for (const query of ['page=0', 'per-page=100000', 'span-last-hours=-1', 'severity=Loud']) {
    t.equal((await call('GET', `/workload-events?${query}`)).status, 400, query)
  }
})

test('the kill switch is set, listed, taken back, audited, and in the snapshot while it acts', async (t) => {
  proves(t, 'KILL-01')
  const { fleet, call, lines } = await startApi(t)
  const blocks = () => fleet.snapshots.current().snapshot.blocks ?? []
  const before = fleet.snapshots.current().snapshot.version
  const user = { kind: 'user', value: 'ann@example.com', reason: 'laptop lost' }
  const made = await call('POST', '/kill-switch', user)
  t.match(made, { status: 201, body: { ...user, isActive: true, revertedAt: null } })
  t.same(blocks(), [{ kind: 'user', value: 'ann@example.com' }])
  t.ok(fleet.snapshots.current().snapshot.version > before, 'gateways are told')
  const again = await call('POST', '/kill-switch', user)
  t.match(again, { status: 200, body: { externalId: made.body.externalId as string } }, 'once is enough')

  const part = (value: unknown) => Buffer.from(JSON.stringify(value)).toString('base64url')
  const jwt = `${part({ alg: 'RS256' })}.${part({ jti: 'the-jti' })}.c2ln`
  const token = await call('POST', '/kill-switch', { kind: 'token', value: jwt, reason: 'leaked' })
  t.equal(token.body.value, 'the-jti', 'of a whole token its name alone is kept')
  const nameless = `${part({ alg: 'RS256' })}.${part({})}.c2ln`
  t.match(await call('POST', '/kill-switch', { kind: 'token', value: nameless, reason: 'x' }), {
    status: 400,
    body: { message: /no jti/ },
  })
  for (const bad of [
    {},
    { ...user, kind: 'everything' },
    { ...user, reason: ' ' },
    { ...user, value: '' },
    { ...user, more: 1 },
  ]) {
    t.equal((await call('POST', '/kill-switch', bad)).status, 400, JSON.stringify(bad))
  }
  t.equal((await call('POST', '/kill-switch', user, null)).status, 401)
  t.equal((await call('DELETE', `/kill-switch/${made.body.externalId}`, undefined, 'wrong')).status, 401)
  t.match((await call('GET', '/kill-switch')).body, { recordsTotal: 2 })

  const gone = await call('DELETE', `/kill-switch/${made.body.externalId}`)
  t.match(gone, { status: 200, body: { isActive: false, revertedAt: /^2/ } })
  t.same(blocks(), [{ kind: 'token', value: 'the-jti' }])
  t.equal((await call('DELETE', `/kill-switch/${made.body.externalId}`)).status, 404, 'once')
  t.match((await call('GET', '/kill-switch')).body, { recordsTotal: 1 })
  t.match((await call('GET', '/kill-switch?active=false')).body, { recordsTotal: 2 })
  t.match((await call('GET', '/audit-logs')).body, {
    recordsTotal: 3,
    entities: [
      {
        activity: 'Kill switch taken back',
        target: 'user ann@example.com',
        severity: 'Alert',
        actor: { type: 'Administrator' },
        detail: { reason: 'laptop lost' },
      },
      { activity: 'Kill switch set', target: 'token the-jti', category: 'Authentication' },
      { activity: 'Kill switch set', target: 'user ann@example.com', category: 'Users' },
    ],
  })
  t.notMatch(JSON.stringify([lines, (await call('GET', '/audit-logs')).body]), jwt)
})

test('authorization events are listed, newest first', async (t) => {
  const { fleet, call } = await startApi(t)
  for (const userId of ['ann', 'bob']) {
    fleet.accessEvents.add({
      eventType: 'access.credential',
      severity: 'Info',
      outcome: { result: 'Authorized' },
      environment: { userId, oauthClientId: 'agent' },
    })
  }
  t.match((await call('GET', '/authorization-events')).body, {
    recordsTotal: 2,
    entities: [{ environment: { userId: 'bob' } }, { environment: { userId: 'ann' } }],
  })
  t.match((await call('GET', '/authorization-events?user=ann&severity=Info')).body, { recordsTotal: 1 })
  t.equal((await call('GET', '/authorization-events?severity=Loud')).status, 400)
})
