import { Client } from '@modelcontextprotocol/sdk/client/index.js'
import { StreamableHTTPClientTransport } from '@modelcontextprotocol/sdk/client/streamableHttp.js'
import {
  ListRootsRequestSchema,
  ResourceUpdatedNotificationSchema,
  ToolListChangedNotificationSchema,
} from '@modelcontextprotocol/sdk/types.js'
import t from 'tap'
import type { JsonObject } from '../../../services/proxy/mcp/protocol/types.ts'
import { proves } from '../../requirements.ts'
import { ok, post, startLegacy } from './legacy-server.ts'
import { modernMeta } from './modern-server.ts'
import { connectModern, listenRaw, startNotifier, until } from './notices-peers.ts'
import { startEverything, startRig } from './rig.ts'
import { open, startTeller } from './teller.ts'

const toolsChanged = { method: 'notifications/tools/list_changed' }
const updated = (uri: string) => ({ method: 'notifications/resources/updated', params: { uri } })

t.test('a legacy client hears a legacy server on the stream of its next answer', async (t) => {
  proves(t, 'MCP-NOTICE-04', 'MCP-NOTICE-05')
  const [rig, server] = await Promise.all([startRig(), startTeller()])
  t.teardown(async () => {
    await Promise.all([rig.close(), server.close()])
  })
  rig.setServers([{ prefix: 'a', url: server.url }])
  const session = await open(rig)
  t.same((await post(rig, 'resources/subscribe', { uri: 'note://a' }, session)).last.result, {})
  t.equal(server.count('resources/subscribe'), 1)
  await until(() => server.streams.size === 1)

  server.say(toolsChanged)
  server.say(toolsChanged)
  server.say(updated('note://b'))
  server.say(updated('note://a/part'))
  server.say({ method: 'notifications/message', params: { level: 'info', data: 'hello' } })
  let messages: JsonObject[] = []
  while (messages.length < 3)
    messages = [...messages, ...(await post(rig, 'ping', {}, session)).messages.slice(0, -1)]
  t.match(messages, [toolsChanged, updated('note://a/part'), { params: { data: 'hello' } }])
  t.equal(messages.length, 3, 'one of each')
  t.match((await post(rig, 'ping', {}, session)).messages, [{ result: {} }], 'and each once')

  server.say(toolsChanged)
  server.say(updated('note://a'))
  await until(() => rig.core.stats().waitingNotices === 2)
  t.match(
    (await post(rig, 'tools/list', {}, session)).messages,
    [updated('note://a'), { result: {} }],
    'no news',
  )

  await post(rig, 'resources/unsubscribe', { uri: 'note://a' }, session)
  await until(() => server.count('resources/unsubscribe') === 1)
  const other = await post(
    rig,
    'resources/subscribe',
    { uri: 'note://a' },
    { ...session, 'x-subject': 'bob' },
  )
  t.ok(other.last.result ?? other.last.error, 'whoever has the session is the edge’s to say')
})

t.test('a legacy client hears a modern server', async (t) => {
  proves(t, 'MCP-NOTICE-04')
  const [rig, server] = await Promise.all([startRig(), startNotifier()])
  t.teardown(async () => {
    await Promise.all([rig.close(), server.close()])
  })
  rig.setServers([{ prefix: 'm', url: server.url }])
  const session = await open(rig)
  const uri = `note://${server.port}/two`
  t.same((await post(rig, 'resources/subscribe', { uri }, session)).last.result, {})
  server.notify.resourceUpdated(uri)
  await until(() => rig.core.stats().waitingNotices === 1)
  const { messages } = await post(rig, 'ping', {}, session)
  t.match(messages, [updated(uri), { result: {} }])
  t.notMatch(
    messages[0],
    { params: { _meta: Object } },
    'no id of a subscription that the client has not made',
  )
  await rig.core.endSession({ id: session['mcp-session-id'] } as never)
  await until(() => server.listening() === 0)
  t.pass('ended with the session')
})

t.test('modern clients share the stream and the subscriptions of a legacy server', async (t) => {
  proves(t, 'MCP-NOTICE-05')
  const [rig, server] = await Promise.all([startRig(), startTeller()])
  t.teardown(async () => {
    await Promise.all([rig.close(), server.close()])
  })
  rig.setServers([{ prefix: 'a', url: server.url }])
  const wanted = { toolsListChanged: true, resourceSubscriptions: ['note://a'] }
  const [first, second] = await Promise.all([
    listenRaw(rig, wanted, { id: 1 }),
    listenRaw(rig, wanted, { id: 'two' }),
  ])
  for (const stream of [first, second])
    t.match(await stream.until(() => true), { params: { notifications: wanted } })
  t.equal(server.count('resources/subscribe'), 1, 'asked for once')
  t.equal(server.streams.size, 1, 'heard on one stream')
  server.say(updated('note://a'))
  const tag = 'io.modelcontextprotocol/subscriptionId'
  t.match(await first.until(({ method }) => method === updated('').method), {
    params: { uri: 'note://a', _meta: { [tag]: 1 } },
  })
  t.match(await second.until(({ method }) => method === updated('').method), {
    params: { _meta: { [tag]: 'two' } },
  })

  first.abort()
  await until(() => rig.core.stats().listeners === 1)
  server.say(toolsChanged)
  await second.until(({ method }) => method === toolsChanged.method)
  t.equal(server.count('resources/unsubscribe'), 0, 'the other one still wants it')
  second.abort()
  await until(() => server.count('resources/unsubscribe') === 1 && server.streams.size === 0)
  t.equal(rig.core.stats().noticeStreams, 0, 'the last one gives everything back')
})

t.test('a server that restarts is heard again, and what may have been missed is told', async (t) => {
  proves(t, 'MCP-NOTICE-07')
  const rig = await startRig()
  let session = 'first'
  let server = await startTeller({ session: () => session })
  t.teardown(async () => {
    await Promise.all([rig.close(), server.close()])
  })
  rig.setServers([{ prefix: 'a', url: server.url }])
  const stream = await listenRaw(rig, { toolsListChanged: true, resourceSubscriptions: ['note://a'] })
  await stream.until(() => true)
  const { port } = server
  await server.close()
  session = 'second'
  server = await startTeller({ port, session: () => session })
  await stream.until(({ method }) => method === toolsChanged.method)
  await stream.until(({ method }) => method === updated('').method)
  await until(() => server.count('resources/subscribe') === 1)
  t.match(server.seen.find(({ method }) => method === 'resources/subscribe')?.headers, {
    'mcp-session-id': 'second',
  })
  stream.abort()
})

t.test('server-everything: roots that it asks for by itself, updates of what was subscribed', async (t) => {
  proves(t, 'MCP-NOTICE-05')
  const [rig, everything] = await Promise.all([startRig(), startEverything()])
  t.teardown(async () => {
    await Promise.all([rig.close(), everything.close()])
  })
  rig.setServers([{ prefix: 'e', url: everything.url }])
  const client = new Client({ name: 'v1', version: '1' }, { capabilities: { roots: { listChanged: true } } })
  let asked = 0
  client.setRequestHandler(ListRootsRequestSchema, () => {
    asked++
    return { roots: [{ uri: 'file:///project', name: 'project' }] }
  })
  const news = Promise.withResolvers<string>()
  client.setNotificationHandler(ResourceUpdatedNotificationSchema, ({ params }) => news.resolve(params.uri))
  client.setNotificationHandler(ToolListChangedNotificationSchema, () => {})
  await client.connect(new StreamableHTTPClientTransport(rig.url))
  t.teardown(() => client.close())
  // The server asks for roots on its own stream; the client can only be asked on that of a call.
  const roots = await client.callTool({ name: 'e_get-roots-list', arguments: {} })
  t.match(JSON.stringify(roots.content), /file:\/\/\/project/)
  t.ok(asked > 0)

  const { resources } = await client.listResources()
  const { uri } = resources[0]!
  await client.subscribeResource({ uri })
  await client.callTool({ name: 'e_toggle-subscriber-updates', arguments: {} })
  const poll = setInterval(() => void client.ping().catch(() => {}), 100)
  t.teardown(() => clearInterval(poll))
  t.equal(await news.promise, uri)

  const modern = await connectModern(rig)
  t.teardown(() => modern.close())
  const subscription = await modern.client.listen({ resourceSubscriptions: [uri] })
  await modern.client.callTool({ name: 'e_toggle-subscriber-updates', arguments: {} })
  await modern.hears(uri)
  await subscription.close()
})

t.test('levels of requests that share a session at a legacy server', async (t) => {
  const level = 'io.modelcontextprotocol/logLevel'
  const lines = ['debug', 'error'].map((of) => ({
    method: 'notifications/message',
    params: { level: of, data: of },
  }))
  const [rig, server] = await Promise.all([
    startRig(),
    startLegacy(
      (body, response) => {
        response.writeHead(200, { 'content-type': 'text/event-stream' })
        for (const line of [...lines, { id: body.id, result: { content: [] } }])
          response.write(`data: ${JSON.stringify({ jsonrpc: '2.0', ...line })}\n\n`)
        response.end()
      },
      { capabilities: { tools: {}, logging: {} }, session: () => 'one', methods: { 'logging/setLevel': ok } },
    ),
  ])
  t.teardown(async () => {
    await Promise.all([rig.close(), server.close()])
  })
  rig.setServers([{ prefix: 'a', url: server.url }])
  const heard = async (wanted: string) => {
    const params = { name: 'a_go', _meta: modernMeta({}, { [level]: wanted }) }
    return (await post(rig, 'tools/call', params)).messages.flatMap(({ params: said }) => said?.data ?? [])
  }
  t.same(await heard('warning'), ['error'])
  t.same(await heard('emergency'), [], 'filtered here')
  t.same(await heard('debug'), ['debug', 'error'])
  const told = server.seen.filter(({ method }) => method === 'logging/setLevel')
  t.match(
    told.map(({ body }) => body.params),
    [{ level: 'warning' }, { level: 'debug' }],
    'never raised: another request of the session may want more',
  )
})
