import type { IncomingMessage, ServerResponse } from 'node:http'
import t from 'tap'
import type { JsonObject, JsonRpcResponse } from '../../../services/proxy/mcp/types.ts'
import { type Rig, startRig, startUpstream } from './rig.ts'

type Handler = (
  body: { id?: number; method: string; params?: JsonObject },
  response: ServerResponse,
  request: IncomingMessage,
) => void

/** A legacy server by hand: `tools` decides what tools/call does, the rest is well-behaved. */
async function startLegacy(onCall: Handler, options: { session?: () => string } = {}) {
  const seen: { method: string; headers: IncomingMessage['headers']; body: JsonObject }[] = []
  const listener = await startUpstream((request, text, response) => {
    const body = text ? JSON.parse(text) : { method: 'DELETE' }
    seen.push({
      method: request.method === 'DELETE' ? 'DELETE' : body.method,
      headers: request.headers,
      body,
    })
    const json = (result: JsonObject, headers: Record<string, string> = {}): void => {
      response
        .writeHead(200, { 'content-type': 'application/json', ...headers })
        .end(JSON.stringify({ jsonrpc: '2.0', id: body.id, result }))
    }
    if (request.method === 'DELETE') return response.writeHead(204).end()
    const current = options.session?.()
    if (body.method === 'server/discover') return response.writeHead(400).end()
    if (body.method === 'initialize') {
      return json(
        {
          protocolVersion: '2025-06-18',
          capabilities: { tools: {} },
          serverInfo: { name: 'x', version: '1' },
        },
        current ? { 'mcp-session-id': current } : {},
      )
    }
    if (current && request.headers['mcp-session-id'] !== current) return response.writeHead(404).end()
    if (body.id === undefined) return response.writeHead(202).end()
    if (body.method === 'tools/list')
      return json({ tools: [{ name: 'go', inputSchema: { type: 'object' } }] })
    onCall(body, response, request)
  })
  return { ...listener, seen }
}

async function post(rig: Rig, method: string, params: JsonObject = {}, headers: Record<string, string> = {}) {
  const response = await fetch(rig.url, {
    method: 'POST',
    headers: { 'content-type': 'application/json', ...headers },
    body: JSON.stringify({ jsonrpc: '2.0', id: 1, method, params }),
  })
  const text = await response.text()
  const stream = response.headers.get('content-type')?.includes('event-stream')
  const messages = stream
    ? text.split('\n\n').flatMap((event) => (event.startsWith('data: ') ? [JSON.parse(event.slice(6))] : []))
    : [JSON.parse(text)]
  return { last: messages.at(-1) as JsonRpcResponse, messages, headers: response.headers }
}

const ok = (body: { id?: number }, response: ServerResponse): void => {
  response
    .writeHead(200, { 'content-type': 'application/json' })
    .end(JSON.stringify({ jsonrpc: '2.0', id: body.id, result: { content: [{ type: 'text', text: 'ok' }] } }))
}

t.test('a server that misbehaves fails its own call alone, in time', async (t) => {
  const rig = await startRig({ timeouts: { tools_call: 1_500 } })
  t.teardown(() => rig.close())
  const cases: { name: string; code: number; handler: Handler }[] = [
    { name: 'hangs', code: 5040, handler: () => {} },
    { name: 'resets', code: 5020, handler: (_body, response) => response.destroy() },
    {
      name: 'answers HTML',
      code: 5021,
      handler: (_body, response) => response.writeHead(200, { 'content-type': 'text/html' }).end('<p>'),
    },
    {
      name: 'answers broken JSON',
      code: 5021,
      handler: (_b, response) => response.writeHead(200, { 'content-type': 'application/json' }).end('{"js'),
    },
    { name: 'answers another id', code: 5021, handler: (_b, response) => ok({ id: 999_999 }, response) },
    {
      name: 'ends its stream without an answer',
      code: 5021,
      handler: (_b, response) =>
        response.writeHead(200, { 'content-type': 'text/event-stream' }).end(': hello\n\n'),
    },
    {
      name: 'sends garbage events',
      code: 5021,
      handler: (_b, response) =>
        response.writeHead(200, { 'content-type': 'text/event-stream' }).end('data: nope\n\n'),
    },
    {
      name: 'drips for ever',
      code: 5040,
      handler: (_b, response) => {
        response.writeHead(200, { 'content-type': 'text/event-stream' })
        const drip = setInterval(() => response.write(': drip\n\n'), 20)
        response.on('close', () => clearInterval(drip))
      },
    },
    {
      name: 'answers 10 MB where 1 MB is the limit',
      code: 5023,
      handler: (_b, response) =>
        response.writeHead(200, { 'content-type': 'application/json' }).end(' '.repeat(10 << 20)),
    },
    {
      name: 'sends one event of 10 MB',
      code: 5023,
      handler: (_b, response) =>
        response.writeHead(200, { 'content-type': 'text/event-stream' }).end(`data: ${'x'.repeat(10 << 20)}`),
    },
    {
      name: 'redirects',
      code: 5022,
      handler: (_b, response) => response.writeHead(302, { location: 'http://127.0.0.1:1/' }).end(),
    },
    {
      name: 'is broken inside',
      code: 5022,
      handler: (_b, response) => response.writeHead(500).end('stack trace'),
    },
  ]
  for (const { name, code, handler } of cases) {
    const bad = await startLegacy(handler)
    const good = await startLegacy(ok)
    rig.setServers([
      { prefix: 'bad', url: bad.url },
      { prefix: 'good', url: good.url },
    ])
    const startedAt = performance.now()
    const { last } = await post(rig, 'tools/call', { name: 'bad_go' })
    t.equal(last.error?.code, code, `${name}: ${last.error?.message}`)
    t.ok(performance.now() - startedAt < 10_000, `${name}: within its limit`)
    t.notMatch(JSON.stringify(last), /127\.0\.0\.1|stack|node_modules/, `${name}: says nothing of the inside`)
    t.match((await post(rig, 'tools/call', { name: 'good_go' })).last.result, { content: [{ text: 'ok' }] })
    await Promise.all([bad.close(), good.close()])
  }
})

t.test('an upstream session that is gone is opened again, unseen', async (t) => {
  const rig = await startRig()
  let session = 'one'
  const server = await startLegacy(ok, { session: () => session })
  t.teardown(async () => {
    await Promise.all([rig.close(), server.close()])
  })
  rig.setServers([{ prefix: 'a', url: server.url }])
  await post(rig, 'tools/call', { name: 'a_go' })
  session = 'two'
  const answers = await Promise.all(
    Array.from({ length: 8 }, () => post(rig, 'tools/call', { name: 'a_go' })),
  )
  for (const { last } of answers) t.match(last.result, { content: [{ text: 'ok' }] })
  t.equal(
    server.seen.filter(({ method }) => method === 'initialize').length,
    2,
    'one new session for all of them',
  )
})

t.test('a session of the client has its own at the server, ended with it', async (t) => {
  const rig = await startRig()
  let count = 0
  const server = await startLegacy(ok, { session: () => 'fixed' })
  t.teardown(async () => {
    await Promise.all([rig.close(), server.close()])
  })
  rig.setServers([{ prefix: 'a', url: server.url }])
  const open = async () =>
    (
      await post(rig, 'initialize', {
        protocolVersion: '2025-11-25',
        capabilities: {},
        clientInfo: { name: 'c', version: '1' },
      })
    ).headers.get('mcp-session-id')!
  const ids = [await open(), await open()]
  for (const id of ids) await post(rig, 'tools/call', { name: 'a_go' }, { 'mcp-session-id': id })
  t.equal(server.seen.filter(({ method }) => method === 'initialize').length, 2)
  const ended = new Promise<void>((resolve) => {
    const wait = setInterval(() => {
      count = server.seen.filter(({ method }) => method === 'DELETE').length
      if (count > 0) resolve(clearInterval(wait))
    }, 5)
  })
  await rig.core.endSession({
    id: ids[0]!,
    protocolVersion: '',
    clientCapabilities: {},
    issuedAt: 0,
    principalKey: '',
  })
  await ended
  t.equal(count, 1)
})

t.test('what goes to a server: its credential, nothing of the client', async (t) => {
  const rig = await startRig()
  const server = await startLegacy(ok)
  t.teardown(async () => {
    await Promise.all([rig.close(), server.close()])
  })
  rig.setServers([{ prefix: 'a', url: server.url, credential: 'required' }])
  rig.credentials.answer = () => ({
    kind: 'headers',
    headers: [{ name: 'Authorization', value: 'Bearer anns-own' }],
    expiresAt: null,
    credentialProviderId: 'cp',
  })
  await post(
    rig,
    'tools/call',
    { name: 'a_go', _meta: { traceparent: '00-1-2-01', 'io.modelcontextprotocol/x': 1 } },
    {
      authorization: 'Bearer agents-token',
      cookie: 'a=b',
      'x-forwarded-for': '1.2.3.4',
      'mcp-name': 'a_go',
    },
  )
  const { headers, body } = server.seen.at(-1)!
  t.equal(headers.authorization, 'Bearer anns-own')
  for (const name of ['cookie', 'x-forwarded-for', 'mcp-name']) t.notOk(headers[name], name)
  t.notMatch(JSON.stringify(server.seen), /agents-token/)
  t.same(body, {
    jsonrpc: '2.0',
    id: body.id,
    method: 'tools/call',
    params: { name: 'go', _meta: { traceparent: '00-1-2-01' } },
  })
})

t.test('a credential that the server refuses is asked for anew, once', async (t) => {
  const rig = await startRig()
  let good = 'second'
  const server = await startLegacy((body, response, request) =>
    request.headers.authorization === `Bearer ${good}` ? ok(body, response) : response.writeHead(401).end(),
  )
  t.teardown(async () => {
    await Promise.all([rig.close(), server.close()])
  })
  rig.setServers([{ prefix: 'a', url: server.url, credential: 'required' }])
  const asked: (string | undefined)[] = []
  rig.credentials.answer = (_server, rejected) => {
    asked.push(rejected)
    const value = rejected ? 'Bearer second' : 'Bearer first'
    return {
      kind: 'headers',
      headers: [{ name: 'authorization', value }],
      expiresAt: null,
      credentialProviderId: 'cp',
    }
  }
  t.match((await post(rig, 'tools/call', { name: 'a_go' })).last.result, { content: [{ text: 'ok' }] })
  t.equal(asked.length, 2)
  t.match(asked[1], /^[\w-]{43}$/, 'told by digest which one was refused')
  good = 'none'
  t.equal((await post(rig, 'tools/call', { name: 'a_go' })).last.error?.code, 5022)
  t.equal(asked.length, 4, 'no third try')
})

t.test('an account that is not connected yet', async (t) => {
  const rig = await startRig()
  let connected = false
  const server = await startLegacy(ok)
  t.teardown(async () => {
    await Promise.all([rig.close(), server.close()])
  })
  rig.setServers([{ prefix: 'notes', url: server.url, credential: 'required' }])
  rig.credentials.answer = () =>
    connected
      ? { kind: 'headers', headers: [], expiresAt: null, credentialProviderId: 'cp' }
      : {
          kind: 'authorization_required',
          url: 'https://gw.test/connect',
          message: 'Connect Notes.',
          elicitationId: 'e1',
        }

  const names = async () =>
    ((await post(rig, 'tools/list')).last.result!.tools as { name: string }[]).map(({ name }) => name)
  t.same(await names(), ['notes_connect'], 'one tool says what to do')
  for (const name of ['notes_go', 'notes_connect']) {
    const plain = (await post(rig, 'tools/call', { name })).last
    t.match(plain.result, { isError: true, content: [{ text: /https:\/\/gw\.test\/connect/ }] })
  }

  const initialized = await post(rig, 'initialize', {
    protocolVersion: '2025-11-25',
    capabilities: { elicitation: { url: {} } },
    clientInfo: { name: 'c', version: '1' },
  })
  const session = { 'mcp-session-id': initialized.headers.get('mcp-session-id')! }
  const elicited = (await post(rig, 'tools/call', { name: 'notes_go' }, session)).last
  t.match(elicited.error, {
    code: -32042,
    data: { elicitations: [{ mode: 'url', url: 'https://gw.test/connect', elicitationId: 'e1' }] },
  })

  const meta = {
    'io.modelcontextprotocol/protocolVersion': '2026-07-28',
    'io.modelcontextprotocol/clientCapabilities': { elicitation: { url: {} } },
  }
  const modern = (await post(rig, 'tools/call', { name: 'notes_go', _meta: meta })).last.result!
  t.match(modern, {
    resultType: 'input_required',
    inputRequests: { e1: { method: 'elicitation/create', params: { mode: 'url' } } },
  })

  t.equal(server.seen.length, 0, 'the server was not bothered so far')
  connected = true
  const retry = {
    name: 'notes_go',
    requestState: modern.requestState,
    inputResponses: { e1: { action: 'accept' } },
    _meta: meta,
  }
  t.match((await post(rig, 'tools/call', retry)).last.result, {
    resultType: 'complete',
    content: [{ text: 'ok' }],
  })
  t.notMatch(
    JSON.stringify(server.seen.at(-1)?.body),
    /requestState|inputResponses/,
    'our own question stays with us',
  )
  t.match((await post(rig, 'tools/call', { name: 'notes_connect' })).last.result, {
    content: [{ text: /is connected/ }],
  })
  t.same(await names(), ['notes_go'])
})

t.test('a server that goes down keeps its last listing, marked', async (t) => {
  let ahead = 0
  const rig = await startRig({ now: () => Date.now() + ahead })
  const server = await startLegacy(ok)
  t.teardown(() => rig.close())
  rig.setServers([{ prefix: 'a', url: server.url }])
  const ask = async () => (await post(rig, 'tools/list')).last.result!
  const outcome = (result: JsonObject) => (result._meta as Record<string, unknown>)['io.aembit/servers']
  t.same(outcome(await ask()), [{ server: 'a', outcome: 'ok' }])
  await server.close()
  t.same(outcome(await ask()), [{ server: 'a', outcome: 'ok' }], 'fresh in memory: nobody is asked')
  ahead = 60_000
  const later = await ask()
  t.match(later.tools, [{ name: 'a_go' }], 'an outage does not look like an empty catalogue')
  t.same(outcome(later), [{ server: 'a', outcome: 'error', stale: true }])
})

t.test('questions in mid-call reach a legacy client that can answer them', async (t) => {
  const rig = await startRig()
  const server = await startLegacy((body, response) => {
    response.writeHead(200, { 'content-type': 'text/event-stream' })
    response.write(
      `data: ${JSON.stringify({ jsonrpc: '2.0', id: 'q', method: 'elicitation/create', params: { message: 'Sure?' } })}\n\n`,
    )
    answers.set('q', (answer) =>
      response.end(
        `data: ${JSON.stringify({ jsonrpc: '2.0', id: body.id, result: { content: [{ type: 'text', text: JSON.stringify(answer) }] } })}\n\n`,
      ),
    )
  })
  const answers = new Map<string, (answer: unknown) => void>()
  const front = await startUpstream((request, text, response) => {
    const body = JSON.parse(text || '{}')
    if (body.id === 'q' && !body.method) {
      answers.get('q')?.(body.result ?? body.error)
      return response.writeHead(202).end()
    }
    void fetch(server.url, {
      method: 'POST',
      headers: request.headers as Record<string, string>,
      body: text,
    }).then(async (answer) => {
      response.writeHead(answer.status, Object.fromEntries(answer.headers))
      for await (const chunk of answer.body ?? []) response.write(chunk)
      response.end()
    })
  })
  t.teardown(async () => {
    await Promise.all([rig.close(), server.close(), front.close()])
  })
  rig.setServers([{ prefix: 'a', url: front.url }])
  const initialized = await post(rig, 'initialize', {
    protocolVersion: '2025-11-25',
    capabilities: { elicitation: {} },
    clientInfo: { name: 'c', version: '1' },
  })
  const id = initialized.headers.get('mcp-session-id')!
  const response = await fetch(rig.url, {
    method: 'POST',
    headers: { 'mcp-session-id': id },
    body: JSON.stringify({ jsonrpc: '2.0', id: 5, method: 'tools/call', params: { name: 'a_go' } }),
  })
  let text = ''
  for await (const chunk of response.body!.pipeThrough(new TextDecoderStream())) {
    text += chunk
    const question = /"id":"(gw-\d+)"/.exec(text)?.[1]
    if (question && !text.includes('asked')) {
      text += 'asked'
      const answered = await fetch(rig.url, {
        method: 'POST',
        headers: { 'mcp-session-id': id },
        body: JSON.stringify({ jsonrpc: '2.0', id: question, result: { action: 'accept' } }),
      })
      t.equal(answered.status, 202)
    }
  }
  t.match(text, /"id":5/)
  t.match(text, /accept/)
})

t.test('cancellation by notification ends the call at the server', async (t) => {
  const rig = await startRig()
  const started = Promise.withResolvers<number>()
  const server = await startLegacy((body) => started.resolve(body.id!))
  t.teardown(async () => {
    await Promise.all([rig.close(), server.close()])
  })
  rig.setServers([{ prefix: 'a', url: server.url }])
  const call = fetch(rig.url, {
    method: 'POST',
    body: JSON.stringify({ jsonrpc: '2.0', id: 9, method: 'tools/call', params: { name: 'a_go' } }),
  })
  const upstreamId = await started.promise
  const cancelled = await fetch(rig.url, {
    method: 'POST',
    body: JSON.stringify({ jsonrpc: '2.0', method: 'notifications/cancelled', params: { requestId: 9 } }),
  })
  t.equal(cancelled.status, 202)
  t.equal(await (await call).text(), '', 'no answer any more')
  const told = () => server.seen.find(({ method }) => method === 'notifications/cancelled')
  while (!told()) await new Promise((resolve) => setImmediate(resolve))
  t.match(told()?.body, { params: { requestId: upstreamId } })
})
