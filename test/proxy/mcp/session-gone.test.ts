import t from 'tap'
import type { JsonObject } from '../../../services/proxy/mcp/protocol/types.ts'
import { proves } from '../../requirements.ts'
import { type Handler, post, startLegacy } from './legacy-server.ts'
import { until } from './notices-peers.ts'
import { type Rig, startRig } from './rig.ts'
import { open } from './teller.ts'

const capabilities = {
  tools: { listChanged: true },
  prompts: {},
  resources: { subscribe: true },
  completions: {},
  logging: {},
}
const uri = 'note://a'

/** What a session-based server answers, by method. */
const answers: Record<string, JsonObject> = {
  'tools/list': { tools: [{ name: 'go', inputSchema: { type: 'object' } }] },
  'tools/call': { content: [{ type: 'text', text: 'ok' }] },
  'resources/list': { resources: [{ uri, name: 'a' }] },
  'resources/templates/list': { resourceTemplates: [{ uriTemplate: 'note://{x}', name: 't' }] },
  'resources/read': { contents: [{ uri, text: 'ok' }] },
  'resources/subscribe': {},
  'resources/unsubscribe': {},
  'prompts/list': { prompts: [{ name: 'ask' }] },
  'prompts/get': { messages: [{ role: 'user', content: { type: 'text', text: 'ok' } }] },
  'completion/complete': { completion: { values: ['ok'] } },
  'logging/setLevel': {},
}
const answering: Handler = (body, response) =>
  response
    .writeHead(200, { 'content-type': 'application/json' })
    .end(JSON.stringify({ jsonrpc: '2.0', id: body.id, result: answers[body.method] }))

/** What a client asks. */
const requests: readonly { method: string; params?: JsonObject }[] = [
  { method: 'tools/list' },
  { method: 'tools/call', params: { name: 'a_go' } },
  { method: 'resources/list' },
  { method: 'resources/templates/list' },
  { method: 'resources/read', params: { uri } },
  { method: 'resources/subscribe', params: { uri } },
  { method: 'prompts/list' },
  { method: 'prompts/get', params: { name: 'a_ask' } },
  {
    method: 'completion/complete',
    params: { ref: { type: 'ref/prompt', name: 'a_ask' }, argument: { name: 'x', value: '' } },
  },
  {
    method: 'completion/complete',
    params: { ref: { type: 'ref/resource', uri }, argument: { name: 'x', value: '' } },
  },
]

const refusals: Record<string, Handler> = {
  'HTTP 404 without a word': (_body, response) => response.writeHead(404).end(),
  'HTTP 404 with an error': (body, response) =>
    response.writeHead(404, { 'content-type': 'application/json' }).end(
      JSON.stringify({
        jsonrpc: '2.0',
        id: body.id ?? null,
        error: { code: -32001, message: 'Session not found' },
      }),
    ),
}

/** The rig's own clock stands so far ahead after each request that no listing in memory is fresh. */
async function startForgetful(t: { teardown(work: () => unknown): void }, without?: Handler) {
  let now = 0
  let session = 'first'
  const rig: Rig = await startRig({ now: () => now })
  const options = {
    session: () => session,
    capabilities,
    methods: Object.fromEntries(Object.keys(answers).map((method) => [method, answering])),
    ...(without ? { without } : {}),
  }
  let server = await startLegacy(answering, options)
  t.teardown(() => Promise.all([rig.close(), server.close()]))
  rig.setServers([{ prefix: 'a', url: server.url }])
  return {
    rig,
    server: () => server,
    later: () => {
      now += 10 * 60_000 - 1
    },
    forget: (name: string) => {
      session = name
    },
    async restart(name: string) {
      const { port } = server
      await server.close()
      session = name
      server = await startLegacy(answering, { ...options, port })
    },
  }
}

for (const [how, without] of Object.entries(refusals)) {
  t.test(`a server that forgot the session (${how}) is opened anew, whatever is asked`, async (t) => {
    proves(t, 'MCP-SESSION-GONE-01')
    const { rig, server, forget, later } = await startForgetful(t, without)
    const client = await open(rig)
    const opened = (): number => server().seen.filter(({ method }) => method === 'initialize').length
    for (const method of ['tools/list', 'resources/list', 'prompts/list']) await post(rig, method, {}, client)
    for (const [at, { method, params = {} }] of requests.entries()) {
      const before = opened()
      later()
      forget(`s${at}`)
      const { last } = await post(rig, method, params, client)
      t.notOk(last.error, `${method} is answered`)
      t.match(last.result, answerOf(method), method)
      t.ok(opened() > before, `${method} was asked in another session`)
    }
    // The level goes to the server with the next call, in whatever session that is.
    await post(rig, 'logging/setLevel', { level: 'error' }, client)
    forget('level')
    t.notOk((await post(rig, 'tools/call', { name: 'a_go' }, client)).last.error)
    const level = () =>
      server().seen.filter(
        ({ method, headers }) => method === 'logging/setLevel' && headers['mcp-session-id'] === 'level',
      )
    await post(rig, 'tools/call', { name: 'a_go' }, client)
    await until(() => level().length > 0)
    t.match(level().at(-1)?.body, { params: { level: 'error' } }, 'the new session has the level too')
  })
}

t.test('a server that was restarted is opened anew, whatever is asked', async (t) => {
  proves(t, 'MCP-SESSION-GONE-01')
  const { rig, server, restart, later } = await startForgetful(t)
  const client = await open(rig)
  for (const method of ['tools/list', 'resources/list', 'prompts/list']) await post(rig, method, {}, client)
  for (const [at, { method, params = {} }] of requests.entries()) {
    later()
    await restart(`s${at}`)
    const { last } = await post(rig, method, params, client)
    t.notOk(last.error, `${method} is answered`)
    t.match(last.result, answerOf(method), method)
    t.ok(
      server().seen.some((seen) => seen.method === 'initialize'),
      `${method}: a new session`,
    )
  }
})

t.test('one that forgets again while its session is opened anew is opened once more', async (t) => {
  proves(t, 'MCP-SESSION-GONE-01')
  let restarted = false
  const rig = await startRig()
  const server = await startLegacy(answering, {
    // Twice more it restarts as soon as its new session is taken up.
    session: () => {
      const takenUp = server.seen.filter(({ method }) => method === 'notifications/initialized').length
      return restarted ? `s${Math.min(takenUp, 3)}` : 's0'
    },
    capabilities,
  })
  t.teardown(() => Promise.all([rig.close(), server.close()]))
  rig.setServers([{ prefix: 'a', url: server.url }])
  const client = await open(rig)
  t.notOk((await post(rig, 'tools/call', { name: 'a_go' }, client)).last.error)
  restarted = true
  const { last } = await post(rig, 'tools/call', { name: 'a_go' }, client)
  t.match(last.result, answers['tools/call'])
  const calls = server.seen.filter(({ method }) => method === 'tools/call')
  t.match(
    calls.map(({ headers }) => headers['mcp-session-id']),
    ['s0', 's0', 's1', 's2', 's3'],
  )
})

/** As the client gets it: prefixed names. */
function answerOf(method: string): JsonObject {
  if (method === 'tools/list') return { tools: [{ name: 'a_go' }] }
  if (method === 'prompts/list') return { prompts: [{ name: 'a_ask' }] }
  return answers[method] ?? {}
}
