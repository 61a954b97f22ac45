import { once } from 'node:events'
import t from 'tap'
import type { Principal } from '../../../shared/policy.ts'
import type { CredentialAnswer } from '../../../shared/wire/credential.ts'
import type { ServerWorkload } from '../../../shared/wire/snapshot.ts'
import { proves } from '../../requirements.ts'
import { origin, snapshot } from './fakes.ts'
import { type Rig, startRig } from './rig.ts'

const server = snapshot(1).servers[0]!
const person = (subject: string): Principal => ({
  issuer: origin,
  subject,
  clientId: 'agent-1',
  clientWorkload: 'cw',
  identityProvider: undefined,
  claims: {},
})
const ann = person('ann')
const headers = (value: string, expiresAt: string | null = null): CredentialAnswer => ({
  kind: 'headers',
  headers: [{ name: 'authorization', value }],
  expiresAt,
  credentialProviderId: 'cp',
})
const shown = (answer: CredentialAnswer): string =>
  answer.kind === 'headers' ? answer.headers[0]!.value : answer.kind
const get = async (rig: Rig, who = ann, to: ServerWorkload = server, rejected?: string): Promise<string> =>
  shown(await rig.edge.credentials.get(who, to, rejected))

t.test('asked once per user and server, however many want it', async (t) => {
  proves(t, 'CRED-04')
  const rig = await startRig()
  t.teardown(() => rig.close())
  let n = 0
  rig.sync.answer = () => headers(`v${++n}`)
  t.strictSame(await Promise.all([get(rig), get(rig), get(rig)]), ['v1', 'v1', 'v1'])
  t.equal(await get(rig), 'v1')
  t.match(rig.sync.asked, [{ issuer: origin, subject: 'ann', clientId: 'agent-1', serverId: 'crm' }])
  t.equal(rig.sync.asked.length, 1)
  t.equal(await get(rig, person('bob')), 'v2', 'another user')
  t.equal(await get(rig, ann, { ...server, id: 'wiki' }), 'v3', 'another server')
  t.equal(await get(rig, ann, { ...server, credential: 'none' }), 'none', 'a server that needs none')
  t.equal(rig.sync.asked.length, 3)
})

t.test(
  'another agent, and other claims of a direct token, are other questions; one invalidation drops all',
  async (t) => {
    proves(t, 'CRED-04')
    const rig = await startRig()
    t.teardown(() => rig.close())
    let n = 0
    rig.sync.answer = () => headers(`v${++n}`)
    const direct = (claims: Principal['claims']): Principal => ({ ...ann, direct: true, claims })
    const [staff, none] = [{ groups: ['staff'] }, { groups: [] }]
    const all = () =>
      Promise.all([
        get(rig),
        get(rig, { ...ann, clientId: 'agent-2' }),
        get(rig, { ...ann, claims: { browser_ip: '192.0.2.1' } }),
        get(rig, direct(staff)),
        get(rig, direct(none)),
      ])
    t.strictSame(await all(), ['v1', 'v2', 'v3', 'v4', 'v5'])
    t.strictSame(await all(), ['v1', 'v2', 'v3', 'v4', 'v5'], 'each is kept')
    t.equal(
      await get(rig, { ...ann, claims: { jti: 'x' } }),
      'v1',
      'claims of a token of ours are not asked about',
    )
    t.match(rig.sync.asked.at(-1), { claims: none })
    t.equal(rig.edge.stats().credentials, 5)
    await get(rig, person('bob'))
    rig.edge.credentials.drop(origin, 'ann', 'crm')
    t.equal(rig.edge.stats().credentials, 1, "Bob's stays")
    t.strictSame(await all(), ['v7', 'v8', 'v9', 'v10', 'v11'])
    t.equal(await get(rig, ann, server, 'digest'), 'v12')
    t.equal(
      await get(rig, { ...ann, clientId: 'agent-2' }),
      'v13',
      'what was refused may be held for others, too',
    )
  },
)

t.test('kept for 60 s or to its end, refreshed ahead', async (t) => {
  proves(t, 'CRED-05')
  const rig = await startRig()
  t.teardown(() => rig.close())
  let n = 0
  rig.sync.answer = () => headers(`v${++n}`)
  await get(rig)
  rig.clock.offset = 44_000
  t.equal(await get(rig), 'v1')
  t.equal(rig.sync.asked.length, 1)
  rig.clock.offset = 50_000
  t.equal(await get(rig), 'v1', 'still good, and asked for in the background')
  while (rig.sync.asked.length < 2 || rig.edge.stats().credentials === 0)
    await new Promise((done) => setTimeout(done, 2))
  await new Promise((done) => setTimeout(done, 20))
  t.equal(await get(rig), 'v2')
  rig.clock.offset = 111_000
  t.equal(await get(rig), 'v3', 'over after 60 s')
  rig.sync.answer = () => headers(`v${++n}`, new Date(rig.clock.now() + 20_000).toISOString())
  rig.clock.offset = 180_000
  t.equal(await get(rig), 'v4')
  rig.clock.offset = 196_000
  t.equal(await get(rig), 'v5', 'over before its own end')
  rig.sync.answer = () => headers(`v${++n}`, new Date(rig.clock.now() + 3_000).toISOString())
  rig.clock.offset = 300_000
  t.equal(await get(rig), 'v6')
  t.equal(await get(rig), 'v7', 'one that is about to end is not kept')
})

t.test('links and refusals are asked again each time', async (t) => {
  proves(t, 'CRED-06')
  const rig = await startRig()
  t.teardown(() => rig.close())
  rig.sync.answer = () => ({
    kind: 'authorization_required',
    url: 'https://x.test',
    message: 'm',
    elicitationId: 'e',
  })
  t.equal(await get(rig), 'authorization_required')
  rig.sync.answer = () => ({ kind: 'denied', reason: 'no' })
  t.equal(await get(rig), 'denied')
  rig.sync.answer = () => headers('v1')
  t.equal(await get(rig), 'v1')
})

t.test('a value that the server refused is dropped and told', async (t) => {
  const rig = await startRig()
  t.teardown(() => rig.close())
  let n = 0
  rig.sync.answer = () => headers(`v${++n}`)
  await get(rig)
  t.strictSame(await Promise.all([get(rig, ann, server, 'digest'), get(rig, ann, server, 'digest')]), [
    'v2',
    'v2',
  ])
  t.equal(rig.sync.asked.length, 2)
  t.equal(rig.sync.asked[1]?.rejected, 'digest')
  t.equal(await get(rig), 'v2', 'the new one is kept')
})

t.test('an invalidation acts at once, also on an answer that is on its way', async (t) => {
  proves(t, 'CRED-07')
  const rig = await startRig()
  t.teardown(() => rig.close())
  if (rig.sync.streams.size === 0) await once(rig.sync.server, 'stream')
  rig.sync.answer = () => headers('old')
  await get(rig)
  await get(rig, person('bob'))
  rig.sync.invalidate('ann', 'crm')
  while (rig.edge.stats().credentials !== 1) await new Promise((done) => setTimeout(done, 2))
  const { promise, resolve } = Promise.withResolvers<CredentialAnswer>()
  rig.sync.answer = () => promise
  const early = get(rig)
  const wider = rig.edge.credentials.get(ann, server, undefined, 'write').then(shown)
  while (rig.sync.asked.length < 4) await new Promise((done) => setTimeout(done, 2))
  rig.edge.credentials.drop(origin, 'ann', 'crm')
  resolve(headers('from before'))
  t.equal(await early, 'from before')
  t.equal(await wider, 'from before')
  rig.sync.answer = () => headers('new')
  t.equal(await get(rig), 'new')
})

t.test('a gap in the invalidations empties the cache', async (t) => {
  proves(t, 'CRED-08')
  const rig = await startRig()
  t.teardown(() => rig.close())
  if (rig.sync.streams.size === 0) await once(rig.sync.server, 'stream')
  rig.sync.answer = () => headers('v')
  await get(rig)
  const again = once(rig.sync.server, 'stream')
  for (const stream of rig.sync.streams) stream.end()
  await again
  while (rig.edge.stats().credentials !== 0) await new Promise((done) => setTimeout(done, 2))
  t.pass('empty')
})

t.test('no answer is a fault of that call alone', async (t) => {
  const rig = await startRig()
  t.teardown(() => rig.close())
  rig.sync.answer = () => ({ kind: 'nonsense' }) as unknown as CredentialAnswer
  await t.rejects(get(rig), { code: 'credential.unavailable' })
  rig.sync.answer = () => headers('v1')
  t.equal(await get(rig), 'v1')
})

t.test('sync goes and comes back: told both times, and nothing old is used', async (t) => {
  proves(t, 'CRED-09')
  const rig = await startRig()
  t.teardown(() => rig.close())
  const socketPath = rig.config.syncSocketPath
  rig.sync.answer = () => headers('old')
  await get(rig)
  const status = () => rig.checks.get('proxy.sync')?.status
  for (const stream of rig.sync.streams) stream.destroy()
  rig.sync.server.closeAllConnections()
  rig.sync.server.close()
  while (status() !== 'failing') await new Promise((done) => setTimeout(done, 2))
  await t.rejects(get(rig, person('bob')), { code: 'credential.unavailable' })
  t.equal(await get(rig), 'old', 'what is held still serves')
  rig.sync.answer = () => headers('new')
  rig.sync.server.listen(socketPath)
  while (status() !== 'running') await new Promise((done) => setTimeout(done, 2))
  t.equal(await get(rig), 'new', 'an invalidation may have been missed')
})
