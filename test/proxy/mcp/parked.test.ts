import {
  Client as ClientV2,
  StreamableHTTPClientTransport as TransportV2,
} from '@modelcontextprotocol/client'
import t from 'tap'
import type { JsonObject, JsonRpcResponse } from '../../../services/proxy/mcp/protocol/types.ts'
import { Fault } from '../../../shared/faults.ts'
import { startAsking } from './asking-server.ts'
import { post } from './legacy-server.ts'
import { modernMeta } from './modern-server.ts'
import { type Rig, startEverything, startRig } from './rig.ts'

const able = { elicitation: { form: {} }, sampling: {}, roots: {} }

const go = (
  rig: Rig,
  more: JsonObject = {},
  headers: Record<string, string> = {},
  capabilities: JsonObject = able,
) =>
  post(rig, 'tools/call', { name: 'a_go', arguments: {}, _meta: modernMeta(capabilities), ...more }, headers)

const keysOf = (answer: JsonRpcResponse): string[] => Object.keys(answer.result?.inputRequests as JsonObject)

t.test('a server that nobody here wrote asks a modern client in mid-call', async (t) => {
  const [everything, rig] = await Promise.all([startEverything(), startRig()])
  t.teardown(() => Promise.all([everything.close(), rig.close()]))
  rig.setServers([{ prefix: 'every', url: everything.url }])
  const client = new ClientV2(
    { name: 'v2', version: '1' },
    {
      versionNegotiation: { mode: 'auto' },
      capabilities: { elicitation: { form: {} }, sampling: {}, roots: {} },
    },
  )
  client.setRequestHandler('elicitation/create', async () => ({ action: 'accept', content: { name: 'Ann' } }))
  client.setRequestHandler('sampling/createMessage', async () => ({
    model: 'test-model',
    role: 'assistant',
    content: { type: 'text', text: 'sampled words' },
  }))
  await client.connect(new TransportV2(rig.url))
  t.teardown(() => client.close())
  const text = async (name: string, args: JsonObject = {}): Promise<string> =>
    JSON.stringify((await client.callTool({ name, arguments: args })).content)
  t.match(await text('every_trigger-elicitation-request'), /Ann/)
  t.match(await text('every_trigger-sampling-request', { prompt: 'hi' }), /sampled words/)
  t.match(await text('every_echo', { message: 'no question' }), /no question/)
})

t.test('rounds: several questions at once, one left out, then the answer', async (t) => {
  const [server, rig] = await Promise.all([startAsking(), startRig()])
  t.teardown(() => Promise.all([server.close(), rig.close()]))
  rig.setServers([{ prefix: 'a', url: server.url }])

  const first = go(rig)
  await server.call(0)
  server.ask(0, 'name')
  server.ask(0, 'words', 'sampling/createMessage', { messages: [], maxTokens: 1 })
  server.ask(0, 'where', 'roots/list', {})
  server.ask(0, 'page', 'elicitation/create', { mode: 'url', url: 'https://a.test/', message: 'visit' })
  t.match((await server.answerTo('page')).error, { code: -32601 }, 'the client said nothing of URLs')
  const { last: asked } = await first
  t.match(asked.result, {
    resultType: 'input_required',
    requestState: String,
    inputRequests: {
      q1: { method: 'elicitation/create', params: { message: 'name' } },
      q2: { method: 'sampling/createMessage', params: { maxTokens: 1 } },
      q3: { method: 'roots/list' },
    },
  })
  t.match(server.declared, [{ elicitation: { form: {} }, sampling: {}, roots: {} }])
  t.same(Object.keys((asked.result!.inputRequests as { q3: object }).q3), ['method', 'params'])
  const { requestState } = asked.result!

  const second = await go(rig, {
    requestState,
    inputResponses: {
      q1: { action: 'accept', content: { name: 'Ann' } },
      q2: { role: 'assistant', content: { type: 'text', text: 'x' }, model: 'm' },
      other: { action: 'accept' },
    },
  })
  t.match((await server.answerTo('name')).result, { action: 'accept', content: { name: 'Ann' } })
  t.match((await server.answerTo('words')).result, { model: 'm' })
  t.same(keysOf(second.last), ['q3'], 'what was left out is asked again')

  const again = await go(rig, { requestState, inputResponses: {} })
  t.match(again.last.error, { code: 4080, data: { reason: 'question.expired' } }, 'an old round')

  const third = go(rig, {
    requestState: second.last.result!.requestState,
    inputResponses: { q3: { roots: [] } },
    _meta: { ...modernMeta(able), progressToken: 'mine' },
  })
  await server.answerTo('where')
  server.finish(0, 'all known')
  t.match((await third).last.result, { resultType: 'complete', content: [{ text: 'all known' }] })
  t.equal(server.calls.length, 1, 'the server saw one call')
  t.equal(rig.core.stats().parkedCalls, 0)
})

t.test('a state opens for its person, request and server alone', async (t) => {
  const [server, rig] = await Promise.all([startAsking(), startRig()])
  t.teardown(() => Promise.all([server.close(), rig.close()]))
  rig.setServers([{ prefix: 'a', url: server.url }])
  const first = go(rig)
  await server.call(0)
  server.ask(0, 'name')
  const { requestState } = (await first).last.result!
  const inputResponses = { q1: { action: 'accept', content: {} } }
  const refused = [
    await go(rig, { requestState, inputResponses }, { 'x-subject': 'bob' }),
    await go(rig, { requestState, inputResponses, arguments: { other: true } }),
    await go(rig, { requestState: `${String(requestState).slice(0, -2)}AA`, inputResponses }),
  ]
  for (const { last } of refused) t.match(last.error, { code: -32602 })
  rig.setServers([{ prefix: 'a', url: server.url }], ['a'])
  t.match(
    (await go(rig, { requestState, inputResponses })).last.error,
    { code: 4030 },
    'policy is asked anew',
  )
  t.equal(server.said.filter(({ id }) => id === 'name').length, 0, 'nothing reached the server')
})

t.test('clients that differ in what they can do share no session', async (t) => {
  const [server, rig] = await Promise.all([startAsking(), startRig()])
  t.teardown(() => Promise.all([server.close(), rig.close()]))
  rig.setServers([{ prefix: 'a', url: server.url }])
  const sets = [
    {},
    { elicitation: {} },
    { elicitation: { form: {}, url: {}, own: { x: 1 } } },
    { unknown: {} },
  ]
  for (const [at, capabilities] of sets.entries()) {
    const call = go(rig, {}, {}, capabilities)
    await server.call(at)
    server.finish(at)
    await call
  }
  t.same(server.declared, [{}, { elicitation: {} }, { elicitation: { form: {}, url: {} } }])
})

t.test('a client that goes away, and one that never comes back', async (t) => {
  const server = await startAsking()
  const rig = await startRig({ parkedLimits: { parkMs: 50, perPerson: 1 } })
  t.teardown(() => Promise.all([server.close(), rig.close()]))
  rig.setServers([{ prefix: 'a', url: server.url }])

  const first = go(rig)
  const { id } = await server.call(0)
  server.ask(0, 'name')
  const { requestState } = (await first).last.result!
  await server.cancelled(id)
  const late = await go(rig, { requestState, inputResponses: { q1: { action: 'accept' } } })
  t.match(late.last.error, { code: 4080, message: /Call again/ })
  t.equal(rig.core.stats().parkedCalls, 0)

  const gone = new AbortController()
  const leaving = fetch(rig.url, {
    method: 'POST',
    signal: gone.signal,
    body: JSON.stringify({
      jsonrpc: '2.0',
      id: 1,
      method: 'tools/call',
      params: { name: 'a_go', _meta: modernMeta(able) },
    }),
  })
  const second = await server.call(1)
  gone.abort()
  await t.rejects(leaving)
  await server.cancelled(second.id)
})

t.test('parked calls are bounded, and end with their worker', async (t) => {
  const server = await startAsking()
  const rig = await startRig({ parkedLimits: { perPerson: 1, total: 2 } })
  t.teardown(() => server.close())
  rig.setServers([{ prefix: 'a', url: server.url }])
  const park = async (at: number, subject: string) => {
    const call = go(rig, {}, { 'x-subject': subject })
    const { id } = await server.call(at)
    server.ask(at, `q-${at}`)
    return { id, answer: (await call).last }
  }
  const ann = await park(0, 'ann')
  t.match(ann.answer.result, { resultType: 'input_required' })
  const more = await park(1, 'ann')
  t.match(more.answer.error, { code: 4290 })
  await server.cancelled(more.id)
  t.match((await park(2, 'bob')).answer.result, { resultType: 'input_required' })
  t.match((await park(3, 'carl')).answer.error, { code: 4290 }, 'of all people together')

  t.equal(await rig.core.drain(20), 2, 'what was left at the deadline')
  await rig.close()
  await server.cancelled(ann.id)
})

t.test('a server that asks for ever is stopped', async (t) => {
  const [server, rig] = await Promise.all([startAsking(), startRig()])
  t.teardown(() => Promise.all([server.close(), rig.close()]))
  rig.setServers([{ prefix: 'a', url: server.url }])
  const first = go(rig)
  const { id } = await server.call(0)
  server.ask(0, 'name-1')
  let { last } = await first
  for (let round = 2; last.result; round++) {
    const { requestState, inputRequests } = last.result
    const [key = ''] = Object.keys(inputRequests as JsonObject)
    const next = go(rig, { requestState, inputResponses: { [key]: { action: 'decline' } } })
    await server.answerTo(`name-${round - 1}`)
    server.ask(0, `name-${round}`)
    last = (await next).last
    if (round > 20) break
  }
  t.match(last.error, { code: 5022 })
  await server.cancelled(id)
})

t.test('what a server says while nobody waits is dropped, its answer is kept', async (t) => {
  const [server, rig] = await Promise.all([startAsking(), startRig()])
  t.teardown(() => Promise.all([server.close(), rig.close()]))
  rig.setServers([{ prefix: 'a', url: server.url }])
  const first = go(rig)
  await server.call(0)
  server.ask(0, 'name')
  const { requestState } = (await first).last.result!
  server.tell(0, 'notifications/progress', { progressToken: server.calls[0]!.id, progress: 1 })
  server.finish(0, 'changed my mind')
  const { last } = await go(rig, { requestState, inputResponses: {} })
  t.match(last.result, { content: [{ text: 'changed my mind' }] })
})

t.test('a policy that no longer allows the server ends what waits there', async (t) => {
  const [server, rig] = await Promise.all([startAsking(), startRig()])
  t.teardown(() => Promise.all([server.close(), rig.close()]))
  rig.setServers([{ prefix: 'a', url: server.url }])
  const first = go(rig)
  const { id } = await server.call(0)
  server.ask(0, 'name')
  await first
  rig.core.recheck(() => undefined)
  t.equal(rig.core.stats().parkedCalls, 1)
  rig.core.recheck((_principal, serverId) => (serverId === 'a' ? new Fault('policy.denied') : undefined))
  t.equal(rig.core.stats().parkedCalls, 0)
  await server.cancelled(id)
})
