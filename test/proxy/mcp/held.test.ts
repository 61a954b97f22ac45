import t from 'tap'
import { proves } from '../../requirements.ts'
import { post } from './legacy-server.ts'
import { until } from './notices-peers.ts'
import { type Rig, startRig } from './rig.ts'
import { open, startTeller } from './teller.ts'

const able = { roots: { listChanged: true }, elicitation: {} }

async function start(t: Tap, capabilities: object = able) {
  const [rig, server] = await Promise.all([startRig(), startTeller()])
  t.teardown(() => Promise.all([rig.close(), server.close()]))
  rig.setServers([{ prefix: 'a', url: server.url }])
  const session = await open(rig, { ...capabilities })
  await post(rig, 'tools/list', {}, session)
  await until(() => server.streams.size === 1)
  /** What the server got for the question of this id. */
  const answered = async (id: string) => {
    const found = () => server.seen.find(({ body }) => body.id === id && body.method === undefined)
    await until(() => found() !== undefined)
    return found()!.body
  }
  return { rig, server, session, answered }
}
type Tap = { teardown(work: () => unknown): void }

const reply = (rig: Rig, session: Record<string, string>, id: unknown, result: object) =>
  fetch(rig.url, {
    method: 'POST',
    headers: session,
    body: JSON.stringify({ jsonrpc: '2.0', id, result }),
  })

t.test('a question that comes while nothing runs waits for the next request of its session', async (t) => {
  proves(t, 'MCP-ASK-HELD-01')
  const { rig, server, session, answered } = await start(t)
  server.say({ id: 'q1', method: 'roots/list' })
  server.say({ id: 'q2', method: 'elicitation/create', params: { message: 'Sure?' } })
  await until(() => rig.core.stats().heldQuestions === 2)
  const other = await open(rig, able)
  t.equal((await post(rig, 'ping', {}, other)).messages.length, 1, 'not for another session')

  const { messages } = await post(rig, 'ping', {}, session)
  t.match(messages, [
    { id: /^gw-/, method: 'roots/list' },
    { id: /^gw-/, method: 'elicitation/create', params: { message: 'Sure?' } },
    { id: 1, result: {} },
  ])
  t.equal((await post(rig, 'ping', {}, session)).messages.length, 1, 'each is asked once')
  await reply(rig, session, messages[1].id, { action: 'accept' })
  t.match(await answered('q2'), { result: { action: 'accept' } })
  await reply(rig, other, messages[0].id, { roots: [{ uri: 'file:///other' }] })
  await reply(rig, session, messages[0].id, { roots: [{ uri: 'file:///mine' }] })
  t.match(
    await answered('q1'),
    { result: { roots: [{ uri: 'file:///mine' }] } },
    'whose answer it is, counts',
  )
  t.equal(rig.core.stats().heldQuestions, 0)
})

t.test(
  'what can not be answered is refused at once: not declared, too many, too large, an ended session',
  async (t) => {
    proves(t, 'MCP-ASK-HELD-01')
    const { rig, server, session, answered } = await start(t)
    server.say({ id: 'sampling', method: 'sampling/createMessage', params: {} })
    t.match(await answered('sampling'), { error: { code: -32601 } })
    server.say({ id: 'large', method: 'elicitation/create', params: { message: 'x'.repeat(70_000) } })
    t.match(await answered('large'), { error: { code: -32603 } })
    for (let at = 0; at < 9; at++) server.say({ id: `q${at}`, method: 'roots/list' })
    t.match(await answered('q8'), { error: { code: -32603 } })
    t.equal(rig.core.stats().heldQuestions, 8)
    await rig.core.endSession({ id: session['mcp-session-id'] } as never)
    await until(() => rig.core.stats().heldQuestions === 0)
    t.pass('nothing is left')
  },
)

t.test(
  'legacy servers hear that the roots of a client changed, where it said that it would tell',
  async (t) => {
    proves(t, 'MCP-ROOTS-01')
    const { rig, server, session } = await start(t)
    const change = { jsonrpc: '2.0', method: 'notifications/roots/list_changed' }
    const send = (headers: Record<string, string>) =>
      fetch(rig.url, { method: 'POST', headers, body: JSON.stringify(change) })
    t.match(server.seen.find(({ method }) => method === 'initialize')?.body, {
      params: { capabilities: { roots: { listChanged: true } } },
    })
    const silent = await open(rig, { roots: {} })
    await post(rig, 'tools/list', {}, silent)
    t.equal((await send(silent)).status, 202)
    t.equal((await send(session)).status, 202)
    await until(() => server.count(change.method) > 0)
    await post(rig, 'tools/call', { name: 'a_go' }, session)
    t.equal(server.count(change.method), 1, 'not from a client that did not announce it')
  },
)
