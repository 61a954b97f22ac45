import { createLocalJWKSet, decodeProtectedHeader, type JSONWebKeySet, jwtVerify } from 'jose'
import t from 'tap'
import { createKeyRotation, keyLeadMs } from '../../../services/control-plane/authorization/key-rotation.ts'
import { createLogger } from '../../../shared/log.ts'
import { proves } from '../../requirements.ts'
import { obtainTokens, refresh, startWorld, TestClock, type World } from './world.ts'

/** Signing keys overlap: a successor is published before it signs, its predecessor for as long as its tokens live. */
const day = 86_400_000

function rotating(world: World, clock: TestClock) {
  const applied: string[][] = []
  const rotation = createKeyRotation({
    keys: world.plane.keys,
    clock,
    log: createLogger('test', 'off'),
    everyMs: () => 90 * day,
    tokenMs: () => 900_000,
    apply: async () => {
      await world.apply({})
      applied.push(world.plane.keys.list().map(({ algorithm, state }) => `${algorithm} ${state}`))
    },
  })
  return { rotation, applied }
}
const published = async (world: World): Promise<JSONWebKeySet> =>
  (await (await fetch(`${world.origin}/.well-known/openid-configuration/jwks`)).json()) as JSONWebKeySet
const verifies = async (world: World, token: string): Promise<boolean> =>
  jwtVerify(token, createLocalJWKSet(await published(world))).then(
    () => true,
    () => false,
  )

t.test('a manual rotation: published, then signing, then forgotten', async (t) => {
  proves(t, 'OAUTH-37')
  const clock = new TestClock()
  const world = await startWorld({ clock })
  t.teardown(() => world.close())
  const { rotation } = rotating(world, clock)
  const { client, tokens } = await obtainTokens(world)
  const first = decodeProtectedHeader(tokens.access_token).kid
  const before = (await published(world)).keys.length
  await rotation.rotate(false)
  await rotation.rotate(false)
  t.equal((await published(world)).keys.length, before * 2, 'the successors are known, once')
  const second = (await refresh(world, client.client_id, tokens.refresh_token!)).body
  t.equal(decodeProtectedHeader(second.access_token).kid, first, 'and do not sign yet')
  clock.offset += keyLeadMs - 60_000
  await rotation.tick()
  t.ok(world.plane.keys.list().some(({ state }) => state === 'next'))
  clock.offset += 61_000
  await rotation.tick()
  const third = (await refresh(world, client.client_id, second.refresh_token!)).body
  t.not(decodeProtectedHeader(third.access_token).kid, first, 'the successor signs')
  t.ok(await verifies(world, third.access_token))
  t.ok(await verifies(world, tokens.access_token), 'what the former key signed still verifies')
  clock.offset += 3 * day
  await rotation.tick()
  t.notOk(await verifies(world, tokens.access_token), 'until it is long over')
  t.equal((await published(world)).keys.length, before)
})

t.test('by the clock: each key signs for as long as configured', async (t) => {
  const clock = new TestClock()
  const world = await startWorld({ clock })
  t.teardown(() => world.close())
  const { rotation, applied } = rotating(world, clock)
  await rotation.tick()
  t.same(applied, [], 'nothing to do for new keys')
  clock.offset += 90 * day
  await rotation.tick()
  await rotation.tick()
  t.equal(applied.length, 1)
  clock.offset += keyLeadMs + 1
  await rotation.tick()
  const states = world.plane.keys.list().map(({ state }) => state)
  t.same(states.sort(), ['active', 'active', 'retired', 'retired'])
})

t.test('a compromised key: replaced at once, and nothing it signed is taken any more', async (t) => {
  proves(t, 'OAUTH-38')
  const clock = new TestClock()
  const world = await startWorld({ clock })
  t.teardown(() => world.close())
  const { rotation } = rotating(world, clock)
  const { client, tokens } = await obtainTokens(world)
  await rotation.rotate(true)
  t.notOk(await verifies(world, tokens.access_token))
  const next = await refresh(world, client.client_id, tokens.refresh_token!)
  t.equal(next.status, 200, 'agents refresh and go on')
  t.ok(await verifies(world, next.body.access_token))
})
