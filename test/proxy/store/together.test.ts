import t from 'tap'
import { proves } from '../../requirements.ts'
import { ask, count, open, start, toldOf } from './gateways.ts'

const uri = 'note://a'

t.test('gateways that serve one session at once share what it has at servers', async (t) => {
  proves(t, 'SESSION-STORE-01', 'SESSION-STORE-03')
  const { server, gateway } = await start(t)
  const [first, second] = await Promise.all([gateway(), gateway()])
  const session = await open(first)
  for (const [at, expected] of [
    [first, '1'],
    [second, '2'],
    [first, '3'],
  ] as const)
    t.equal(await count(at, session), expected)
  t.equal(server.opened, 1)

  t.same((await ask(second, session, 'resources/subscribe', { uri })).result, {})
  // Whichever of them has the one stream: the other one is told.
  await server.until(() => server.update(uri) === 1)
  t.match(await toldOf(second, session), { params: { uri } })
  server.update(uri)
  t.match(await toldOf(first, session), { params: { uri } })

  t.equal((await second.ask(null, { headers: session })).status, 204)
  await server.until(() => server.sessions.size === 0)
  t.equal((await ask(first, session, 'ping')).status, 404)
  const before = server.opened
  t.equal((await ask(first, session, 'tools/list')).status, 404)
  t.equal(server.opened, before, 'no gateway opens anything for it again')
})

t.test('a session at a server that is gone meanwhile is opened anew, by one for all', async (t) => {
  proves(t, 'SESSION-STORE-01')
  const { server, gateway } = await start(t)
  const first = await gateway()
  const session = await open(first)
  t.equal(await count(first, session), '1')
  const second = await gateway()
  server.forget()
  t.equal(await count(second, session), '1', 'answered')
  t.equal(server.opened, 2)
  t.equal(await count(first, session), '2', 'the other gateway goes on with what this one opened')
  t.equal(server.opened, 2)
})
