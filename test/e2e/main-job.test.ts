import { execFile } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { Client as ClientV1 } from '@modelcontextprotocol/sdk/client/index.js'
import { StreamableHTTPClientTransport as TransportV1 } from '@modelcontextprotocol/sdk/client/streamableHttp.js'
import t from 'tap'
import type { Era } from '../../installer/quickstart/agent.ts'
import { proves } from '../requirements.ts'
import { startRig, textOf } from '../rig/world.ts'

/** The main job: real clients, real servers, real sign-in. One world for all of it. */
const root = fileURLToPath(new URL('../..', import.meta.url))
const run = promisify(execFile)
const rig = await startRig()
t.teardown(() => rig.end())

const prefixes = (names: readonly string[]): string[] =>
  [...new Set(names.map((name) => name.split('_')[0]!))].sort()
const consentLink = (result: unknown): string =>
  /https?:\/\/[^\s"'<>)\]]+\/connections\/[^\s"'<>)\]]+/.exec(textOf(result))?.[0] ?? ''

for (const [era, version] of [
  ['legacy', '2025-11-25'],
  ['auto', '2026-07-28'],
  ['modern', '2026-07-28'],
] as const satisfies (readonly [Era, string])[]) {
  await t.test(`SDK v2, ${era}`, async (t) => {
    const agent = rig.agent('ann', { era })
    const client = await agent.connect()
    t.equal(client.getNegotiatedProtocolVersion(), version)
    const tools = (await client.listTools()).tools.map(({ name }) => name)
    t.same(prefixes(tools), ['everything', 'notes', 'weather'], 'the tools of all servers, prefixed')

    t.equal(
      textOf(await client.callTool({ name: 'everything_echo', arguments: { message: 'hi' } })),
      'Echo: hi',
    )
    t.match(
      textOf(await client.callTool({ name: 'weather_get_weather', arguments: { city: 'Bern' } })),
      /^Bern: /,
    )

    const first = await client.callTool({ name: 'notes_whoami', arguments: {} })
    if (era === 'legacy') {
      const link = consentLink(first)
      t.match(
        link,
        new RegExp(`^${rig.origin}/connections/notes/connect\\?ticket=`),
        'an unconnected account gets a link',
      )
      await agent.followConsent(link)
    }
    t.equal(textOf(await client.callTool({ name: 'notes_whoami', arguments: {} })), 'ann-notes')

    const resources = (await client.listResources()).resources.map(({ uri }) => uri)
    t.ok(resources.includes('notes://all'), 'resources keep their URIs')
    t.match(await client.readResource({ uri: 'notes://all' }), { contents: [{ uri: 'notes://all' }] })
    t.ok((await client.listResourceTemplates()).resourceTemplates.length > 0)
    const prompts = (await client.listPrompts()).prompts.map(({ name }) => name)
    t.ok(prompts.includes('notes_summarize_notes') && prompts.some((name) => name.startsWith('everything_')))
    t.match(await client.getPrompt({ name: 'notes_summarize_notes' }), {
      messages: [{ content: { type: 'text' } }],
    })

    await t.rejects(
      client.callTool({ name: 'notes_no_such_tool', arguments: {} }),
      'an unknown tool is an error',
    )
    t.equal(
      textOf(await client.callTool({ name: 'everything_echo', arguments: { message: 'still' } })),
      'Echo: still',
    )
  })
}

await t.test('progress streams through while the call runs', async (t) => {
  const client = await rig.agent('ann', { era: 'legacy' }).connect()
  const progress: number[] = []
  const started = Date.now()
  let firstAt = 0
  const name = (await client.listTools()).tools
    .map((tool) => tool.name)
    .find((tool) => /long-?running/i.test(tool))
  t.ok(name)
  await client.callTool(
    { name: name!, arguments: { duration: 1, steps: 4 } },
    {
      onprogress: ({ progress: value }) => {
        firstAt ||= Date.now() - started
        progress.push(value)
      },
    },
  )
  t.ok(progress.length >= 3, `${progress.length} notices of progress`)
  t.ok(firstAt < Date.now() - started, 'the first before the end')
})

await t.test('two people, two accounts, on the same servers', async (t) => {
  const bob = rig.agent('bob', { account: 'robert' })
  const bobClient = await bob.connect()
  const link = consentLink(await bobClient.callTool({ name: 'notes_whoami', arguments: {} }))
  t.ok(link, 'Ann having connected does not connect Bob')
  await bob.followConsent(link)
  const annClient = await rig.agent('ann').connect()
  const [annIs, bobIs] = await Promise.all(
    [annClient, bobClient].map(async (client) =>
      textOf(await client.callTool({ name: 'notes_whoami', arguments: {} })),
    ),
  )
  t.same([annIs, bobIs], ['ann-notes', 'robert'])
  await bobClient.callTool({ name: 'notes_add_note', arguments: { text: 'of Bob' } })
  t.notMatch(textOf(await annClient.callTool({ name: 'notes_list_notes', arguments: {} })), /of Bob/)
})

await t.test('a consent link opened by somebody else connects nobody', async (t) => {
  const eve = rig.agent('bob', { account: 'eve' })
  await eve.connect()
  const fresh = rig.agent('ann', { account: 'other' })
  const client = await fresh.connect()
  const mine = textOf(await client.callTool({ name: 'notes_whoami', arguments: {} }))
  const ticketless = `${rig.origin}/connections/notes/connect?ticket=made-up`
  await t.rejects(eve.followConsent(ticketless), /\(4\d\d\)/)
  t.equal(textOf(await client.callTool({ name: 'notes_whoami', arguments: {} })), mine)
})

await t.test('SDK v1', async (t) => {
  const agent = rig.agent('ann', { era: 'legacy' })
  await agent.connect()
  const client = new ClientV1({ name: 'v1', version: '1.0.0' })
  const headers = { authorization: `Bearer ${agent.provider.stored?.access_token}` }
  const transport = new TransportV1(new URL(rig.url), {
    requestInit: { headers },
    fetch: agent.fetch as typeof fetch,
  })
  await client.connect(transport)
  t.ok(transport.sessionId, 'a session was opened')
  t.same(prefixes((await client.listTools()).tools.map(({ name }) => name)), [
    'everything',
    'notes',
    'weather',
  ])
  t.equal(
    textOf(await client.callTool({ name: 'everything_echo', arguments: { message: 'v1' } })),
    'Echo: v1',
  )
  t.match(await client.readResource({ uri: 'notes://all' }), { contents: [{ uri: 'notes://all' }] })
  await client.ping()
  const session = transport.sessionId ?? ''
  await transport.terminateSession()
  const after = await agent.fetch(rig.url, {
    method: 'POST',
    headers: {
      ...headers,
      'content-type': 'application/json',
      accept: 'application/json, text/event-stream',
      'mcp-session-id': session,
    },
    body: '{"jsonrpc":"2.0","id":1,"method":"tools/list"}',
  })
  t.equal(after.status, 404, 'an ended session is gone')
  await after.text()
  await client.close()
})

await t.test('the Inspector lists the prefixed tools with a token from the flow', async (t) => {
  const agent = rig.agent('ann')
  await agent.connect()
  const args = ['--cli', '--transport', 'http', '--server-url', rig.url, '--method', 'tools/list']
  const header = ['--header', `Authorization: Bearer ${agent.provider.stored?.access_token}`]
  const { stdout } = await run(process.execPath, ['node_modules/.bin/inspector', ...args, ...header], {
    cwd: root,
    env: { ...process.env, NODE_EXTRA_CA_CERTS: rig.caPath ?? '' },
    timeout: 60_000,
  })
  const { tools } = JSON.parse(stdout) as { tools: { name: string }[] }
  t.same(prefixes(tools.map(({ name }) => name)), ['everything', 'notes', 'weather'])
})

await t.test('npm run try goes through everything and shows its own trail', async (t) => {
  const args = ['installer/quickstart/try.ts', '--state', rig.state.dir, '--account', 'tried']
  const { stdout } = await run(process.execPath, args, { cwd: root, timeout: 60_000 })
  for (const step of [
    'discover',
    'sign in',
    'list',
    'everything',
    'weather',
    'notes',
    'whoami',
    'resource',
    'audit',
  ]) {
    t.match(stdout, new RegExp(`^✓ ${step}\\b`, 'm'))
  }
  t.match(stdout, /tools\/call +Notes/)
  const wrong = await run(process.execPath, [...args, '--url', `${rig.origin}/elsewhere`], {
    cwd: root,
  }).catch((error: { code: number; stderr: string }) => error)
  t.match(wrong, { code: 1, stderr: /failed: discover: / }, 'the failing step is named')
})

await t.test('the audit trail tells who did what on which server, and nothing of the content', async (t) => {
  const agent = rig.agent('ann')
  const client = await agent.connect()
  await client.callTool({ name: 'everything_echo', arguments: { message: 'a-secret-word' } })
  const id = agent.provider.client?.client_id ?? ''
  const events = await rig.events(id, (all) =>
    all.some(
      ({ meta, application }) =>
        meta.eventType === 'mcp.response' && application.mcp.mcpMethod === 'tools/call',
    ),
  )
  const calls = events.filter(({ application }) => application.mcp.mcpMethod === 'tools/call')
  t.equal(calls.length, 2, 'a request and its response')
  t.match(calls[0], {
    meta: { eventType: 'mcp.request', policyId: 'use-everything' },
    workload: { client: { id: 'any-agent' }, server: { id: 'everything' } },
    application: { mcp: { mcpToolName: 'echo', userId: 'ann@example.com', oauthClientId: id } },
  })
  t.equal(calls[1]?.network?.serverWorkloadIP, '127.0.0.1', 'where it was answered')
  t.match(calls[1], {
    meta: { eventType: 'mcp.response', connectionId: calls[0]?.meta.connectionId },
    application: { mcp: { httpResponseCode: 200 } },
  })
  const all = JSON.stringify(events)
  t.notMatch(all, /a-secret-word/)
  t.notMatch(all, /eyJ/, 'no token')
})

await t.test('a call names the events by which it was allowed, and they can be looked up', async (t) => {
  proves(t, 'EVENT-10')
  const agent = rig.agent('ann')
  const client = await agent.connect()
  for (let call = 0; call < 2; call++)
    await client.callTool({ name: 'weather_get_weather', arguments: { city: 'Bern' } })
  const id = agent.provider.client?.client_id ?? ''
  const events = await rig.events(
    id,
    (all) => all.filter(({ workload }) => workload.server?.id === 'weather').length >= 4,
  )
  const [opened] = events.filter(({ workload }) => workload.server === null)
  const [token] = opened?.authorizationChain ?? []
  const [, first, request, response] = events
    .filter(({ workload }) => workload.server?.id === 'weather')
    .map(({ authorizationChain }) => authorizationChain)
  t.same(opened?.authorizationChain, [token], 'towards the gateway: the issuance of the token')
  t.equal(first?.length, 2)
  t.equal(first?.[0], token)
  t.same(request, first, 'towards the server: that of the credential too')
  t.same(response, first)
  const found = (await rig.admin(
    'GET',
    '/api/v1/authorization-events?user=ann@example.com&per-page=100',
  )) as {
    entities: { meta: { eventId: string } }[]
  }
  const byId = (wanted: string | undefined) => found.entities.find(({ meta }) => meta.eventId === wanted)
  t.match(byId(token), {
    meta: { eventType: 'access.authorization', severity: 'Info' },
    outcome: { result: 'Authorized' },
    environment: { userId: 'ann@example.com', oauthClientId: id },
    clientWorkload: { id: 'any-agent' },
    accessPolicy: { id: 'agents', result: 'Identified' },
  })
  t.match(byId(first?.[1]), {
    meta: { eventType: 'access.credential' },
    serverWorkload: { id: 'weather' },
    credentialProvider: { id: 'weather-key', result: 'Retrieved' },
  })
})
