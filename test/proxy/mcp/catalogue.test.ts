import t from 'tap'
import type { JsonObject } from '../../../services/proxy/mcp/protocol/types.ts'
import { proves } from '../../requirements.ts'
import { ok, post, startLegacy } from './legacy-server.ts'
import { modernMeta, startScripted } from './modern-server.ts'
import { type Rig, startRig } from './rig.ts'

const list = async (rig: Rig, method: string, params: JsonObject = {}, session = {}) =>
  (await post(rig, method, params, session)).last.result!
const namesOf = ({ tools }: JsonObject) => (tools as { name: string }[]).map(({ name }) => name)
const outcomes = ({ _meta }: JsonObject) => (_meta as JsonObject)['io.aembit/servers']

const json =
  (result: (params: JsonObject) => JsonObject) =>
  (body: { id?: number; params?: JsonObject }, response: import('node:http').ServerResponse): void => {
    response
      .writeHead(200, { 'content-type': 'application/json' })
      .end(JSON.stringify({ jsonrpc: '2.0', id: body.id, result: result(body.params ?? {}) }))
  }

t.test('a server that hangs costs a listing its time-out and nothing more', async (t) => {
  proves(t, 'MCP-LIST-01')
  const rig = await startRig({ timeouts: { tools_list: 300 } })
  const slow = await startLegacy(ok, { methods: { 'tools/list': () => {} } })
  const good = await startLegacy(ok)
  t.teardown(async () => {
    await Promise.all([rig.close(), slow.close(), good.close()])
  })
  rig.setServers([
    { prefix: 'slow', url: slow.url },
    { prefix: 'good', url: good.url },
  ])
  const startedAt = performance.now()
  const first = await list(rig, 'tools/list')
  t.ok(performance.now() - startedAt < 2_000)
  t.same(namesOf(first), ['good_go'])
  t.same(outcomes(first), [
    { server: 'slow', outcome: 'timeout' },
    { server: 'good', outcome: 'ok' },
  ])
  t.match(
    rig.events.filter(({ type, server }) => type === 'response' && server?.id === 'slow'),
    [{ outcome: 'Error', reasonCode: 'upstream.timeout' }],
    'and is recorded',
  )
})

t.test('what comes after the time-out is there for the next listing', async (t) => {
  const rig = await startRig({ timeouts: { tools_list: 200, initialize: 5_000 } })
  const slow = await startLegacy(ok, {
    discover: (_body, response) => void setTimeout(() => response.writeHead(400).end(), 500),
  })
  t.teardown(async () => {
    await Promise.all([rig.close(), slow.close()])
  })
  rig.setServers([{ prefix: 'slow', url: slow.url }])
  t.same(outcomes(await list(rig, 'tools/list')), [{ server: 'slow', outcome: 'timeout' }])
  while (!slow.seen.some(({ method }) => method === 'tools/list')) await new Promise((r) => setTimeout(r, 20))
  t.same(namesOf(await list(rig, 'tools/list')), ['slow_go'])
})

t.test('all pages of a server, in pages of our own', async (t) => {
  proves(t, 'MCP-LIST-02')
  const rig = await startRig({ now: () => 1_000_000 })
  const tool = (at: number) => ({ name: `tool-${at}`, inputSchema: { type: 'object' } })
  const many = await startLegacy(ok, {
    methods: {
      'tools/list': json(({ cursor }) => {
        const from = Number(cursor ?? 0)
        const tools = Array.from({ length: 500 }, (_, at) => tool(from + at))
        return from + 500 < 4_500 ? { tools, nextCursor: String(from + 500) } : { tools }
      }),
    },
  })
  t.teardown(async () => {
    await Promise.all([rig.close(), many.close()])
  })
  rig.setServers([{ prefix: 'a', url: many.url }])
  const all: string[] = []
  let cursor: unknown
  let pages = 0
  do {
    const page = await list(rig, 'tools/list', cursor === undefined ? {} : { cursor })
    all.push(...namesOf(page))
    cursor = page.nextCursor
    pages++
  } while (cursor !== undefined)
  t.equal(pages, 3)
  t.same(
    all,
    Array.from({ length: 4_500 }, (_, at) => `a_tool-${at}`),
    'in the order of the server, each once',
  )
  t.equal(many.seen.filter(({ method }) => method === 'tools/list').length, 9, 'the server was asked once')

  const own = (await list(rig, 'tools/list')).nextCursor as string
  for (const bad of ['', 'x', '2000', own.slice(1), `${own}A`]) {
    t.equal((await post(rig, 'tools/list', { cursor: bad })).last.error?.code, -32602, `"${bad.slice(0, 5)}"`)
  }
  t.equal((await post(rig, 'prompts/list', { cursor: own })).last.error?.code, -32602, 'of another list')
  const bob = await post(rig, 'tools/list', { cursor: own }, { 'x-subject': 'bob@acme.test' })
  t.equal(bob.last.error?.code, -32602, 'of another person')
})

t.test('names: prefixed, legal, and one server without a prefix', async (t) => {
  proves(t, 'MCP-LIST-03')
  const rig = await startRig()
  const named = (...names: string[]) =>
    startLegacy(ok, {
      methods: {
        'tools/list': json(() => ({
          tools: names.map((name) => ({ name, inputSchema: { type: 'object' } })),
        })),
      },
    })
  const bare = await named('go', 'a_x', 'with_underscore')
  const prefixed = await named('go', 'with space', 'ok.name-1_x', 'x'.repeat(126), 'x'.repeat(127))
  t.teardown(async () => {
    await Promise.all([rig.close(), bare.close(), prefixed.close()])
  })
  rig.setServers([
    { id: 'bare', prefix: null, url: bare.url },
    { prefix: 'a', url: prefixed.url },
  ])
  t.same(namesOf(await list(rig, 'tools/list')), [
    'go',
    'a_x',
    'with_underscore',
    'a_go',
    'a_ok.name-1_x',
    `a_${'x'.repeat(126)}`,
  ])
  const called = async (name: string) => {
    await post(rig, 'tools/call', { name })
    const last = [...bare.seen, ...prefixed.seen].filter(({ method }) => method === 'tools/call').pop()
    return (last?.body.params as JsonObject | undefined)?.name
  }
  t.equal(
    await called('with_underscore'),
    'with_underscore',
    'no prefix of that name: the server without one',
  )
  t.equal(await called('a_ok.name-1_x'), 'ok.name-1_x')
})

t.test(
  'a listing is asked once by all who wait, and anew when the server says that it changed',
  async (t) => {
    proves(t, 'MCP-LIST-04')
    const rig = await startRig({ now: () => 1_000_000 })
    let tools = ['go']
    const server = await startLegacy(
      (body, response) => {
        tools = ['go', 'new']
        response.writeHead(200, { 'content-type': 'text/event-stream' })
        response.write(
          `data: ${JSON.stringify({ jsonrpc: '2.0', method: 'notifications/tools/list_changed' })}\n\n`,
        )
        response.end(`data: ${JSON.stringify({ jsonrpc: '2.0', id: body.id, result: { content: [] } })}\n\n`)
      },
      {
        methods: {
          'tools/list': json(() => ({
            tools: tools.map((name) => ({ name, inputSchema: { type: 'object' } })),
          })),
        },
      },
    )
    t.teardown(async () => {
      await Promise.all([rig.close(), server.close()])
    })
    rig.setServers([{ prefix: 'a', url: server.url }])
    const asked = () => server.seen.filter(({ method }) => method === 'tools/list').length
    await Promise.all(Array.from({ length: 8 }, () => list(rig, 'tools/list')))
    t.equal(asked(), 1)
    const { messages } = await post(rig, 'tools/call', { name: 'a_go' })
    t.equal(messages.length, 1, 'a notice that the client was not promised stays here')
    t.same(namesOf(await list(rig, 'tools/list')), ['a_go', 'a_new'])
    t.equal(asked(), 2)
  },
)

t.test('what a server lists by what a client can do is kept apart', async (t) => {
  proves(t, 'MCP-LIST-05')
  const rig = await startRig()
  const server = await startScripted(({ method, params }) => {
    const able = Object.keys(params._meta['io.modelcontextprotocol/clientCapabilities'] as object)
    const tools = ['go', ...able].map((name) => ({ name, inputSchema: { type: 'object' } }))
    return {
      result: method === 'tools/list' ? { tools, ttlMs: 60_000, cacheScope: 'private' } : { content: [] },
    }
  })
  t.teardown(async () => {
    await Promise.all([rig.close(), server.close()])
  })
  rig.setServers([{ prefix: 'a', url: server.url }])
  t.same(namesOf(await list(rig, 'tools/list', { _meta: modernMeta() })), ['a_go'])
  t.same(namesOf(await list(rig, 'tools/list', { _meta: modernMeta({ roots: {} }) })), ['a_go', 'a_roots'])
  const again = await list(rig, 'tools/list', { _meta: modernMeta() })
  t.same(namesOf(again), ['a_go'])
  t.equal(again.ttlMs, 60_000, 'the server’s own hint')
  t.equal(server.calls().length, 2, 'which is kept to')
})

t.test('resources go to the server that lists them, else fits, else knows', async (t) => {
  proves(t, 'MCP-LIST-06')
  const rig = await startRig()
  const holding = (resources: string[], templates: string[], known: string[]) =>
    startScripted(({ method, params }) => {
      if (method === 'resources/list')
        return { result: { resources: resources.map((uri) => ({ uri, name: uri })) } }
      if (method === 'resources/templates/list') {
        return { result: { resourceTemplates: templates.map((uriTemplate) => ({ uriTemplate, name: 't' })) } }
      }
      const uri = String(params.uri)
      if (known.includes(uri)) return { result: { contents: [{ uri, text: known[0] }] } }
      return { error: { code: -32602, message: 'not found' } }
    })
  const [a, b, c] = await Promise.all([
    holding(['x://both'], [], ['x://a', 'x://both']),
    holding(['x://both', 'x://b'], ['t://{id}/of/{+rest}'], ['x://b', 't://1/of/2/3', 'x://both']),
    holding([], [], ['x://c', 'x://hidden']),
  ])
  t.teardown(async () => {
    await Promise.all([rig.close(), a.close(), b.close(), c.close()])
  })
  rig.setServers([
    { prefix: 'a', url: a.url },
    { prefix: 'b', url: b.url },
    { prefix: 'c', url: c.url },
  ])
  const { resources } = await list(rig, 'resources/list')
  t.same(
    (resources as { uri: string }[]).map(({ uri }) => uri),
    ['x://both', 'x://both', 'x://b'],
    'not prefixed, duplicates kept',
  )
  const read = async (uri: string) => (await post(rig, 'resources/read', { uri })).last
  const reads = (server: typeof a) =>
    server.calls().filter(({ method }) => method === 'resources/read').length
  t.match((await read('x://b')).result, { contents: [{ text: 'x://b' }] })
  t.match((await read('t://1/of/2/3')).result, { contents: [{ text: 'x://b' }] })
  t.same([reads(a), reads(b), reads(c)], [0, 2, 0], 'nobody else was asked')
  t.match((await read('x://both')).result, { contents: [{ text: 'x://a' }] }, 'the first that lists it')
  t.match((await read('x://hidden')).result, { contents: [{ text: 'x://c' }] }, 'the one that knows it')
  t.equal((await read('x://nowhere')).error?.code, -32602)
})

t.test('definitions that a server gives to everyone are listed before an account is connected', async (t) => {
  proves(t, 'MCP-LIST-09')
  const rig = await startRig()
  const server = await startScripted(() => ({
    result: { tools: [{ name: 'go', inputSchema: { type: 'object' } }], ttlMs: 0, cacheScope: 'public' },
  }))
  t.teardown(async () => {
    await Promise.all([rig.close(), server.close()])
  })
  rig.setServers([{ prefix: 'a', url: server.url, credential: 'required' }])
  rig.credentials.answer = (_server, _rejected, principal) =>
    principal.subject === 'ann@acme.test'
      ? { kind: 'none' }
      : { kind: 'authorization_required', url: 'https://gw.test/c', message: 'Connect.', elicitationId: 'e' }
  t.same(namesOf(await list(rig, 'tools/list')), ['a_go'])
  const bob = await list(rig, 'tools/list', {}, { 'x-subject': 'bob@acme.test' })
  t.same(namesOf(bob), ['a_go'])
  t.same(outcomes(bob), [{ server: 'a', outcome: 'authorization_required', stale: true }])
})

t.test('the order is the configuration’s and each server’s own, whoever answers first', async (t) => {
  const rig = await startRig()
  let slow: 'a' | 'b' = 'a'
  const answering = (id: 'a' | 'b') =>
    startLegacy(ok, {
      methods: {
        'tools/list': (body, response) => {
          const tools = ['z', 'm', 'a'].map((name) => ({ name, inputSchema: { type: 'object' } }))
          const answer = (): void => json(() => ({ tools }))(body, response)
          if (slow === id) setTimeout(answer, 50)
          else answer()
        },
      },
    })
  const [a, b] = await Promise.all([answering('a'), answering('b')])
  t.teardown(() => Promise.all([rig.close(), a.close(), b.close()]))
  rig.setServers([
    { prefix: 'a', url: a.url },
    { prefix: 'b', url: b.url },
  ])
  const order = ['a_z', 'a_m', 'a_a', 'b_z', 'b_m', 'b_a']
  t.same(namesOf(await list(rig, 'tools/list')), order)
  slow = 'b'
  t.same(namesOf(await list(rig, 'tools/list', {}, { 'x-subject': 'bob@acme.test' })), order)
})

t.test('a listing stays as long as its server says, five minutes at most', async (t) => {
  let now = 1_000_000
  let ttlMs = 60_000
  const rig = await startRig({ now: () => now })
  const server = await startScripted(() => ({
    result: { tools: [{ name: 'go', inputSchema: { type: 'object' } }], ttlMs },
  }))
  t.teardown(() => Promise.all([rig.close(), server.close()]))
  rig.setServers([{ prefix: 'a', url: server.url }])
  const asked = () => server.calls().filter(({ method }) => method === 'tools/list').length
  await list(rig, 'tools/list')
  now += 59_000
  await list(rig, 'tools/list')
  t.equal(asked(), 1)
  now += 2_000
  ttlMs = 86_400_000
  await list(rig, 'tools/list')
  t.equal(asked(), 2)
  now += 301_000
  await list(rig, 'tools/list')
  t.equal(asked(), 3)
})

t.test('one person’s listing is never another’s', async (t) => {
  proves(t, 'MCP-LIST-07')
  const rig = await startRig()
  const server = await startLegacy(ok, {
    methods: {
      'tools/list': (body, response, request) =>
        json(() => ({
          tools: [{ name: `of-${request.headers['x-key']}`, inputSchema: { type: 'object' } }],
        }))(body, response),
    },
  })
  t.teardown(async () => {
    await Promise.all([rig.close(), server.close()])
  })
  rig.setServers([{ prefix: 'a', url: server.url, credential: 'required' }])
  rig.credentials.answer = (_server, _rejected, { subject }) => ({
    kind: 'headers',
    headers: [{ name: 'X-Key', value: subject.split('@')[0]! }],
    expiresAt: null,
    credentialProviderId: 'p',
  })
  const [ann, bob] = await Promise.all([
    list(rig, 'tools/list'),
    list(rig, 'tools/list', {}, { 'x-subject': 'bob@acme.test' }),
  ])
  t.same([namesOf(ann), namesOf(bob)], [['a_of-ann'], ['a_of-bob']])
})
