import type { ServerResponse } from 'node:http'
import t from 'tap'
import type { JsonObject } from '../../../services/proxy/mcp/protocol/types.ts'
import type { ContentSecurity } from '../../../shared/wire/content-security.ts'
import type { Snapshot } from '../../../shared/wire/snapshot.ts'
import { proves } from '../../requirements.ts'
import { aidr, hook, startGuard, world } from './guard-rig.ts'
import { post } from './legacy-server.ts'
import { modernMeta, startScripted } from './modern-server.ts'
import { until } from './notices-peers.ts'
import { startRig } from './rig.ts'
import { open, startTeller } from './teller.ts'

/** What a server says before the answer `done`; the caller's own token goes where it belongs. */
function talkative(
  body: { id?: number; params?: JsonObject },
  response: ServerResponse,
  said: (progressToken: unknown) => JsonObject[],
): void {
  const { progressToken } = (body.params?._meta ?? {}) as JsonObject
  response.writeHead(200, { 'content-type': 'text/event-stream' })
  const result = { content: [{ type: 'text', text: 'done' }] }
  for (const message of [...said(progressToken), { id: body.id, result }]) {
    response.write(`data: ${JSON.stringify({ jsonrpc: '2.0', ...message })}\n\n`)
  }
  response.end()
}
const progress = (
  progressToken: unknown,
  at: number,
  message: string,
  more: JsonObject = {},
): JsonObject => ({
  method: 'notifications/progress',
  params: { progressToken, progress: at, total: 3, message, ...more },
})
const log = (data: string): JsonObject => ({
  method: 'notifications/message',
  params: { level: 'info', logger: 'crm', data },
})
const say = (token: unknown): JsonObject[] => [
  progress(token, 1, 'read 4711', { detail: '4711' }),
  log('found 4711'),
  progress(token, 2, 'stop 4711'),
  log('stop 4711'),
  progress(token, 3, 'all read'),
]
const call = { name: 'crm_find', arguments: {}, _meta: { progressToken: 'mine' } }

t.test('a guard of results that is not asked about notices: they come without words', async (t) => {
  proves(t, 'POLICY-GUARD-09')
  const guard = await startGuard(t, () => ({ decision: 'allow' }))
  for (const security of [aidr(guard.url, { failOpen: true }), hook(guard.url, { checks: ['output'] })]) {
    const { rig } = await world(t, [security], (body, response) => talkative(body, response, say))
    const { messages } = await post(rig, 'tools/call', call)
    t.same(
      messages.slice(0, -1).map(({ method, params }) => ({ method, params })),
      [1, 2, 3].map((at) => ({
        method: 'notifications/progress',
        params: { progressToken: 'mine', progress: at, total: 3 },
      })),
      `${security.type}: numbers and nothing else`,
    )
    t.match(messages.at(-1), { result: { content: [{ text: 'done' }] } })
  }
})

t.test(
  'a guard that is asked about notices lets them through, changes them, stops them, in their order',
  async (t) => {
    proves(t, 'POLICY-GUARD-09')
    const guard = await startGuard(t, ({ body }) => {
      const text = JSON.stringify(body.content)
      if (text.includes('stop')) return { decision: 'block', reason: 'leak' }
      if (!text.includes('4711')) return { decision: 'allow' }
      return { decision: 'transform', content: JSON.parse(text.replaceAll('4711', '****')) }
    })
    const security = [hook(guard.url, { checks: ['output', 'notice'] })]
    const { rig } = await world(t, security, (body, response) => talkative(body, response, say))
    const { messages } = await post(rig, 'tools/call', call)
    t.same(
      messages.slice(0, -1).map(({ params }) => params),
      [
        { progressToken: 'mine', progress: 1, total: 3, message: 'read ****', detail: '****' },
        { level: 'info', logger: 'crm', data: 'found ****' },
        { progressToken: 'mine', progress: 2, total: 3 },
        { progressToken: 'mine', progress: 3, total: 3, message: 'all read' },
      ],
    )
    t.match(messages.at(-1), { result: { content: [{ text: 'done' }] } }, 'the answer comes last')
    t.match(guard.asked[0]?.body, {
      phase: 'notice',
      tool: 'find',
      user: { subject: String },
      content: { method: 'notifications/progress', params: { message: 'read 4711' } },
    })
    t.notMatch(guard.asked.map(({ body }) => JSON.stringify(body)).join(), /mine/, 'no token of the client')
  },
)

t.test('no guard of results: notices come as they are', async (t) => {
  const guard = await startGuard(t, () => ({ decision: 'allow' }))
  const security = [hook(guard.url, { checks: ['input', 'listing'] })]
  const { rig } = await world(t, security, (body, response) => talkative(body, response, say))
  const { messages } = await post(rig, 'tools/call', call)
  t.equal(messages.length, 6)
  t.match(messages[0], { params: { message: 'read 4711' } })
})

async function outside(t: Tap, security: ContentSecurity) {
  const [rig, server] = await Promise.all([startRig(), startTeller()])
  t.teardown(() => Promise.all([rig.close(), server.close()]))
  rig.setServers([{ prefix: 'a', url: server.url }], [], (snapshot: Snapshot) => ({
    ...snapshot,
    contentSecurity: [security],
    policies: snapshot.policies.map((policy) => ({ ...policy, contentSecurity: [security.id] })),
  }))
  const session = await open(rig, { elicitation: {} })
  await post(rig, 'tools/list', {}, session)
  await until(() => server.streams.size === 1)
  return { rig, server, session }
}
type Tap = { teardown(work: () => unknown): void }

t.test('outside of a call: what a server logs stays out, what it asks is looked at', async (t) => {
  proves(t, 'POLICY-GUARD-09')
  const guard = await startGuard(t, ({ body }) => {
    const text = JSON.stringify(body.content)
    if (text.includes('password')) return { decision: 'block' }
    return { decision: 'transform', content: JSON.parse(text.replaceAll('4711', '****')) }
  })
  const { rig, server, session } = await outside(t, hook(guard.url, { checks: ['output', 'question'] }))
  server.say({ method: 'notifications/message', params: { level: 'error', data: 'of 4711' } })
  server.say({ id: 'bad', method: 'elicitation/create', params: { message: 'Your password?' } })
  server.say({ id: 'good', method: 'elicitation/create', params: { message: 'Is 4711 yours?' } })
  await until(() => server.seen.some(({ body }) => body.id === 'bad' && body.method === undefined))
  const refused = server.seen.find(({ body }) => body.id === 'bad' && body.method === undefined)
  t.match(refused?.body, { error: { data: { decision: 'content_blocked' } } }, 'its server hears of the no')
  await until(() => rig.core.stats().heldQuestions === 1)
  const { messages } = await post(rig, 'ping', {}, session)
  t.match(messages, [{ method: 'elicitation/create', params: { message: 'Is **** yours?' } }, { result: {} }])
  t.match(guard.asked[0]?.body, { phase: 'question', user: { subject: String }, server: { name: String } })
})

t.test('what is said of a task: its words stay out, its error and its questions are looked at', async (t) => {
  proves(t, 'POLICY-GUARD-09')
  const guard = await startGuard(t, ({ body }) => ({
    decision: 'transform',
    content: JSON.parse(JSON.stringify(body.content).replaceAll('4711', '****')),
  }))
  const rig = await startRig()
  const extension = 'io.modelcontextprotocol/tasks'
  const task = { taskId: 'inner', createdAt: 'now', lastUpdatedAt: 'now', ttlMs: null }
  let state: JsonObject = { status: 'working' }
  const server = await startScripted(({ method }) => ({
    result: {
      ...(method === 'tools/call' ? { resultType: 'task' } : {}),
      ...task,
      statusMessage: 'reads 4711',
      ...state,
    },
  }))
  t.teardown(() => Promise.all([rig.close(), server.close()]))
  rig.setServers([{ prefix: 'a', url: server.url }], [], (snapshot: Snapshot) => ({
    ...snapshot,
    contentSecurity: [hook(guard.url, { checks: ['output', 'error', 'question'] })],
    policies: snapshot.policies.map((policy) => ({ ...policy, contentSecurity: ['g'] })),
  }))
  const ask = async (method: string, params: JsonObject): Promise<JsonObject> => {
    const _meta = modernMeta({ extensions: { [extension]: {} }, elicitation: { form: {} } })
    const { last } = await post(rig, method, { ...params, _meta })
    t.notMatch(JSON.stringify(last), /4711|statusMessage/)
    return last.result ?? {}
  }
  const { taskId } = await ask('tools/call', { name: 'a_slow' })
  t.match(await ask('tasks/get', { taskId }), { status: 'working' })
  const question = { method: 'elicitation/create', params: { message: 'Is 4711 yours?' } }
  state = { status: 'input_required', inputRequests: { q: question } }
  t.match(await ask('tasks/get', { taskId }), {
    inputRequests: { q: { params: { message: 'Is **** yours?' } } },
  })
  state = { status: 'failed', error: { code: -32000, message: 'no 4711', data: { at: '4711' } } }
  t.match(await ask('tasks/get', { taskId }), { error: { code: -32000, message: 'no ****' } })
  state = { status: 'completed', result: { content: [{ type: 'text', text: '4711' }] } }
  t.match(await ask('tasks/get', { taskId }), { result: { content: [{ text: '****' }] } })
})

t.test('AIDR sees the text of embedded resources', async (t) => {
  const guard = await startGuard(t, ({ body }) => {
    const { messages } = body.guard_input as { messages: { content: string }[] }
    const seen = messages.map(({ content }) => ({ content: content.replaceAll('4711', '****') }))
    return { result: { transformed: true, guard_output: { messages: seen } } }
  })
  const content = [
    { type: 'resource', resource: { uri: 'r:1', text: 'number 4711' } },
    { type: 'resource', resource: { uri: 'r:2', blob: 'AA==' } },
    { type: 'text', text: '4711' },
  ]
  const { call } = await world(t, [aidr(guard.url)], (body, response) => {
    const answer = JSON.stringify({ jsonrpc: '2.0', id: body.id, result: { content } })
    response.writeHead(200, { 'content-type': 'application/json' }).end(answer)
  })
  t.same(
    (await call({ q: 'x' })).result?.content,
    JSON.parse(JSON.stringify(content).replaceAll('4711', '****')),
  )
})
