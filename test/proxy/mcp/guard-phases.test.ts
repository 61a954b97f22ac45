import type { ServerResponse } from 'node:http'
import t from 'tap'
import type { JsonObject } from '../../../services/proxy/mcp/protocol/types.ts'
import type { Snapshot } from '../../../shared/wire/snapshot.ts'
import { proves } from '../../requirements.ts'
import { aidr, hook, json, startGuard, world } from './guard-rig.ts'
import { converse, open, post } from './legacy-server.ts'
import { modernMeta, startScripted } from './modern-server.ts'
import { startRig } from './rig.ts'

t.test('prompts, resources and errors, for a hook that is to look at them; AIDR is not asked', async (t) => {
  proves(t, 'POLICY-GUARD-01')
  const guard = await startGuard(t, ({ body }) => {
    const { phase, content } = body as { phase: string; content: JsonObject }
    const text = JSON.stringify(content)
    if (text.includes('stop')) return { decision: 'block', reason: phase }
    return { decision: 'transform', content: JSON.parse(text.replaceAll('4711', '****')) }
  })
  const falcon = await startGuard(t, () => ({ result: { detectors: {} } }))
  const security = [
    aidr(falcon.url, { id: 'falcon' }),
    hook(guard.url, { id: 'house', checks: ['prompt', 'resource', 'error'] }),
  ]
  const error = (body: { id?: number }, response: ServerResponse, message: string): void => {
    const answer = { jsonrpc: '2.0', id: body.id, error: { code: -32050, message, data: { number: '4711' } } }
    response.writeHead(200, { 'content-type': 'application/json' }).end(JSON.stringify(answer))
  }
  const named = ({ params }: { params?: JsonObject }): string => String(params?.name ?? params?.uri)
  const { rig, stats } = await world(
    t,
    security,
    (body, response) => error(body, response, `${JSON.stringify(body.params?.arguments)} is wrong`),
    {
      'prompts/list': (body, response) =>
        json(body, response, { prompts: [{ name: 'p' }, { name: 'stop' }] }),
      'prompts/get': (body, response) =>
        json(body, response, {
          messages: [{ role: 'user', content: { type: 'text', text: `${named(body)} 4711` } }],
        }),
      'resources/list': (body, response) =>
        json(body, response, {
          resources: [
            { uri: 'r:one', name: 'one' },
            { uri: 'r:stop', name: 'two' },
          ],
        }),
      'resources/read': (body, response) =>
        json(body, response, { contents: [{ uri: named(body), text: `${named(body)} 4711` }] }),
    },
    { tools: {}, prompts: {}, resources: {} },
  )
  const ask = async (method: string, params: JsonObject) => (await post(rig, method, params)).last
  t.match((await ask('prompts/get', { name: 'crm_p' })).result, {
    messages: [{ content: { text: 'p ****' } }],
  })
  t.match((await ask('prompts/get', { name: 'crm_stop' })).error, { data: { decision: 'content_blocked' } })
  t.match((await ask('resources/read', { uri: 'r:one' })).result, { contents: [{ text: 'r:one ****' }] })
  t.match((await ask('resources/read', { uri: 'r:stop' })).error, { data: { decision: 'content_blocked' } })
  t.same(falcon.asked, [], 'it is documented for tools alone')
  t.match((await ask('tools/call', { name: 'crm_find', arguments: { q: '4711' } })).error, {
    code: -32050,
    message: '{"q":"****"} is wrong',
    data: { number: '****' },
  })
  const stopped = (await ask('tools/call', { name: 'crm_find', arguments: { q: 'stop' } })).error
  t.match(stopped, { data: { decision: 'content_blocked' } })
  t.notMatch(JSON.stringify(stopped), /wrong/)
  t.match(
    guard.asked.map(({ body }) => body),
    [
      { phase: 'prompt', prompt: 'p' },
      { phase: 'prompt', prompt: 'stop' },
      { phase: 'resource', uri: 'r:one' },
      { phase: 'resource', uri: 'r:stop' },
      { phase: 'error', tool: 'find', content: { message: /wrong/ } },
      { phase: 'error', tool: 'find' },
    ],
  )
  t.same(stats(), [6, 0, 0], 'counted apart')
  t.equal(rig.core.stats()['aidrGuard.scanned'], 2, 'AIDR saw the two inputs')
})

t.test(
  'lists of prompts, resources and templates, and completions: changed, stopped, or not asked about',
  async (t) => {
    proves(t, 'POLICY-GUARD-01')
    const guard = await startGuard(t, ({ body }) => {
      const { content } = body as { content: JsonObject }
      const text = JSON.stringify(content)
      if (text.includes('stop')) return { decision: 'block' }
      return { decision: 'transform', content: JSON.parse(text.replaceAll('4711', '****')) }
    })
    const { rig } = await world(
      t,
      [hook(guard.url, { checks: ['prompt_listing', 'resource_listing', 'completion'] })],
      undefined,
      {
        'prompts/list': (body, response) =>
          json(body, response, { prompts: [{ name: 'p', description: 'of 4711' }] }),
        'resources/list': (body, response) =>
          json(body, response, { resources: [{ uri: 'r:one', name: 'one', description: '4711' }] }),
        'resources/templates/list': (body, response) =>
          json(body, response, {
            resourceTemplates: [{ uriTemplate: 'r:{id}', name: 'all', description: 'stop' }],
          }),
        'completion/complete': (body, response) =>
          json(body, response, {
            completion: {
              values: [String((body.params?.argument as JsonObject | undefined)?.value)],
              hasMore: false,
            },
          }),
      },
      { tools: {}, prompts: {}, resources: {}, completions: {} },
    )
    const ask = async (method: string, params: JsonObject = {}) => (await post(rig, method, params)).last
    t.match((await ask('prompts/list')).result, { prompts: [{ name: 'crm_p', description: 'of ****' }] })
    t.match((await ask('resources/list')).result, { resources: [{ uri: 'r:one', description: '****' }] })
    t.same(
      (await ask('resources/templates/list')).result?.resourceTemplates,
      [],
      'one that is stopped is empty',
    )
    const complete = (ref: JsonObject, value: string) =>
      ask('completion/complete', { ref, argument: { name: 'n', value } })
    const prompt = { type: 'ref/prompt', name: 'crm_p' }
    const template = { type: 'ref/resource', uri: 'r:{id}' }
    t.same((await complete(prompt, 'a 4711')).result?.completion, { values: ['a ****'], hasMore: false })
    t.same((await complete(template, 'b 4711')).result?.completion, { values: ['b ****'], hasMore: false })
    t.match((await complete(template, 'stop')).error, { data: { decision: 'content_blocked' } })
    t.match(
      guard.asked.map(({ body }) => body),
      [
        { phase: 'prompt_listing', content: [{ name: 'p' }] },
        { phase: 'resource_listing', content: [{ uri: 'r:one' }] },
        { phase: 'resource_listing', content: [{ uriTemplate: 'r:{id}' }] },
        { phase: 'completion', prompt: 'p' },
        { phase: 'completion', uri: 'r:{id}' },
        { phase: 'completion', uri: 'r:{id}' },
      ],
    )
  },
)

t.test('what a server asks the person, in an answer and live', async (t) => {
  proves(t, 'POLICY-GUARD-02')
  const guard = await startGuard(t, ({ body }) => {
    const text = JSON.stringify(body.content)
    if (text.includes('password')) return { decision: 'block', reason: 'phishing' }
    return { decision: 'transform', content: JSON.parse(text.replaceAll('4711', '****')) }
  })
  const rig = await startRig()
  let message = 'Is 4711 yours?'
  const server = await startScripted(({ params }) =>
    params.inputResponses
      ? { result: { content: [{ type: 'text', text: JSON.stringify(params.inputResponses) }] } }
      : {
          result: {
            resultType: 'input_required',
            inputRequests: { q: { method: 'elicitation/create', params: { message } } },
            requestState: 's1',
          },
        },
  )
  t.teardown(() => Promise.all([rig.close(), server.close()]))
  rig.setServers([{ prefix: 'a', url: server.url }], [], (snapshot: Snapshot) => ({
    ...snapshot,
    contentSecurity: [hook(guard.url, { checks: ['question'] })],
    policies: snapshot.policies.map((policy) => ({ ...policy, contentSecurity: ['g'] })),
  }))
  const modern = { name: 'a_go', _meta: modernMeta({ elicitation: { form: {} } }) }
  t.match((await post(rig, 'tools/call', modern)).last.result, {
    inputRequests: { q: { method: 'elicitation/create', params: { message: 'Is **** yours?' } } },
  })
  const { session } = await open(rig, { elicitation: {} })
  const asked: unknown[] = []
  const reply = ({ params }: JsonObject): JsonObject => {
    asked.push((params as JsonObject).message)
    return { result: { action: 'accept' } }
  }
  const live = await converse(rig, session, { name: 'a_go' }, reply)
  t.match(live.at(-1), { result: { content: [{ text: /accept/ }] } })
  t.same(asked, ['Is **** yours?'])

  message = 'Your password, please'
  const stopped = (await post(rig, 'tools/call', modern)).last
  t.match(stopped.error, { data: { decision: 'content_blocked' } })
  t.match((await post(rig, 'tools/call', { name: 'a_go' }, session)).last.error, { code: 5022 })
  t.equal(asked.length, 1, 'nobody was asked')
})
