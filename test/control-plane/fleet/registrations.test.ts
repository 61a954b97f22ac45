import { test } from 'tap'
import { createOAuthClients } from '../../../services/control-plane/credentials/oauth-clients.ts'
import type { Outbound } from '../../../services/control-plane/credentials/outbound.ts'
import { createSealer } from '../../../services/control-plane/credentials/sealer.ts'
import { openDatabase } from '../../../services/control-plane/store/database.ts'
import { proves } from '../../requirements.ts'
import { TestClock } from '../identity/world.ts'
import { connect, scene, tokenOf } from './credential-rig.ts'

const json = { 'content-type': 'application/json' }
const refusal = (status: number, error: string, headers = {}) => ({
  status,
  headers: { ...json, ...headers },
  body: JSON.stringify({ error }),
})
const challenge = { 'www-authenticate': 'Basic realm="as"' }

test('one person’s refusal at a refresh leaves the registration and everybody else alone', async (t) => {
  proves(t, 'CRED-100')
  const { upstream, plane } = await scene(t)
  const registrations = () => upstream.requests.filter((line) => line === 'POST /reg').length
  await connect(plane, upstream, 'ann')
  await connect(plane, upstream, 'bob')
  for (const code of ['access_denied', 'unauthorized_client']) {
    plane.clock.offset += 3_600_000
    upstream.tokenRefusal = refusal(400, code)
    t.match(await plane.ask('ann'), { kind: 'authorization_required', reason: code })
    upstream.tokenRefusal = undefined
    t.equal(await upstream.accountOf(tokenOf(await plane.ask('bob'))), 'bob-at-notes', code)
    await connect(plane, upstream, 'ann')
    t.equal(registrations(), 1)
  }
})

test('a challenge that is no OAuth error ends nothing', async (t) => {
  proves(t, 'CRED-100')
  const { upstream, plane } = await scene(t)
  await connect(plane, upstream, 'ann')
  plane.clock.offset += 3_600_000
  upstream.tokenRefusal = { status: 401, headers: challenge, body: '<html>proxy</html>' }
  await t.rejects(plane.ask('ann'), { code: 'credential.unavailable' })
  upstream.tokenRefusal = undefined
  plane.clock.offset += 60_000
  t.equal((await plane.ask('ann')).kind, 'headers')
})

test('a client that the server does not know: new connections register anew, former ones go on while it knows them', async (t) => {
  proves(t, 'CRED-100')
  const { upstream, plane } = await scene(t)
  const registrations = () => upstream.requests.filter((line) => line === 'POST /reg').length
  await connect(plane, upstream, 'ann')
  await connect(plane, upstream, 'bob')
  plane.clock.offset += 3_600_000
  upstream.tokenRefusal = refusal(401, 'invalid_client', challenge)
  t.match(await plane.ask('ann'), { kind: 'authorization_required', reason: 'invalid_client' })
  upstream.tokenRefusal = undefined
  await connect(plane, upstream, 'ann')
  t.equal(registrations(), 2)
  t.equal(await upstream.accountOf(tokenOf(await plane.ask('bob'))), 'bob-at-notes', 'with the former client')
  plane.clock.offset += 3_600_000
  upstream.tokenRefusal = refusal(401, 'invalid_client', challenge)
  t.match(await plane.ask('bob'), { kind: 'authorization_required', reason: 'invalid_client' })
  upstream.tokenRefusal = undefined
  await connect(plane, upstream, 'bob')
  t.equal(registrations(), 2, 'the new client was not the one that was refused')
  t.equal((await plane.ask('ann')).kind, 'headers')
})

test('retired registrations are bounded, and no other server’s or provider’s', async (t) => {
  proves(t, 'CRED-100')
  const clock = new TestClock()
  let n = 0
  const outbound = {
    fetch: async () => new Response(JSON.stringify({ client_id: `c${n}` }), { status: 201 }),
  } as unknown as Outbound
  const clients = createOAuthClients(
    openDatabase(':memory:'),
    createSealer(Buffer.alloc(32, 1)),
    clock,
    () => 'gateway',
    () => undefined,
  )
  const server = (issuer: string) => ({
    issuer,
    authorization_endpoint: `${issuer}/a`,
    token_endpoint: `${issuer}/t`,
    registration_endpoint: `${issuer}/r`,
  })
  const [one, other] = [server('https://one.example'), server('https://other.example')]
  const obtain = (at = one) => clients.obtain({ id: 'p' }, at, 'https://gw.example/cb', outbound)
  await obtain(other)
  for (n = 1; n <= 25; n++) {
    await obtain()
    clock.offset += 1_000
    clients.retire({ id: 'p' }, one, `c${n}`)
    clients.retire({ id: 'q' }, other, 'c0')
  }
  const known = Array.from({ length: 26 }, (_, i) => clients.known({ id: 'p' }, one, `c${i}`)?.clientId)
  t.strictSame(known, [...Array(6).fill(undefined), ...Array.from({ length: 20 }, (_, i) => `c${i + 6}`)])
  t.equal((await obtain(other)).clientId, 'c0')
})
