import t from 'tap'
import { Fault } from '../../../shared/faults.ts'
import { proves } from '../../requirements.ts'
import { post } from './legacy-server.ts'
import { modernMeta } from './modern-server.ts'
import { connectModern, connectSlow, listenRaw, startNotifier, until } from './notices-peers.ts'
import { startRig } from './rig.ts'

const subscriptionId = 'io.modelcontextprotocol/subscriptionId'

t.test('a modern client hears what modern servers change, as far as it asked', async (t) => {
  proves(t, 'MCP-NOTICE-02', 'MCP-NOTICE-03')
  const [rig, one, two] = await Promise.all([startRig(), startNotifier(), startNotifier()])
  t.teardown(async () => {
    await Promise.all([rig.close(), one.close(), two.close()])
  })
  rig.setServers([
    { prefix: 'one', url: one.url },
    { prefix: 'two', url: two.url },
  ])
  const listener = await connectModern(rig)
  t.teardown(() => listener.close())
  const note = `note://${one.port}/one`
  const subscription = await listener.client.listen({ toolsListChanged: true, resourceSubscriptions: [note] })
  t.same(subscription.honoredFilter, { toolsListChanged: true, resourceSubscriptions: [note] })
  t.equal(one.listening(), 1)
  t.equal(two.listening(), 1)

  two.notify.promptsChanged()
  two.notify.toolsChanged()
  await listener.hears('tools')
  one.notify.resourceUpdated(`note://${one.port}/two`)
  one.notify.resourceUpdated(note)
  await listener.hears(note)
  t.same(listener.heard, ['tools', note], 'nothing that was not asked for')
  t.match(two.filters.at(-1), { toolsListChanged: true, resourceSubscriptions: undefined })

  await subscription.close()
  await until(() => one.listening() === 0 && two.listening() === 0)
  t.pass('nothing is left at the servers')
  t.equal(rig.core.stats().listeners, 0)
  t.equal(rig.core.stats().noticeStreams, 0)
})

t.test('the messages of a stream: acknowledgement first, everything tagged, result at the end', async (t) => {
  proves(t, 'MCP-NOTICE-01', 'MCP-NOTICE-03')
  const [rig, server] = await Promise.all([startRig(), startNotifier()])
  t.teardown(async () => {
    await Promise.all([rig.close(), server.close()])
  })
  rig.setServers([{ prefix: 'a', url: server.url }])
  const stream = await listenRaw(rig, { promptsListChanged: true, toolsListChanged: false }, { id: 'mine' })
  const first = await stream.until(() => true)
  t.match(first, {
    method: 'notifications/subscriptions/acknowledged',
    params: { notifications: { promptsListChanged: true }, _meta: { [subscriptionId]: 'mine' } },
  })
  t.same(first.params?.notifications, { promptsListChanged: true }, 'what is false is not granted')
  server.notify.promptsChanged()
  const told = await stream.until(({ method }) => method === 'notifications/prompts/list_changed')
  t.same(told.params?._meta, { [subscriptionId]: 'mine' })

  await rig.core.drain(5_000)
  await stream.ended
  t.match(stream.messages.slice(-2), [
    { id: 'mine', result: { resultType: 'complete', _meta: { [subscriptionId]: 'mine' } } },
    { method: 'notifications/cancelled', params: { requestId: 'mine', _meta: { [subscriptionId]: 'mine' } } },
  ])
  const refused = await listenRaw(rig, { toolsListChanged: true })
  await refused.ended
  t.match(refused.messages, [{ error: { data: { reason: 'listen.ended', retry: true } } }], 'while it drains')
})

t.test('a filter that is none is refused; one that asks for nothing ends at once', async (t) => {
  const rig = await startRig()
  t.teardown(() => rig.close())
  rig.setServers([])
  for (const filter of [undefined, 'all', { toolsListChanged: 'yes' }, { resourceSubscriptions: [1] }]) {
    const answer = await post(rig, 'subscriptions/listen', { notifications: filter, _meta: modernMeta() })
    t.match(answer.last.error, { code: -32602 }, JSON.stringify(filter))
  }
  const nothing = await listenRaw(rig, { resourceSubscriptions: ['note://nowhere'] })
  await nothing.ended
  t.match(nothing.messages, [{ params: { notifications: {} } }, { result: { resultType: 'complete' } }, {}])
})

t.test('policy counts while a stream lasts: servers go and come, and the lists with them', async (t) => {
  proves(t, 'MCP-NOTICE-02')
  const [rig, one, two] = await Promise.all([startRig(), startNotifier(), startNotifier()])
  t.teardown(async () => {
    await Promise.all([rig.close(), one.close(), two.close()])
  })
  const servers = [
    { prefix: 'one', url: one.url },
    { prefix: 'two', url: two.url },
  ]
  rig.setServers(servers, ['two'])
  const stream = await listenRaw(rig, {
    toolsListChanged: true,
    resourceSubscriptions: [`note://${one.port}/one`],
  })
  await stream.until(() => true)
  t.same([one.listening(), two.listening()], [1, 0], 'a server that policy denies is not asked')
  const told = () =>
    stream.messages.filter(({ method }) => method === 'notifications/tools/list_changed').length

  rig.setServers(servers)
  await until(() => two.listening() === 1 && told() === 1)
  two.notify.toolsChanged()
  await until(() => told() === 2)

  rig.setServers(servers, ['one'])
  await until(() => one.listening() === 0 && told() === 3)
  one.notify.toolsChanged()
  one.notify.resourceUpdated(`note://${one.port}/one`)
  two.notify.toolsChanged()
  await until(() => told() === 4)
  t.notOk(stream.messages.some(({ method }) => method === 'notifications/resources/updated'))
  rig.setServers(servers, ['one'])
  two.notify.toolsChanged()
  await until(() => told() === 5)
  t.equal(told(), 5, 'a policy that changes nothing for the person is no news')
  stream.abort()
})

t.test('a stream ends with the right to have it', async (t) => {
  proves(t, 'MCP-NOTICE-06')
  const [rig, server] = await Promise.all([startRig(), startNotifier()])
  t.teardown(async () => {
    await Promise.all([rig.close(), server.close()])
  })
  rig.setServers([{ prefix: 'a', url: server.url }])
  const expired = await listenRaw(rig, { toolsListChanged: true })
  await expired.until(() => true)
  rig.expire(new Fault('token.expired'))
  await expired.ended
  t.match(expired.messages.at(-1), { method: 'notifications/cancelled', params: { reason: /expired/ } })
  t.match(rig.events.at(-1), { type: 'response', outcome: 'Error', reasonCode: 'token.expired' })

  const revoked = await listenRaw(rig, { toolsListChanged: true })
  await revoked.until(() => true)
  rig.core.recheck(() => new Fault('token.revoked'))
  await revoked.ended
  t.match(revoked.messages.at(-1), { params: { reason: /revoked/ } })
  await until(() => server.listening() === 0)
})

t.test('a modern server that breaks off is heard again', async (t) => {
  proves(t, 'MCP-NOTICE-07')
  const [rig, server] = await Promise.all([startRig(), startNotifier()])
  t.teardown(async () => {
    await Promise.all([rig.close(), server.close()])
  })
  rig.setServers([
    { prefix: 'a', url: server.url },
    { prefix: 'down', url: 'http://127.0.0.1:1/mcp' },
  ])
  const stream = await listenRaw(rig, { promptsListChanged: true })
  await stream.until(() => true)
  await until(() => server.listening() === 1)
  server.cut()
  await stream.until(({ method }) => method === 'notifications/prompts/list_changed')
  await until(() => server.listening() === 1)
  stream.messages.length = 0
  // A credential that changed is used at once, and may show other lists.
  rig.core.credentialChanged('https://gw.test', 'ann@acme.test', 'a')
  await stream.until(({ method }) => method === 'notifications/prompts/list_changed')
  await until(() => server.listening() === 1)
  stream.abort()
})

t.test('streams have bounds: for a person, for a stream, for a client that does not read', async (t) => {
  const [rig, server] = await Promise.all([startRig(), startNotifier()])
  t.teardown(async () => {
    await Promise.all([rig.close(), server.close()])
  })
  rig.setServers([{ prefix: 'a', url: server.url }])
  const uris = Array.from({ length: 257 }, (_, at) => `note://${at}`)
  const params = { notifications: { resourceSubscriptions: uris }, _meta: modernMeta() }
  t.match((await post(rig, 'subscriptions/listen', params)).last.error, { code: -32602 })

  const streams = await Promise.all(
    Array.from({ length: 32 }, (_, id) => listenRaw(rig, { toolsListChanged: true }, { id })),
  )
  await Promise.all(streams.map((stream) => stream.until(() => true)))
  t.equal(server.listening(), 1, 'one stream at the server for all of them')
  const tooMany = await listenRaw(rig, { toolsListChanged: true })
  await tooMany.ended
  t.match(tooMany.messages, [{ error: { data: { reason: 'listen.limit', retry: true } } }])
  const other = await listenRaw(rig, { toolsListChanged: true }, { headers: { 'x-subject': 'bob' } })
  t.match(
    await other.until(() => true),
    { method: 'notifications/subscriptions/acknowledged' },
    'of another person',
  )
  for (const stream of [...streams, other]) stream.abort()
  await until(() => rig.core.stats().listeners === 0 && server.listening() === 0)

  const slow = await connectSlow(rig, { resourceSubscriptions: uris.slice(0, 200), toolsListChanged: true })
  await until(() => server.listening() === 1)
  for (let round = 0; round < 5_000; round++) server.notify.resourceUpdated(uris[round % 200]!)
  const before = slow.bytes()
  t.ok(before < 1 << 20)
  slow.resume()
  await until(() => slow.text().includes('resources/updated'))
  server.notify.toolsChanged()
  await until(() => slow.text().includes('tools/list_changed'))
  const count = slow.text().split('resources/updated').length - 1
  t.ok(count < 2_500, `of 5000 notices ${count} reached a client that did not read: the last of each`)
  slow.close()
})
