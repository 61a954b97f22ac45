import t from 'tap'
import type { JsonObject } from '../../../services/proxy/mcp/protocol/types.ts'
import { proves } from '../../requirements.ts'
import { ok, open, post, startLegacy } from './legacy-server.ts'
import { modernMeta, startScripted } from './modern-server.ts'
import { startRig } from './rig.ts'

function closing(
  t: { teardown(end: () => Promise<void>): void },
  ...parts: { close(): Promise<void> }[]
): void {
  t.teardown(async () => {
    await Promise.all(parts.map((part) => part.close()))
  })
}

t.test('structured content that is no object is text to a legacy client', async (t) => {
  proves(t, 'MCP-BRIDGE-07')
  const rig = await startRig()
  let result: JsonObject = {}
  const server = await startScripted(() => ({ result }))
  closing(t, rig, server)
  rig.setServers([{ prefix: 'a', url: server.url }])
  const { session } = await open(rig, {})
  const call = async (): Promise<unknown> =>
    (await post(rig, 'tools/call', { name: 'a_go' }, session)).last.result

  result = { content: [], structuredContent: [1, { two: 2 }] }
  t.same(await call(), { content: [{ type: 'text', text: '[1,{"two":2}]' }] }, 'nothing is lost')
  const text = [{ type: 'text', text: 'one and two' }]
  result = { content: text, structuredContent: [1, 2] }
  t.same(await call(), { content: text }, 'the server’s own words stay')
  result = { content: [], structuredContent: { one: 1 } }
  t.same(await call(), result, 'an object is of both eras')

  const meta = { _meta: modernMeta() }
  result = { content: [], structuredContent: [1] }
  const modern = await post(rig, 'tools/call', { name: 'a_go', ...meta })
  t.match(modern.last.result, { content: [], structuredContent: [1] }, 'a modern client gets it as it is')
})

t.test('a server without completions has none to offer', async (t) => {
  proves(t, 'MCP-COMPLETE-01')
  const rig = await startRig()
  const unknown = { error: { code: -32601, message: 'Method not found' } }
  const modern = await startScripted(({ method }) =>
    method === 'completion/complete' ? { status: 404, ...unknown } : { result: { prompts: [{ name: 'p' }] } },
  )
  const legacy = await startLegacy(
    ({ id }, response) => {
      response
        .writeHead(200, { 'content-type': 'application/json' })
        .end(JSON.stringify({ jsonrpc: '2.0', id, ...unknown }))
    },
    { capabilities: { prompts: {} } },
  )
  closing(t, rig, modern, legacy)
  rig.setServers([
    { prefix: 'm', url: modern.url },
    { prefix: 'l', url: legacy.url },
  ])
  const { session } = await open(rig, {})
  for (const name of ['m_p', 'l_p']) {
    const params = { ref: { type: 'ref/prompt', name }, argument: { name: 'x', value: 'y' } }
    const none = { completion: { values: [] } }
    t.match((await post(rig, 'completion/complete', params, session)).last, { result: none }, name)
    const stateless = await post(rig, 'completion/complete', { ...params, _meta: modernMeta() })
    t.match(stateless.last, { result: { ...none, resultType: 'complete' } }, `${name}, modern`)
  }
})

t.test('the wish for a task of 2025-11-25 reaches no server: nobody could ask for it later', async (t) => {
  proves(t, 'MCP-TASK-02')
  const rig = await startRig()
  const legacy = await startLegacy(ok, { version: '2025-11-25', capabilities: { tools: {}, tasks: {} } })
  const modern = await startScripted(() => ({ result: { content: [] } }))
  closing(t, rig, legacy, modern)
  rig.setServers([
    { prefix: 'l', url: legacy.url },
    { prefix: 'm', url: modern.url },
  ])
  const { session } = await open(rig, { tasks: { list: {}, requests: { sampling: { createMessage: {} } } } })
  for (const name of ['l_go', 'm_go']) {
    const { last } = await post(rig, 'tools/call', { name, task: { ttl: 60_000 } }, session)
    t.ok(last.result, name)
  }
  const sent = [
    legacy.seen.find(({ method }) => method === 'tools/call')?.body.params,
    modern.calls()[0]?.params,
  ]
  for (const params of sent) t.equal((params as JsonObject).task, undefined)
  const initialize = legacy.seen.find(({ method }) => method === 'initialize')?.body.params as JsonObject
  t.same(initialize.capabilities, {}, 'what the gateway can not carry is not declared')
})

t.test('a server may answer in batches, as 2025-03-26 has it', async (t) => {
  proves(t, 'MCP-BATCH-02')
  const rig = await startRig()
  const progress = (token: unknown) => ({
    jsonrpc: '2.0',
    method: 'notifications/progress',
    params: { progressToken: token, progress: 1 },
  })
  const server = await startLegacy(
    ({ id, params }, response) => {
      const token = (params?._meta as JsonObject | undefined)?.progressToken
      const answer = { jsonrpc: '2.0', id, result: { content: [{ type: 'text', text: 'both' }] } }
      const batch = JSON.stringify(token === undefined ? [answer] : [progress(token), answer])
      if (token === undefined) response.writeHead(200, { 'content-type': 'application/json' }).end(batch)
      else response.writeHead(200, { 'content-type': 'text/event-stream' }).end(`data: ${batch}\n\n`)
    },
    { version: '2025-03-26' },
  )
  closing(t, rig, server)
  rig.setServers([{ prefix: 'a', url: server.url }])
  const { session } = await open(rig, {}, '2025-03-26')
  const done = { result: { content: [{ text: 'both' }] }, id: 1 }
  t.match((await post(rig, 'tools/call', { name: 'a_go' }, session)).last, done, 'as JSON')
  const params = { name: 'a_go', _meta: { progressToken: 'mine' } }
  const { messages } = await post(rig, 'tools/call', params, session)
  t.match(messages, [{ params: { progressToken: 'mine', progress: 1 } }, done], 'in one event of a stream')
})
