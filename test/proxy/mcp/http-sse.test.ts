import t from 'tap'
import { proves } from '../../requirements.ts'
import { ok, post, startLegacy } from './legacy-server.ts'
import { modernMeta, startScripted } from './modern-server.ts'
import { startEverything, startRig, startUpstream } from './rig.ts'
import { startSse } from './sse-server.ts'

const until = async (condition: () => boolean): Promise<void> => {
  while (!condition()) await new Promise((resolve) => setTimeout(resolve, 5))
}

const opened = async (rig: Awaited<ReturnType<typeof startRig>>, capabilities = {}) => {
  const { headers } = await post(rig, 'initialize', {
    protocolVersion: '2025-11-25',
    capabilities,
    clientInfo: { name: 'c', version: '1' },
  })
  return { 'mcp-session-id': headers.get('mcp-session-id')! }
}

t.test('server-everything over HTTP+SSE, for clients of both eras', async (t) => {
  const rig = await startRig()
  const everything = await startEverything('sse')
  t.teardown(() => Promise.all([rig.close(), everything.close()]))
  rig.setServers([{ prefix: 'e', url: everything.url }])
  const session = await opened(rig)
  const listed = await post(rig, 'tools/list', {}, session)
  t.ok(listed.last.result?.tools)
  t.match(listed.last.result?._meta, { 'io.aembit/servers': [{ server: 'e', outcome: 'ok' }] })
  const call = { name: 'e_echo', arguments: { message: 'hi' } }
  t.match((await post(rig, 'tools/call', call, session)).last.result, { content: [{ text: 'Echo: hi' }] })
  const modern = await post(rig, 'tools/call', { ...call, _meta: modernMeta() })
  t.match(modern.last.result, { resultType: 'complete', content: [{ text: 'Echo: hi' }] })
  const read = await post(rig, 'prompts/get', { name: 'e_simple-prompt' }, session)
  t.ok(read.last.result?.messages)
})

t.test('one stream carries many calls; it opens once and is ended with the session', async (t) => {
  const rig = await startRig()
  const server = await startSse()
  t.teardown(() => Promise.all([rig.close(), server.close()]))
  rig.setServers([{ prefix: 'a', url: server.url }])
  const session = await opened(rig)
  const answers = await Promise.all(
    Array.from({ length: 20 }, (_, at) =>
      post(rig, 'tools/call', { name: 'a_echo', arguments: { text: `n${at}` } }, session),
    ),
  )
  for (const [at, { last }] of answers.entries()) t.match(last.result, { content: [{ text: `n${at}` }] })
  t.equal(server.seen.filter(({ method }) => method === 'GET').length, 1, 'one stream')
  t.equal(server.streams(), 1)
  await rig.core.endSession({ id: session['mcp-session-id'] } as never)
  await until(() => server.streams() === 0)
})

t.test('progress, questions and cancellation go both ways', async (t) => {
  const rig = await startRig()
  const server = await startSse()
  t.teardown(() => Promise.all([rig.close(), server.close()]))
  rig.setServers([{ prefix: 'a', url: server.url }])
  const session = await opened(rig, { elicitation: {} })
  const counted = await post(
    rig,
    'tools/call',
    { name: 'a_count', _meta: { progressToken: 'mine' } },
    session,
  )
  t.same(
    counted.messages.slice(0, -1).map(({ params }) => [params.progressToken, params.progress]),
    [
      ['mine', 1],
      ['mine', 2],
      ['mine', 3],
    ],
  )
  const asking = fetch(rig.url, {
    method: 'POST',
    headers: session,
    body: JSON.stringify({ jsonrpc: '2.0', id: 5, method: 'tools/call', params: { name: 'a_ask' } }),
  })
  let text = ''
  for await (const chunk of (await asking).body!.pipeThrough(new TextDecoderStream())) {
    text += chunk
    const question = /"id":"(gw-[\d.]+-\d+)"/.exec(text)?.[1]
    if (!question || text.includes('answered')) continue
    text += 'answered'
    const message = { jsonrpc: '2.0', id: question, result: { action: 'accept', content: { yes: true } } }
    await fetch(rig.url, { method: 'POST', headers: session, body: JSON.stringify(message) })
  }
  t.match(text, /accept/)
  const hung = post(rig, 'tools/call', { name: 'a_hang' }, session)
  await until(() => server.hanging.count === 1)
  const cancel = { jsonrpc: '2.0', method: 'notifications/cancelled', params: { requestId: 1 } }
  await fetch(rig.url, { method: 'POST', headers: session, body: JSON.stringify(cancel) })
  await until(() => server.hanging.cancelled === 1)
  await hung.catch(() => {})
})

t.test('a stream that was cut is opened again by the next call', async (t) => {
  const rig = await startRig()
  const server = await startSse()
  t.teardown(() => Promise.all([rig.close(), server.close()]))
  rig.setServers([{ prefix: 'a', url: server.url }])
  const session = await opened(rig)
  const call = { name: 'a_echo', arguments: { text: 'x' } }
  await post(rig, 'tools/call', call, session)
  server.cut()
  await until(() => server.streams() === 0)
  t.match((await post(rig, 'tools/call', call, session)).last.result, { content: [{ text: 'x' }] })
  t.equal(server.seen.filter(({ method }) => method === 'GET').length, 2)
})

t.test('a stream that is cut in mid-call fails the call at once, not by its time-out', async (t) => {
  const rig = await startRig({ timeouts: { tools_call: 600_000 } })
  const server = await startSse()
  t.teardown(() => Promise.all([rig.close(), server.close()]))
  rig.setServers([{ prefix: 'a', url: server.url }])
  const session = await opened(rig)
  const hung = post(rig, 'tools/call', { name: 'a_hang' }, session)
  await until(() => server.hanging.count === 1)
  server.cut()
  t.equal((await hung).last.error?.code, 5020)
})

t.test('the credential goes with the stream and with every request', async (t) => {
  const rig = await startRig()
  const server = await startSse()
  t.teardown(() => Promise.all([rig.close(), server.close()]))
  rig.credentials.answer = () => ({
    kind: 'headers',
    headers: [{ name: 'Authorization', value: 'Bearer for-ann' }],
    expiresAt: new Date(Date.now() + 60_000).toISOString(),
    credentialProviderId: 'p',
  })
  rig.setServers([{ prefix: 'a', url: server.url, credential: 'required' }])
  await post(rig, 'tools/call', { name: 'a_echo', arguments: { text: 'x' } }, await opened(rig))
  t.ok(server.seen.length >= 4)
  for (const { headers } of server.seen) t.equal(headers.authorization, 'Bearer for-ann')
})

t.test('an endpoint at another origin is refused: the credential must not go there', async (t) => {
  const rig = await startRig()
  const elsewhere = await startUpstream((_request, _body, response) => response.writeHead(202).end())
  let asked = 0
  const server = await startUpstream((request, _body, response) => {
    if (request.method !== 'GET') return response.writeHead(405).end()
    asked++
    response.writeHead(200, { 'content-type': 'text/event-stream' })
    response.write(`event: endpoint\ndata: ${elsewhere.url}\n\n`)
  })
  let stolen = 0
  const spy = await startUpstream((_request, _body, response) => {
    stolen++
    response.writeHead(202).end()
  })
  t.teardown(() => Promise.all([rig.close(), server.close(), elsewhere.close(), spy.close()]))
  rig.setServers([{ prefix: 'a', url: server.url }])
  const { last } = await post(rig, 'tools/call', { name: 'a_go' }, await opened(rig))
  t.equal(last.error?.code, 5024)
  t.ok(asked >= 1)
  t.equal(stolen, 0)
})

t.test('a server whose GET stays silent is not waited for as HTTP+SSE for long', async (t) => {
  const rig = await startRig({ timeouts: { initialize: 300 } })
  const server = await startUpstream((request, _body, response) => {
    if (request.method !== 'GET') return response.writeHead(405).end()
    response.writeHead(200, { 'content-type': 'text/event-stream' })
    response.write(': hello\n\n')
  })
  t.teardown(() => Promise.all([rig.close(), server.close()]))
  rig.setServers([{ prefix: 'a', url: server.url }])
  const { last } = await post(rig, 'tools/call', { name: 'a_go' }, await opened(rig))
  t.equal(last.error?.code, 5022)
})

t.test(
  'an address that moves from HTTP+SSE to streamable HTTP, and back, is found out by the next call',
  async (t) => {
    proves(t, 'MCP-SSE-01')
    const rig = await startRig()
    const before = await startSse()
    rig.setServers([{ prefix: 'a', url: before.url }])
    const session = await opened(rig)
    t.ok((await post(rig, 'tools/call', { name: 'a_echo', arguments: { text: 'x' } }, session)).last.result)
    await before.close()
    // Half-closed connections are noticed by a question that costs nothing to lose.
    await post(rig, 'prompts/list', {}, session)
    const streamable = await startLegacy(ok, { port: before.port, session: () => 'one' })
    t.match((await post(rig, 'tools/call', { name: 'a_go' }, session)).last.result, {
      content: [{ text: 'ok' }],
    })
    await streamable.close()
    const after = await startSse(before.port)
    const call = { name: 'a_echo', arguments: { text: 'y' } }
    t.match((await post(rig, 'tools/call', call, session)).last.result, { content: [{ text: 'y' }] })
    await after.close()
    await post(rig, 'prompts/list', {}, session)
    const modern = await startScripted(() => ({ result: { content: [{ type: 'text', text: 'modern' }] } }))
    const relay = await startUpstream((request, body, response) => {
      if (request.method !== 'POST') return response.writeHead(405).end()
      void fetch(modern.url, {
        method: 'POST',
        headers: request.headers as Record<string, string>,
        body,
      }).then(async (answer) =>
        response.writeHead(answer.status, { 'content-type': 'application/json' }).end(await answer.text()),
      )
    }, before.port)
    t.teardown(() => Promise.all([rig.close(), relay.close(), modern.close()]))
    t.match((await post(rig, 'tools/call', { name: 'a_go' }, session)).last.result, {
      content: [{ text: 'modern' }],
    })
  },
)

t.test('a flood of one event ends the stream at its bound', async (t) => {
  const rig = await startRig()
  const server = await startSse()
  const big = 'x'.repeat((1 << 20) + 10)
  t.teardown(() => Promise.all([rig.close(), server.close()]))
  rig.setServers([{ prefix: 'a', url: server.url }])
  const { last } = await post(
    rig,
    'tools/call',
    { name: 'a_echo', arguments: { text: big } },
    await opened(rig),
  )
  t.equal(last.error?.code, 5023)
  await until(() => server.streams() === 0)
})
