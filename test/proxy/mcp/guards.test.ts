import t from 'tap'
import type { JsonObject } from '../../../services/proxy/mcp/protocol/types.ts'
import { proves } from '../../requirements.ts'
import { aidr, hook, json, startGuard, world } from './guard-rig.ts'
import { open } from './legacy-server.ts'

t.test('AIDR sees listings, arguments and results, in the shape of its API', async (t) => {
  proves(t, 'POLICY-GUARD-03')
  const guard = await startGuard(t, () => ({
    request_id: 'prq_1',
    status: 'Success',
    result: { blocked: false, transformed: false, detectors: {} },
  }))
  const { rig, list, call, stats } = await world(t, [aidr(`${guard.url}/aidr/aiguard`)])
  t.equal((await list()).length, 2)
  t.equal((await list()).length, 2)
  t.match((await call({ q: 'x' })).result, { content: [{ text: 'found {"q":"x"}' }] })
  t.match(guard.asked, [
    {
      path: '/aidr/aiguard/v1/guard_chat_completions',
      authorization: 'Bearer of contentSecurity/g',
      body: {
        event_type: 'tool_listing',
        guard_input: {
          tools: [{ type: 'function', function: { name: 'find', parameters: { type: 'object' } } }, {}],
        },
        user_id: 'ann@acme.test',
        app_id: 'agent',
        source_ip: '127.0.0.1',
      },
    },
    {
      body: {
        event_type: 'tool_input',
        guard_input: { messages: [{ role: 'tool', content: '{"tool":"find","arguments":{"q":"x"}}' }] },
      },
    },
    {
      body: {
        event_type: 'tool_output',
        guard_input: { messages: [{ role: 'tool', content: 'found {"q":"x"}' }] },
        extra_info: { mcp_tools: [{ server_name: 'Server crm', tools: ['find'] }] },
      },
    },
  ])
  t.equal(guard.asked.length, 3, 'the same listing is looked at once')
  t.same(stats(), [3, 0, 0])
  const aidrOf = (type: string) =>
    rig.events.findLast((event) => event.type === type && event.toolName === 'find')?.contentSecurity
  t.same(aidrOf('request'), { crowdStrikeAidr: { decision: 'allowed', requestId: 'prq_1' } })
  t.same(aidrOf('response'), { crowdStrikeAidr: { decision: 'allowed', requestId: 'prq_1' } })
})

t.test('what AIDR changes goes on changed, what it blocks does not', async (t) => {
  proves(t, 'POLICY-GUARD-04')
  const guard = await startGuard(t, ({ body }) => {
    const messages = (body.guard_input as { messages: { content: string }[] }).messages
    const text = messages[0]?.content ?? ''
    if (text.includes('attack'))
      return {
        request_id: 'prq_2',
        result: { blocked: true, detectors: { malicious_prompt: { detected: true } } },
      }
    return {
      result: {
        transformed: text.includes('4711'),
        guard_output: {
          messages: messages.map(({ content }) => ({ content: content.replaceAll('4711', '****') })),
        },
        detectors: {},
      },
    }
  })
  const { rig, call, calls } = await world(t, [aidr(guard.url)], (body, response) =>
    json(body, response, {
      content: [
        { type: 'text', text: 'number 4711' },
        { type: 'image', data: 'AA==', mimeType: 'image/png' },
      ],
      structuredContent: { number: '4711' },
    }),
  )
  const { result } = await call({ number: '4711' })
  t.same(calls()[0]?.body.params, { name: 'find', arguments: { number: '****' } }, 'the server got no number')
  t.same(result, {
    content: [
      { type: 'text', text: 'number ****' },
      { type: 'image', data: 'AA==', mimeType: 'image/png' },
    ],
    structuredContent: { number: '****' },
  })
  const blocked = await call({ q: 'attack' })
  t.match(blocked.error, { code: 4030, data: { decision: 'content_blocked' } })
  t.equal(calls().length, 1, 'a blocked call reaches no server')
  const event = rig.events.findLast(({ type }) => type === 'response')
  t.match(event, {
    outcome: 'Error',
    reasonCode: 'content_blocked',
    contentSecurity: {
      crowdStrikeAidr: { decision: 'blocked', requestId: 'prq_2', reason: 'malicious_prompt' },
    },
  })
  t.notMatch(
    JSON.stringify(rig.events.map(({ server: _server, ...rest }) => rest)),
    /4711|attack/,
    'no content in events',
  )
})

t.test('tool access control comes before, a guard is not asked for what it stops', async (t) => {
  proves(t, 'POLICY-GUARD-05')
  const guard = await startGuard(t, () => ({ result: { detectors: {} } }))
  const { list, call } = await world(t, [
    {
      type: 'AembitMcpToolAccessControl',
      id: 'acl',
      name: 'acl',
      mode: 'Allow',
      visibility: 'Specific',
      visibilityEntries: ['drop'],
      invocation: 'Specific',
      invocationEntries: ['drop'],
      prompts: 'All',
      resources: 'All',
    },
    aidr(guard.url),
  ])
  t.same(
    (await list()).map(({ name }) => name),
    ['crm_drop'],
  )
  t.ok((await call({ q: 'x' })).error)
  t.equal(guard.asked.length, 1)
  t.notMatch(JSON.stringify(guard.asked), /tool-prose/, 'a hidden tool is nobody’s business')
})

t.test('a hook that changes, blocks and answers nonsense', async (t) => {
  proves(t, 'POLICY-GUARD-06')
  const guard = await startGuard(t, ({ body }) => {
    const { phase, content } = body as { phase: string; content: JsonObject }
    if (phase === 'listing')
      return {
        decision: 'transform',
        content: (body.content as JsonObject[]).filter(({ name }) => name === 'find'),
      }
    if (phase === 'input') {
      if (content.q === 'block') return { decision: 'block', reason: 'house-rule', requestId: 'r-1' }
      if (content.q === 'prose') return { decision: 'block', reason: 'because you wrote <secret>' }
      if (content.q === 'nonsense') return { decision: 'maybe' }
      return { decision: 'transform', content: { q: 'changed' } }
    }
    return { decision: 'allow' }
  })
  const { rig, list, call, stats } = await world(t, [hook(guard.url)])
  t.same(
    (await list()).map(({ name }) => name),
    ['crm_find'],
  )
  t.match((await call({ q: 'x' })).result, { content: [{ text: 'found {"q":"changed"}' }] })
  t.match((await call({ q: 'block' })).error, { data: { decision: 'content_blocked' } })
  t.match(rig.events.findLast(({ type }) => type === 'response')?.contentSecurity, {
    httpGuard: { decision: 'blocked', requestId: 'r-1', reason: 'house-rule' },
  })
  await call({ q: 'prose' })
  t.notOk(
    rig.events.findLast(({ type }) => type === 'response')?.contentSecurity?.httpGuard?.reason,
    'prose is dropped',
  )
  t.match((await call({ q: 'nonsense' })).error, { data: { decision: 'content_unchecked', retry: true } })
  t.same(stats().slice(1), [0, 1])
  t.match(guard.asked[0], {
    authorization: undefined,
    body: { version: 1, phase: 'listing', server: { id: 'crm' } },
  })
})

t.test('silence: open lets through, closed stops; 503 is tried again', async (t) => {
  proves(t, 'POLICY-GUARD-07')
  const flaky = await startGuard(t, (_asked, response, nth) => {
    if (nth % 2 === 0) return { decision: 'allow' }
    response.writeHead(503).end()
    return undefined
  })
  const retried = await world(t, [hook(flaky.url, { maxRetries: 1, checks: ['input'] })])
  t.ok((await retried.call({ q: 'x' })).result)
  t.equal(flaky.asked.length, 2)

  const silent = await startGuard(t, () => undefined)
  const open = await world(t, [
    hook(silent.url, { failOpen: true, timeoutMs: 100, checks: ['input', 'output'] }),
  ])
  t.ok((await open.call({ q: 'x' })).result)
  t.same(open.stats(), [0, 2, 0])
  const closed = await world(t, [hook(silent.url, { timeoutMs: 100 })])
  t.same(await closed.list(), [], 'a listing that can not be checked is empty')
  t.match((await closed.call({ q: 'x' })).error, { data: { decision: 'content_unchecked' } })
  t.same(closed.stats(), [0, 0, 2])
  t.equal(closed.calls().length, 0)
  const event = closed.rig.events.findLast(({ type }) => type === 'response')
  t.match(event, { outcome: 'Error', reasonCode: 'content_unchecked' })
  t.notOk(event?.contentSecurity, 'no decision was made')
})

t.test('a guard in private space that its networks do not open is not asked', async (t) => {
  proves(t, 'POLICY-GUARD-08')
  const guard = await startGuard(t, () => ({ decision: 'allow' }))
  const { call } = await world(t, [hook(guard.url, { allowedNetworks: [] })])
  t.ok((await call({ q: 'x' })).error)
  t.equal(guard.asked.length, 0)
})

t.test('what a guard saw is what the client gets, whatever else the text says', async (t) => {
  proves(t, 'POLICY-GUARD-10')
  const guard = await startGuard(t, () => ({ decision: 'allow' }))
  const twice = '"content":[{"type":"text","text":"unseen"}],"content":[{"type":"text","text":"seen"}]'
  const { rig, call } = await world(t, [hook(guard.url, { checks: ['output'] })], (body, response) => {
    response
      .writeHead(200, { 'content-type': 'application/json' })
      .end(`{"jsonrpc":"2.0","id":${body.id},"result":{${twice}}}`)
  })
  const { session } = await open(rig, {})
  const answer = await fetch(rig.url, {
    method: 'POST',
    headers: { 'content-type': 'application/json', ...session },
    body: '{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"crm_find","arguments":{}}}',
  })
  const text = await answer.text()
  t.match(text, /"seen"/)
  t.notMatch(text, /unseen/)
  t.match((await call({})).result, { content: [{ text: 'seen' }] })
  t.match(guard.asked[0]?.body, { content: { content: [{ text: 'seen' }] } })
})
