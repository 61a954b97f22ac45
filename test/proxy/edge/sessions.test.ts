import t from 'tap'
import { sessionsSchema } from '../../../services/proxy/peers/protocol.ts'
import { SessionBox } from '../../../services/proxy/session-box.ts'
import { proves } from '../../requirements.ts'
import { FakeSync, token } from './fakes.ts'
import { type Rig, rpc, startRig } from './rig.ts'

const open = async (rig: Rig, more: object = {}): Promise<string> => {
  const answer = await rig.http1({
    body: rpc('initialize', { protocolVersion: '2025-11-25', capabilities: { roots: {} }, ...more }),
  })
  return String(answer.headers['mcp-session-id'])
}
const use = async (rig: Rig, id: string, more: object = {}) =>
  rig.http1({ body: rpc('tools/list'), headers: { 'mcp-session-id': id }, ...more })

t.test('an id is the session, for its own user alone', async (t) => {
  proves(t, 'SESSION-01')
  const rig = await startRig()
  t.teardown(() => rig.close())
  const id = await open(rig)
  t.match(id, /^[A-Za-z0-9_-]{100,1000}$/)
  t.equal((await use(rig, id)).status, 200)
  t.match(rig.core.calls.at(-1), {
    protocolVersion: '2025-11-25',
    session: { id, clientCapabilities: { roots: {} }, clientInfo: { name: 'test' } },
  })
  const renewed = await token({ jti: 'another token of the same user' })
  t.equal((await use(rig, id, { token: renewed })).status, 200, 'bound to the user, not to the token')
  const calls = rig.core.calls.length
  const foreign = await use(rig, id, { token: await token({ sub: 'bob@corp.test' }) })
  t.equal(foreign.status, 404)
  t.match(foreign.json, { id: 1, error: { code: 4004, data: { reason: 'session.unknown' } } })
  const unreadable = await use(rig, 'a'.repeat(200))
  t.strictSame([unreadable.status, unreadable.json], [foreign.status, foreign.json], 'looks the same')
  const last = id.at(-1)!
  const alphabet = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_'
  for (const other of [id.slice(0, -1), `${id}A`, `${id.slice(0, 40)}x${id.slice(41)}`, 'é', '']) {
    if (other !== '') t.equal((await use(rig, encodeURI(other))).status, 404, 'changed')
  }
  const sibling = id.slice(0, -1) + alphabet[alphabet.indexOf(last) ^ 1]
  t.equal((await use(rig, sibling)).status, 404, 'one session has one spelling')
  t.equal(rig.core.calls.length, calls, 'the core saw none of them')
  t.equal((await use(rig, id, { method: 'POST' })).status, 200, 'the session itself is unharmed')
})

t.test('a restart with the same key keeps it; another key does not', async (t) => {
  proves(t, 'SESSION-02')
  const [first, second] = [await startRig(), await startRig()]
  const strange = new FakeSync()
  strange.keys = [{ kid: 'b', key: Buffer.alloc(32, 8).toString('base64url') }]
  const third = await startRig({ sync: strange })
  t.teardown(() => Promise.all([first.close(), second.close(), third.close()]))
  const id = await open(first)
  t.equal((await use(second, id)).status, 200)
  t.equal((await use(third, id)).status, 404)
})

t.test('DELETE is 204 once, then 404', async (t) => {
  proves(t, 'SESSION-03')
  const rig = await startRig({ config: { snapshotMaxAgeMs: 1e9 } })
  t.teardown(() => rig.close())
  const [id, other] = [await open(rig), await open(rig)]
  const end = (bearer?: string) =>
    rig.http1({ method: 'DELETE', headers: { 'mcp-session-id': id }, ...(bearer ? { token: bearer } : {}) })
  t.equal((await end(await token({ sub: 'bob@corp.test' }))).status, 404, 'not by another user')
  const ended = await end()
  t.strictSame([ended.status, ended.text], [204, ''])
  t.equal(rig.core.ended[0]?.id, id, 'upstream sessions end too')
  t.equal((await end()).status, 404)
  t.equal((await use(rig, id)).status, 404)
  t.equal((await use(rig, other)).status, 200, 'the other session lives')
  rig.clock.offset += 3_590_000
  const bearer = await token({ exp: Math.floor(Date.now() / 1000) + 86_400 })
  t.equal((await use(rig, id, { token: bearer })).status, 404, 'for as long as the id could live')
})

t.test('idle time counts from the last use, else from issue', async (t) => {
  proves(t, 'SESSION-04')
  const rig = await startRig({ config: { snapshotMaxAgeMs: 1e9 } })
  t.teardown(() => rig.close())
  const bearer = await token({ exp: Math.floor(Date.now() / 1000) + 86_400 })
  const [used, unused] = [await open(rig), await open(rig)]
  rig.clock.offset = 3_000_000
  t.equal((await use(rig, used, { token: bearer })).status, 200)
  rig.clock.offset = 6_000_000
  t.equal((await use(rig, used, { token: bearer })).status, 200, '50 min after its last use')
  t.equal((await use(rig, unused, { token: bearer })).status, 404, '100 min after issue')
  rig.clock.offset = 9_700_000
  t.equal((await use(rig, used, { token: bearer })).status, 404, '61 min after its last use')
  t.equal((await use(rig, used, { token: bearer })).status, 404, 'and it stays dead')
})

t.test('a worker that begins knows when the others last saw a session, and passes it on', async (t) => {
  proves(t, 'SESSION-04')
  const config = { snapshotMaxAgeMs: 1e9 }
  const [first, second, third] = [
    await startRig({ config }),
    await startRig({ config }),
    await startRig({ config }),
  ]
  t.teardown(() => Promise.all([first.close(), second.close(), third.close()]))
  const bearer = await token({ exp: Math.floor(Date.now() / 1000) + 86_400 })
  const [used, unused] = [await open(first), await open(first)]
  first.clock.offset = 3_000_000
  t.equal((await use(first, used, { token: bearer })).status, 200)
  const told = (rig: Rig) => sessionsSchema.parse(JSON.parse(JSON.stringify(rig.edge.sessions.shared())))
  t.equal(told(first).uses?.length, 1, 'of those that were used since they were issued')
  second.edge.sessions.learn(told(first))
  third.edge.sessions.learn(told(second))
  for (const rig of [second, third]) {
    rig.clock.offset = 6_000_000
    t.equal((await use(rig, used, { token: bearer })).status, 200, '50 min after its last use')
    t.equal((await use(rig, unused, { token: bearer })).status, 404, '100 min after issue')
    rig.clock.offset = 9_700_000
    t.equal((await use(rig, used, { token: bearer })).status, 404, '61 min after its last use')
  }
  const { uses: _unknown, ...older } = told(first)
  third.edge.sessions.learn(older)
  t.pass('an earlier release says nothing of it')
})

t.test('the id stays small whatever the client declares', async (t) => {
  proves(t, 'SESSION-05')
  const rig = await startRig()
  t.teardown(() => rig.close())
  const huge = {
    experimental: { x: 'y'.repeat(20_000) },
    elicitation: { url: {} },
    sampling: { z: 'y'.repeat(500) },
  }
  const id = await open(rig, { capabilities: huge })
  t.ok(id.length < 1_000, `${id.length}`)
  await use(rig, id)
  t.strictSame(rig.core.calls.at(-1)?.session?.clientCapabilities, { elicitation: { url: {} }, sampling: {} })
})

t.test('initialize does not need, or mind, a dead session id', async (t) => {
  proves(t, 'SESSION-06')
  const rig = await startRig()
  t.teardown(() => rig.close())
  const again = await rig.http1({ body: rpc('initialize', {}), headers: { 'mcp-session-id': 'dead' } })
  t.equal(again.status, 200)
})

t.test('without keys: told to try again, and the keys are asked for until they come', async (t) => {
  proves(t, 'SESSION-07')
  const sync = new FakeSync()
  sync.keys = null
  const rig = await startRig({ sync })
  t.teardown(() => rig.close())
  const cold = await rig.http1({ body: rpc('initialize', {}) })
  t.equal(cold.status, 503)
  t.match(cold.json.error.data, { reason: 'session.keys_missing', retry: true })
  t.equal((await use(rig, 'some-id')).status, 503, 'an id that can not be read yet is not an unknown one')
  t.equal((await rig.http1({ body: rpc('tools/list') })).status, 200, 'what needs no session works')
  while (sync.keysAsked < 2) await new Promise((done) => setTimeout(done, 5))
  t.equal(rig.checks.get('proxy.sync')?.status, 'failing')
  sync.keys = [{ kid: 'a', key: Buffer.alloc(32, 7).toString('base64url') }]
  while (rig.checks.get('proxy.sync')?.status !== 'running') await new Promise((done) => setTimeout(done, 5))
  t.equal((await use(rig, await open(rig))).status, 200)
})

t.test('the box: seals with the newest key, opens with any', async (t) => {
  proves(t, 'SESSION-08')
  const key = (kid: string, byte: number) => ({ kid, key: Buffer.alloc(32, byte).toString('base64url') })
  const box = new SessionBox()
  t.equal(box.seal(Buffer.from('x')), undefined)
  box.rekey({ keys: [key('a', 1)] })
  const old = box.seal(Buffer.from('hello'))!
  t.not(box.seal(Buffer.from('hello')), old, 'never the same box twice')
  const cursor = box.seal(Buffer.from('page 2'), 'cursor')!
  t.equal(String(box.open(cursor, 'cursor')), 'page 2')
  t.equal(box.open(cursor), undefined, 'a box of one purpose is none of another')
  box.rekey({ keys: [key('b', 2), key('a', 1)] })
  t.equal(String(box.open(old)), 'hello')
  box.rekey({ keys: [key('b', 2)] })
  t.equal(box.open(old), undefined)
  box.rekey({ keys: [key('a', 9)] })
  t.equal(box.open(old), undefined, 'the name of a key is not the key')
})
