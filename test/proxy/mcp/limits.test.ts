import { once } from 'node:events'
import http from 'node:http'
import t from 'tap'
import { templateFits } from '../../../services/proxy/mcp/holders.ts'
import { withId } from '../../../services/proxy/mcp/protocol/shape.ts'
import type { JsonObject } from '../../../services/proxy/mcp/protocol/types.ts'
import { encodeHeaderValue } from '../../../services/proxy/mcp/upstream/headers.ts'
import { proves } from '../../requirements.ts'
import { type Handler, ok, post, startLegacy } from './legacy-server.ts'
import { modernMeta, startScripted } from './modern-server.ts'
import { startRig } from './rig.ts'

const sse = (message: JsonObject): string => `data: ${JSON.stringify({ jsonrpc: '2.0', ...message })}\n\n`
const until = async (holds: () => boolean): Promise<void> => {
  while (!holds()) await new Promise((resolve) => setTimeout(resolve, 5))
}

t.test('progress keeps a call alive past its time-out, silence does not', async (t) => {
  proves(t, 'MCP-PROGRESS-01')
  const rig = await startRig({ timeouts: { tools_call: 1_500 } })
  const server = await startLegacy((body, response) => {
    const meta = body.params?._meta as JsonObject | undefined
    const token = meta?.progressToken
    response.writeHead(200, { 'content-type': 'text/event-stream' })
    let progress = 0
    const tick = setInterval(() => {
      const params = { progressToken: token, progress: ++progress, total: 4 }
      response.write(
        sse({ method: 'notifications/progress', params: { ...params, progressToken: 'not-ours' } }),
      )
      response.write(sse({ method: 'notifications/progress', params }))
      if (progress < 4) return
      clearInterval(tick)
      if (body.params?.name === 'go') response.end(sse({ id: body.id, result: { content: [] } }))
    }, 450)
    response.on('close', () => clearInterval(tick))
  })
  t.teardown(async () => {
    await Promise.all([rig.close(), server.close()])
  })
  rig.setServers([{ prefix: 'a', url: server.url }])
  const params = { name: 'a_go', _meta: { progressToken: 'mine' } }
  const { messages, last } = await post(rig, 'tools/call', params)
  t.match(last.result, { content: [] })
  t.same(
    messages.slice(0, -1).map(({ params }) => params),
    [1, 2, 3, 4].map((progress) => ({ progressToken: 'mine', progress, total: 4 })),
    'with the client’s own token, and nobody else’s progress',
  )
  const silent = await post(rig, 'tools/call', { ...params, name: 'a_silent' })
  t.equal(silent.last.error?.code, 5040, 'on the stream that is open by then')
  await until(() => server.seen.some(({ method }) => method === 'notifications/cancelled'))
})

t.test('a modern client that goes away cancels, a legacy one does not', async (t) => {
  proves(t, 'MCP-CANCEL-02')
  const rig = await startRig()
  const closed: string[] = []
  let arrived = () => {}
  const hang: Handler = (body, response) => {
    arrived()
    response.on('close', () => closed.push(String(body.params?.name)))
  }
  const server = await startLegacy(hang)
  t.teardown(async () => {
    await Promise.all([rig.close(), server.close()])
  })
  rig.setServers([{ prefix: 'a', url: server.url }])
  const callAndLeave = async (params: JsonObject) => {
    const there = new Promise<void>((resolve) => {
      arrived = resolve
    })
    const request = http.request(rig.url, { method: 'POST' })
    request.on('error', () => {})
    request.end(JSON.stringify({ jsonrpc: '2.0', id: 1, method: 'tools/call', params }))
    await there
    request.destroy()
  }
  await callAndLeave({ name: 'a_legacy' })
  await callAndLeave({ name: 'a_modern', _meta: modernMeta() })
  await until(() => server.seen.some(({ method }) => method === 'notifications/cancelled'))
  await until(() => closed.length > 0)
  t.same(closed, ['modern'])
  t.equal(rig.core.stats().activeCalls, 1, 'the other one still runs')
})

t.test('DELETE ends what runs in the session; closing gives every session back', async (t) => {
  proves(t, 'SESSION-11')
  const rig = await startRig()
  let arrived = 0
  const server = await startLegacy(() => arrived++, { session: () => 'one' })
  t.teardown(async () => {
    await Promise.all([rig.close(), server.close()])
  })
  rig.setServers([{ prefix: 'a', url: server.url }])
  const open = async () => {
    const clientInfo = { name: 'c', version: '1' }
    const params = { protocolVersion: '2025-11-25', capabilities: {}, clientInfo }
    return (await post(rig, 'initialize', params)).headers.get('mcp-session-id')!
  }
  const call = (id: string) =>
    fetch(rig.url, {
      method: 'POST',
      headers: { 'mcp-session-id': id },
      body: JSON.stringify({ jsonrpc: '2.0', id: 7, method: 'tools/call', params: { name: 'a_go' } }),
    }).then((response) => response.text())
  const [first, second] = [await open(), await open()]
  const [ended, left] = [call(first), call(second)]
  await until(() => arrived === 2)
  const session = { id: first, protocolVersion: '', clientCapabilities: {}, issuedAt: 0, principalKey: '' }
  await rig.core.endSession(session)
  t.equal(await ended, '', 'no answer is wanted any more')
  const deletes = () => server.seen.filter(({ method }) => method === 'DELETE').length
  t.equal(deletes(), 1)
  t.equal(rig.core.stats().upstreamSessions, 1)
  t.equal(await rig.core.drain(10), 1, 'one call is left at the deadline')
  await rig.core.close()
  t.match(JSON.parse((await left).replace(/^data: /, '')), { error: { data: { reason: 'drain.timeout' } } })
  t.equal(deletes(), 2)
  t.equal(await rig.core.drain(10), 0)
})

t.test('a client that reads slowly holds the server back', async (t) => {
  proves(t, 'MCP-STREAM-01')
  // Long enough for 128 MB on a busy machine; time is not what this is about.
  const rig = await startRig({ timeouts: { tools_call: 60_000 } })
  const total = 2_000
  let written = 0
  const server = await startLegacy(async (body, response) => {
    response.writeHead(200, { 'content-type': 'text/event-stream' })
    const data = 'x'.repeat(64 * 1024)
    while (written < total && !response.destroyed) {
      written++
      const params = { level: 'info', data }
      await new Promise((resolve) =>
        response.write(sse({ method: 'notifications/message', params }), resolve),
      )
    }
    response.end(sse({ id: body.id, result: { content: [] } }))
  })
  t.teardown(async () => {
    await Promise.all([rig.close(), server.close()])
  })
  rig.setServers([{ prefix: 'a', url: server.url }])
  const request = http.request(rig.url, { method: 'POST' })
  request.end(JSON.stringify({ jsonrpc: '2.0', id: 1, method: 'tools/call', params: { name: 'a_go' } }))
  const [response] = (await once(request, 'response')) as [http.IncomingMessage]
  response.pause()
  let before = -1
  // Until nothing moves any more: every buffer on the way is full.
  while (before !== written) {
    before = written
    await new Promise((resolve) => setTimeout(resolve, 300))
  }
  t.ok(written < total / 2, `${written} of ${total} events of 64 KiB were taken`)
  let size = 0
  for await (const chunk of response) size += chunk.length
  t.equal(written, total)
  t.ok(size > total * 64 * 1024, 'and all of them arrive in the end')
})

t.test('an address out of bounds is not called', async (t) => {
  const rig = await startRig()
  const server = await startScripted(() => ({ result: { content: [] } }))
  t.teardown(async () => {
    await Promise.all([rig.close(), server.close()])
  })
  const { port } = server
  for (const host of [
    '127.0.0.1',
    '[::1]',
    '[::ffff:127.0.0.1]',
    'localhost',
    '169.254.169.254',
    '10.0.0.1',
  ]) {
    rig.setServers([{ prefix: 'a', url: `http://${host}:${port}/mcp`, allowedNetworks: [] }])
    const { error } = (await post(rig, 'tools/call', { name: 'a_go' })).last
    t.equal(error?.code, 5024, host)
    t.notMatch(JSON.stringify(error), /127|169|10\.0/, 'and not named')
  }
  t.equal(server.seen.length, 0)
})

t.test('a credential can not write the headers of the protocol', async (t) => {
  const rig = await startRig()
  const server = await startLegacy(ok, { session: () => 'one' })
  t.teardown(async () => {
    await Promise.all([rig.close(), server.close()])
  })
  rig.setServers([{ prefix: 'a', url: server.url, credential: 'required' }])
  const names = ['Host', 'Content-Length', 'Mcp-Session-Id', 'Accept', 'Transfer-Encoding', 'X-Api-Key']
  rig.credentials.answer = () => ({
    kind: 'headers',
    headers: names.map((name) => ({ name, value: 'theirs' })),
    expiresAt: null,
    credentialProviderId: 'p',
  })
  await post(rig, 'tools/call', { name: 'a_go' })
  const { headers } = server.seen.at(-1)!
  const theirs = Object.entries(headers).filter(([, value]) => value === 'theirs')
  t.same(theirs, [['x-api-key', 'theirs']])
})

t.test('a server’s text is passed on only where its id is beyond doubt', async (t) => {
  proves(t, 'MCP-HOSTILE-02')
  t.equal(
    withId('{"result":{},"jsonrpc":"2.0","id":7}', 7, 'a"b'),
    '{"result":{},"jsonrpc":"2.0","id":"a\\"b"}',
  )
  t.equal(
    withId('{"jsonrpc":"2.0","id":7,"result":{"x":1}}', 7, 1),
    '{"jsonrpc":"2.0","id":1,"result":{"x":1}}',
  )
  for (const text of [
    '{"jsonrpc":"2.0","id": 7,"result":{}}',
    '{"jsonrpc":"2.0","id":77,"result":{}}',
    '{"result":{"id":7},"jsonrpc":"2.0","id":7}',
    '{"jsonrpc":"2.0","id":7,"result":{},"id":7}',
    '{"jsonrpc":"2.0","id":7,"result":{},"\\u0069d":9}',
  ]) {
    t.equal(withId(text, 7, 1), undefined, text)
  }
  const rig = await startRig()
  const tricky = {
    structuredContent: { id: 7, nested: [{ id: 1 }] },
    content: [{ type: 'text', text: '"id":1 \u0007' }],
  }
  const server = await startLegacy((body, response) =>
    response
      .writeHead(200, { 'content-type': 'application/json' })
      .end(JSON.stringify({ jsonrpc: '2.0', id: body.id, result: tricky })),
  )
  t.teardown(async () => {
    await Promise.all([rig.close(), server.close()])
  })
  rig.setServers([{ prefix: 'a', url: server.url }])
  t.same((await post(rig, 'tools/call', { name: 'a_go' })).last, { jsonrpc: '2.0', id: 1, result: tricky })
})

t.test('templates and header values', async (t) => {
  for (const [template, uri, fits] of [
    ['x://{id}', 'x://7', true],
    ['x://{id}/end', 'x://7/end', true],
    ['x://{id}/end', 'x://7/other', false],
    ['x://fixed', 'x://fixed', true],
    ['x://fixed', 'x://fixed/more', false],
    ['{+any}', 'y://z', true],
    [`x://${'{a}-'.repeat(2_000)}`, `x://${'-'.repeat(1_999)}`, false],
  ] as const) {
    t.equal(templateFits(template, uri), fits, template.slice(0, 30))
  }
  t.equal(encodeHeaderValue('plain name'), 'plain name')
  for (const value of ['ü', ' edge', 'line\nbreak', '=?base64?eA==?=', '']) {
    t.equal(encodeHeaderValue(value), `=?base64?${Buffer.from(value).toString('base64')}?=`)
  }
})
