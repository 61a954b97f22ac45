import { setTimeout as pause } from 'node:timers/promises'
import t from 'tap'
import { proves } from '../requirements.ts'
import { caller } from './caller.ts'
import { type LogLine, node, scripted, startAdapter, until } from './rig.ts'

t.setTimeout(240_000)
const start = async (server: Record<string, unknown>) => {
  const adapter = await startAdapter({ s: { ...node(scripted), ...server } })
  const of = (msg: string): LogLine[] => adapter.log.filter((line) => line.msg === msg)
  return {
    ...adapter,
    person: (party: string, credential?: string) => caller(adapter.socketPath, party, credential),
    starts: () => of('server started'),
    ends: () => of('server ended'),
  }
}

t.test('who only listens does not have a process that made room started again', async (t) => {
  proves(t, 'MCP-STDIO-05')
  const adapter = await start({ maxProcesses: 1 })
  t.teardown(adapter.close)
  const [ann, bob] = [adapter.person('ann'), adapter.person('bob')]
  const first = await ann.open()
  const stream = await ann.listen(first)
  let over = false
  stream.once('close', () => {
    over = true
  })
  stream.resume()
  await bob.open()
  await until(() => adapter.ends().length === 1)
  t.equal((await ann.call(first, 'count')).status, 404, 'the next request opens another session')
  t.equal(over, false, 'the stream stays, silent')
  const second = await ann.open()
  t.match(await ann.call(second, 'count'), { status: 200, text: /counted/ })
  t.equal(adapter.starts().length, 3)
})

t.test(
  'at no moment are there more processes than allowed, also of those that are slow to end',
  async (t) => {
    proves(t, 'MCP-STDIO-06')
    const adapter = await start({ ...node(scripted, 'stays'), maxProcesses: 2 })
    t.teardown(adapter.close)
    const open = (...parties: string[]) => Promise.all(parties.map((party) => adapter.person(party).open()))
    await open('ann', 'bob')
    await open('carol', 'dan')
    t.equal(adapter.starts().length, 4)
    let there = 0
    let most = 0
    for (const { msg } of adapter.log) {
      if (msg === 'server started') most = Math.max(most, ++there)
      if (msg === 'server ended') there--
    }
    t.equal(most, 2)
  },
)

t.test('where all stay busy a request is refused', async (t) => {
  const adapter = await start({ maxProcesses: 1 })
  t.teardown(adapter.close)
  const [ann, bob] = [adapter.person('ann'), adapter.person('bob')]
  const session = await ann.open()
  void ann.call(session, 'hang').catch(() => {})
  // In order: an answer to a later call says that the server has the former.
  await ann.call(session, 'count')
  await t.rejects(bob.open(), /503 all 1 processes of s are busy/)
  t.equal(adapter.starts().length, 1)
})

t.test('room is made by whoever has most: one person does not push out the others', async (t) => {
  proves(t, 'MCP-STDIO-07')
  const adapter = await start({ maxProcesses: 3 })
  t.teardown(adapter.close)
  const [ann, bob, carol] = ['ann', 'bob', 'carol'].map((party) => adapter.person(party))
  const bobs = await bob!.open()
  const anns = [await ann!.open(), await ann!.open()]
  // What was used within the last second is left alone.
  await pause(1_100)
  await carol!.open()
  t.equal((await bob!.call(bobs, 'count')).status, 200, 'the longest idle one of all, and his only one')
  t.equal((await ann!.call(anns[0]!, 'count')).status, 404)
  t.equal((await ann!.call(anns[1]!, 'count')).status, 200)
})

t.test("a process that one person's credential breaks costs nobody else a wait", async (t) => {
  proves(t, 'MCP-STDIO-08')
  const adapter = await start({ credential: { env: 'API_TOKEN' } })
  t.teardown(adapter.close)
  const [ann, bob] = [adapter.person('ann', 'revoked'), adapter.person('bob', 'good')]
  await t.rejects(ann.open(), /502 .*exited with code 3/)
  await t.rejects(ann.open(), /502 .*exited with code 3/)
  await t.rejects(ann.open(), /503 .*next start in/)
  const session = await bob.open()
  t.match(await bob.call(session, 'count'), { status: 200, text: /counted/ })
  t.ok(await adapter.person('ann', 'renewed').open(), 'nor the same person with another one')
})
