import t from 'tap'
import { Flights, type RequestCall } from '../../../services/proxy/mcp/flight.ts'
import type { JsonObject } from '../../../services/proxy/mcp/protocol/types.ts'
import { proves } from '../../requirements.ts'
import { startAsking } from './asking-server.ts'
import { converse, open } from './legacy-server.ts'
import { startRig } from './rig.ts'

type Tap = { teardown(work: () => unknown): void }
const limitMs = 300
const wait = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms))

/** A call whose server asks; the person answers `elicitation/create` after `thinkMs`, everything else at once. */
async function start(t: Tap, thinkMs: number) {
  const [rig, server] = await Promise.all([startRig({ timeouts: { tools_call: limitMs } }), startAsking()])
  t.teardown(() => Promise.all([rig.close(), server.close()]))
  rig.setServers([{ prefix: 'a', url: server.url }])
  const { session } = await open(rig, { elicitation: {}, roots: {} })
  const call = async (meta: JsonObject = {}) => {
    const params = { name: 'a_go', _meta: meta }
    const messages = await converse(rig, session, params, async ({ method }) => {
      if (method === 'roots/list') return { result: { roots: [] } }
      await wait(thinkMs)
      return { result: { action: 'accept' } }
    })
    return messages.at(-1)
  }
  return { server, call }
}

t.test('a second question that is answered at once leaves the time for the first', async (t) => {
  proves(t, 'MCP-ASK-02')
  const { server, call } = await start(t, limitMs * 3)
  const answer = call()
  await server.call(0)
  server.ask(0, 'roots', 'roots/list')
  server.ask(0, 'sure')
  t.match(await server.answerTo('roots'), { result: { roots: [] } })
  t.match(await server.answerTo('sure'), { result: { action: 'accept' } })
  server.finish(0)
  t.match(await answer, { result: { content: [{ text: 'done' }] } })
})

t.test('progress during a question leaves the time for it', async (t) => {
  proves(t, 'MCP-ASK-02', 'MCP-PROGRESS-01')
  const { server, call } = await start(t, limitMs * 3)
  const answer = call({ progressToken: 'mine' })
  const { progressToken } = await server.call(0)
  server.ask(0, 'sure')
  await wait(limitMs / 3)
  server.tell(0, 'notifications/progress', { progressToken, progress: 1 })
  t.match(await server.answerTo('sure'), { result: { action: 'accept' } })
  server.finish(0)
  t.match(await answer, { result: { content: [{ text: 'done' }] } })
})

t.test(
  'time to think does not count towards the hard limit, and silence after it ends the call',
  async (t) => {
    proves(t, 'MCP-ASK-02', 'MCP-PROGRESS-01')
    const { server, call } = await start(t, limitMs * 11)
    const answer = call()
    await server.call(0)
    server.ask(0, 'sure')
    t.match(await server.answerTo('sure'), { result: { action: 'accept' } })
    await wait(limitMs / 3)
    server.finish(0)
    t.match(await answer, { result: { content: [{ text: 'done' }] } })
    const silent = call()
    await server.call(1)
    server.ask(1, 'again')
    t.match(await silent, { error: { code: 5040 } })
  },
)

t.test('a call that is cancelled waits no more for a client that does not take its question', async (t) => {
  proves(t, 'MCP-STREAM-02', 'MCP-CANCEL-01')
  const flights = new Flights(() => 'owner', '0')
  const stream = { send: () => new Promise<void>(() => {}), comment: () => {}, end: () => {} }
  const call = {
    era: 'legacy',
    message: { jsonrpc: '2.0', id: 1, method: 'tools/call' },
    signal: new AbortController().signal,
    reply: { stream: () => stream },
  } as unknown as RequestCall
  const flight = flights.open(call, 60_000)
  const asked = flight.ask({ method: 'elicitation/create' })
  flights.cancel('owner', 1)
  t.match(await asked, { error: { code: -32603 } })
  flights.close(flight)
  t.equal(await flights.drained(0), 0)
  flights.end()
})
