import t from 'tap'
import { proves } from '../../requirements.ts'
import { post, startLegacy } from './legacy-server.ts'
import { startRig, startUpstream } from './rig.ts'

t.test('questions in mid-call reach a legacy client that can answer them', async (t) => {
  proves(t, 'MCP-ASK-01')
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
    const question = /"id":"(gw-[^"]+)"/.exec(text)?.[1]
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
  proves(t, 'MCP-CANCEL-01')
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
