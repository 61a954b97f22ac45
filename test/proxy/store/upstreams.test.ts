import t from 'tap'
import { proves } from '../../requirements.ts'
import { ask, count, open, start, toldOf } from './gateways.ts'

const uri = 'note://a'
const restored = 'aembit_mcp_gateway_upstream_mcp_server_sessions_restored_count_total'

t.test('a session that moves to another gateway keeps its sessions at servers', async (t) => {
  proves(t, 'SESSION-STORE-01', 'SESSION-STORE-02')
  const { server, client, gateway } = await start(t)
  const first = await gateway()
  const session = await open(first)
  const other = await open(first)
  t.equal(await count(first, session), '1')
  t.equal(await count(first, other), '1')
  t.same((await ask(first, session, 'resources/subscribe', { uri })).result, {})
  t.equal(server.opened, 2)

  const content: string[] = []
  for (const key of await client.keys('*:session:*')) content.push(JSON.stringify(await client.hgetall(key)))
  t.match(content.join(), /upstream:a/)
  t.match(content.join(), /watch:/)
  t.notMatch(content.join(), /upstream-session|note:/, 'sealed: of no use to who reads the store')
  await first.kill()

  const second = await gateway()
  t.equal(await count(second, session), '2', 'the server goes on where it was')
  t.equal(server.opened, 2, 'nothing was opened')
  // The supervisor's ping asks for what was counted.
  second.process.send({ type: 'ping', n: 1 })
  await second.until(
    (report) =>
      report.type === 'measured' &&
      report.counts.some(([name, labels]) => name === restored && labels.includes('success')),
  )
  const ids = server.seen.flatMap(({ id, session: of }) => (id === undefined ? [] : [`${of} ${id}`]))
  t.equal(new Set(ids).size, ids.length, 'no id twice in one session')
  t.match(await toldOf(second, session), { params: { uri } }, 'nobody listened for a while')
  await server.until(() => server.update(uri) === 1)
  t.match(await toldOf(second, session), { params: { uri } }, 'subscribed as before')

  t.equal((await second.ask(null, { headers: session })).status, 204)
  await server.until(() => !server.sessions.has('upstream-session-1'))
  t.equal((await ask(second, session, 'ping')).status, 404)
  t.equal((await second.ask(null, { headers: other })).status, 204)
  await server.until(() => server.sessions.size === 0)
  t.pass('ended at the server, also where this gateway had never used it')
})

t.test('a note that was moved to another session opens nothing', async (t) => {
  proves(t, 'SESSION-STORE-02')
  const { server, client, gateway } = await start(t)
  const first = await gateway()
  const session = await open(first)
  t.equal(await count(first, session), '1')
  const [from] = await client.keys('*:session:*')
  const stolen = await client.hget(from!, 'upstream:a')
  t.type(stolen, 'string')
  const other = await open(first)
  await first.kill()
  for (const key of await client.keys('*:session:*'))
    if (key !== from) await client.hset(key, 'upstream:a', stolen!)
  const second = await gateway()
  t.equal(await count(second, other), '1', 'a session of its own')
  t.equal(server.opened, 2)
})
