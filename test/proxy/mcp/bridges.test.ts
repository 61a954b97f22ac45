import t from 'tap'
import type { JsonObject } from '../../../services/proxy/mcp/protocol/types.ts'
import { proves } from '../../requirements.ts'
import { converse, ok, open, post, startLegacy } from './legacy-server.ts'
import { modernMeta, startScripted } from './modern-server.ts'
import { startRig } from './rig.ts'

t.test('versions: the client’s where we know it, else our newest', async (t) => {
  proves(t, 'MCP-OPEN-01', 'MCP-OPEN-02', 'MCP-OPEN-03')
  const rig = await startRig()
  t.teardown(() => rig.close())
  rig.setServers([{ prefix: 'a' }])
  for (const [wanted, got] of [
    ['2025-03-26', '2025-03-26'],
    ['2025-06-18', '2025-06-18'],
    ['2025-11-25', '2025-11-25'],
    ['2026-07-28', '2025-11-25'],
    ['2024-11-05', '2025-11-25'],
  ] as const) {
    const { result } = await open(rig, {}, wanted)
    t.equal(result.protocolVersion, got, wanted)
    t.match(result.instructions, /a_/, 'the instructions name the server')
    t.same(Object.keys(result.capabilities as object).sort(), [
      'completions',
      'logging',
      'prompts',
      'resources',
      'tools',
    ])
    t.match(result.capabilities, { tools: { listChanged: true }, resources: { subscribe: true } })
  }
  const discovered = (await post(rig, 'server/discover', { _meta: modernMeta() })).last.result!
  t.match(discovered, { resultType: 'complete', cacheScope: 'private', ttlMs: Number })
  t.ok((discovered.supportedVersions as string[]).includes('2026-07-28'))
})

t.test('a modern server gets headers and _meta of the gateway, never the client’s', async (t) => {
  proves(t, 'MCP-BRIDGE-01')
  const rig = await startRig()
  const server = await startScripted(() => ({ result: { content: [] } }))
  t.teardown(async () => {
    await Promise.all([rig.close(), server.close()])
  })
  rig.setServers([{ prefix: 'a', url: server.url }])
  const name = 'a_go.on'
  const traceId = '4bf92f3577b34da6a3ce929d0e0e4736'
  const meta = modernMeta(
    { elicitation: { url: {} }, odd: {} },
    {
      'io.modelcontextprotocol/clientInfo': { name: 'x' },
      traceparent: `00-${traceId}-00f067aa0ba902b7-01`,
      mine: 1,
    },
  )
  await post(
    rig,
    'tools/call',
    { name, _meta: meta },
    {
      'mcp-name': name,
      'mcp-method': 'tools/call',
      traceparent: `00-${'b'.repeat(32)}-00f067aa0ba902b7-01`,
      baggage: 'secret=1',
    },
  )
  const [call] = server.calls()
  t.match(call?.headers, {
    'mcp-name': 'go.on',
    'mcp-method': 'tools/call',
    'mcp-protocol-version': '2026-07-28',
  })
  // The trace of _meta counts, one span further.
  t.match(call?.headers.traceparent, new RegExp(`^00-${traceId}-(?!00f067aa0ba902b7)[0-9a-f]{16}-01$`))
  t.notOk(call?.headers.baggage)
  t.match(call?.params, { name: 'go.on' })
  const sent = call!.params._meta
  t.same(
    sent['io.modelcontextprotocol/clientCapabilities'],
    { elicitation: { url: {} } },
    'what can be bridged',
  )
  t.match(sent['io.modelcontextprotocol/clientInfo'], { name: 'mcp-identity-gateway' })
  t.match(sent, { traceparent: call?.headers.traceparent, mine: 1 })

  await post(rig, 'resources/read', { uri: 'x://ümlaut', _meta: modernMeta() })
  const read = server.calls().find(({ method }) => method === 'resources/read')
  t.equal(read?.headers['mcp-name'], `=?base64?${Buffer.from('x://ümlaut').toString('base64')}?=`)
})

t.test('results in the words of the client’s era', async (t) => {
  proves(t, 'MCP-BRIDGE-02')
  const rig = await startRig()
  const result = {
    content: [],
    structuredContent: [1, 2],
    ttlMs: 5,
    cacheScope: 'public',
    _meta: { 'io.modelcontextprotocol/serverInfo': { name: 'inside', version: '1' }, own: true },
  }
  const modern = await startScripted(({ method }) =>
    method === 'tools/list'
      ? {
          result: {
            tools: [
              {
                name: 'one',
                inputSchema: { type: 'object', $defs: { x: {} } },
                outputSchema: { type: 'array' },
              },
              { name: 'two', inputSchema: { type: 'object' }, outputSchema: { type: 'object' } },
              { name: 'three', inputSchema: { type: 'object' }, execution: { taskSupport: 'required' } },
            ],
            ttlMs: 30_000,
            cacheScope: 'public',
          },
        }
      : { result },
  )
  const legacy = await startLegacy((body, response) =>
    response
      .writeHead(200, { 'content-type': 'application/json' })
      .end(JSON.stringify({ jsonrpc: '2.0', id: body.id, error: { code: -32002, message: 'not there' } })),
  )
  t.teardown(async () => {
    await Promise.all([rig.close(), modern.close(), legacy.close()])
  })
  rig.setServers([
    { prefix: 'm', url: modern.url },
    { prefix: 'l', url: legacy.url },
  ])
  const { session } = await open(rig, {})
  t.same((await post(rig, 'tools/call', { name: 'm_one' }, session)).last.result, {
    content: [{ type: 'text', text: '[1,2]' }],
    _meta: { own: true },
  })
  t.match((await post(rig, 'tools/call', { name: 'm_one', _meta: modernMeta() })).last.result, {
    resultType: 'complete',
    structuredContent: [1, 2],
    _meta: { own: true, 'io.modelcontextprotocol/serverInfo': { name: 'mcp-identity-gateway' } },
  })
  t.equal((await post(rig, 'tools/call', { name: 'l_go' }, session)).last.error?.code, -32002)
  t.equal((await post(rig, 'tools/call', { name: 'l_go', _meta: modernMeta() })).last.error?.code, -32602)

  const old = (await post(rig, 'tools/list', {}, session)).last.result!
  t.same(
    (old.tools as JsonObject[]).map(({ name, outputSchema }) => [name, outputSchema]),
    [
      ['m_one', undefined],
      ['m_two', { type: 'object' }],
      ['l_go', undefined],
    ],
    'what the older era can not read is left out',
  )
  t.same(Object.keys(old).sort(), ['_meta', 'tools'])
  const fresh = (await post(rig, 'tools/list', { _meta: modernMeta() })).last.result!
  t.match(
    fresh,
    { resultType: 'complete', ttlMs: 0, cacheScope: 'private' },
    'as fresh as its least fresh part',
  )
  t.match((fresh.tools as JsonObject[])[0], {
    inputSchema: { $defs: { x: {} } },
    outputSchema: { type: 'array' },
  })
})

t.test('a modern server’s question goes to a modern client, its state in a box of ours', async (t) => {
  proves(t, 'MCP-BRIDGE-03')
  const rig = await startRig()
  const ask = {
    method: 'elicitation/create',
    params: { mode: 'form', message: 'Name?', requestedSchema: { type: 'object' } },
  }
  const server = await startScripted(({ params }) =>
    params.requestState === 'inner-1' && params.inputResponses
      ? { result: { content: [{ type: 'text', text: JSON.stringify(params.inputResponses) }] } }
      : { result: { resultType: 'input_required', inputRequests: { q: ask }, requestState: 'inner-1' } },
  )
  t.teardown(async () => {
    await Promise.all([rig.close(), server.close()])
  })
  rig.setServers([
    { prefix: 'a', url: server.url },
    { prefix: 'b', url: server.url },
  ])
  const meta = modernMeta({ elicitation: { form: {} } })
  const call = { name: 'a_go', arguments: { x: 1 }, _meta: meta }
  const asked = (await post(rig, 'tools/call', call)).last.result!
  t.match(asked, { resultType: 'input_required', inputRequests: { q: ask } })
  t.notMatch(JSON.stringify(asked), /inner-1/)
  const answered = {
    ...call,
    requestState: asked.requestState,
    inputResponses: { q: { action: 'accept', content: { name: 'Ann' } } },
  }
  const done = (await post(rig, 'tools/call', answered)).last.result!
  t.match(done, { resultType: 'complete', content: [{ text: /Ann/ }] })

  const state = String(asked.requestState)
  const sent = server.calls().length
  for (const [why, changed] of [
    ['tampered', { ...answered, requestState: `${state.slice(0, -2)}${state.endsWith('AA') ? 'BB' : 'AA'}` }],
    ['the server’s own', { ...answered, requestState: 'inner-1' }],
    ['other arguments', { ...answered, arguments: { x: 2 } }],
    ['another server', { ...answered, name: 'b_go' }],
  ] as const) {
    t.equal((await post(rig, 'tools/call', changed)).last.error?.code, -32602, why)
  }
  t.equal(server.calls().length, sent, 'none of them reached the server')
  t.equal(
    (await post(rig, 'tools/call', { ...call, _meta: modernMeta() })).last.error?.code,
    5022,
    'a question that the client did not declare is not put to it',
  )
})

t.test('a modern server’s questions are asked live of a legacy client, with an end', async (t) => {
  proves(t, 'MCP-BRIDGE-04')
  const rig = await startRig()
  let endless = false
  const server = await startScripted(({ params }) =>
    params.inputResponses && !endless
      ? {
          result: {
            content: [
              { type: 'text', text: `${params.requestState} ${JSON.stringify(params.inputResponses)}` },
            ],
          },
        }
      : {
          result: {
            resultType: 'input_required',
            inputRequests: {
              q: { method: 'elicitation/create', params: { message: 'Sure?' } },
              r: { method: 'roots/list' },
            },
            requestState: 's1',
          },
        },
  )
  t.teardown(async () => {
    await Promise.all([rig.close(), server.close()])
  })
  rig.setServers([{ prefix: 'a', url: server.url }])
  const reply = ({ method }: JsonObject): JsonObject => ({
    result: method === 'roots/list' ? { roots: [{ uri: 'file:///home' }] } : { action: 'accept' },
  })
  const { session } = await open(rig, { elicitation: {}, roots: {} })
  const messages = await converse(rig, session, { name: 'a_go' }, reply)
  t.same(
    messages.map(({ method }) => method),
    ['elicitation/create', 'roots/list', undefined],
  )
  t.match(messages.at(-1), { id: 'call', result: { content: [{ text: /^s1 .*accept.*file:\/\/\/home/ }] } })
  t.notMatch(messages.at(-1), { result: { resultType: String } })

  endless = true
  const stopped = await converse(rig, session, { name: 'a_go' }, reply)
  t.equal(stopped.filter(({ method }) => method === 'roots/list').length, 8, 'not more rounds than that')
  t.match(stopped.at(-1), { error: { code: 5022 } })

  const { session: poor } = await open(rig, {})
  t.match((await post(rig, 'tools/call', { name: 'a_go' }, poor)).last.error, { code: 5022 })
})

t.test('a capability that a server misses is named with the status that belongs to it', async (t) => {
  proves(t, 'MCP-BRIDGE-05')
  const error = { code: -32021, message: 'sampling needed', data: { requiredCapabilities: { sampling: {} } } }
  const [rig, modern] = await Promise.all([startRig(), startScripted(() => ({ status: 400, error }))])
  t.teardown(async () => {
    await Promise.all([rig.close(), modern.close()])
  })
  rig.setServers([{ prefix: 'm', url: modern.url }])
  const asked = await post(rig, 'tools/call', { name: 'm_x', _meta: modernMeta() })
  t.match(asked, { status: 400, last: { error } })
  const { session } = await open(rig, {})
  const legacy = await post(rig, 'tools/call', { name: 'm_x' }, session)
  t.match(
    legacy,
    { status: 200, last: { error: { code: -32603 } } },
    'a code that a legacy client would not know',
  )
  const codes = rig.events.flatMap((event) =>
    event.type === 'response' && event.toolName === 'x'
      ? [(event as { httpResponseCode?: number }).httpResponseCode]
      : [],
  )
  t.same(codes, [400, 200], 'the trail says what was sent')
})

t.test('a legacy server that wants a page visited asks a modern client by input_required', async (t) => {
  proves(t, 'MCP-BRIDGE-06')
  const rig = await startRig()
  const elicitation = { mode: 'url', elicitationId: 'e9', url: 'https://idp.test/x', message: 'Visit.' }
  const server = await startLegacy((body, response) =>
    response.writeHead(200, { 'content-type': 'application/json' }).end(
      JSON.stringify({
        jsonrpc: '2.0',
        id: body.id,
        error: { code: -32042, message: 'first', data: { elicitations: [elicitation] } },
      }),
    ),
  )
  t.teardown(async () => {
    await Promise.all([rig.close(), server.close()])
  })
  rig.setServers([{ prefix: 'a', url: server.url }])
  const asked = (
    await post(rig, 'tools/call', { name: 'a_go', _meta: modernMeta({ elicitation: { url: {} } }) })
  ).last
  t.match(asked.result, {
    resultType: 'input_required',
    inputRequests: { e9: { method: 'elicitation/create', params: elicitation } },
  })
  t.equal((await post(rig, 'tools/call', { name: 'a_go', _meta: modernMeta() })).last.error?.code, 5022)
  const { session } = await open(rig, { elicitation: { url: {} } })
  t.match((await post(rig, 'tools/call', { name: 'a_go' }, session)).last.error, {
    code: -32042,
    data: { elicitations: [elicitation] },
  })
})

t.test('log levels: of the session for a legacy client, of the request for a modern one', async (t) => {
  proves(t, 'MCP-LOG-01')
  const rig = await startRig()
  const server = await startLegacy(
    (body, response) => {
      response.writeHead(200, { 'content-type': 'text/event-stream' })
      for (const level of ['debug', 'error']) {
        const params = { level, data: `${level} line` }
        response.write(
          `data: ${JSON.stringify({ jsonrpc: '2.0', method: 'notifications/message', params })}\n\n`,
        )
      }
      response.end(`data: ${JSON.stringify({ jsonrpc: '2.0', id: body.id, result: { content: [] } })}\n\n`)
    },
    { capabilities: { tools: {}, logging: {} }, session: () => 'one', methods: { 'logging/setLevel': ok } },
  )
  t.teardown(async () => {
    await Promise.all([rig.close(), server.close()])
  })
  rig.setServers([{ prefix: 'a', url: server.url }])
  const levels = async (params: JsonObject, session = {}) =>
    (await post(rig, 'tools/call', { name: 'a_go', ...params }, session)).messages.flatMap(({ params }) =>
      params ? [(params as JsonObject).level] : [],
    )
  t.same(await levels({ _meta: modernMeta() }), [], 'nobody asked')
  t.same(await levels({ _meta: modernMeta({}, { 'io.modelcontextprotocol/logLevel': 'warning' }) }), [
    'error',
  ])
  const { session } = await open(rig, {})
  t.same((await post(rig, 'logging/setLevel', { level: 'error' }, session)).last.result, {})
  t.same(await levels({}, session), ['error'])
  t.equal((await post(rig, 'logging/setLevel', { level: 'loud' }, session)).last.error?.code, -32602)
  await levels({}, session)
  await levels({}, session)
  const told = server.seen
    .filter(({ method }) => method === 'logging/setLevel')
    .map(({ body }) => body.params)
  t.same(told, [{ level: 'warning' }, { level: 'error' }], 'each session is told once')
})
