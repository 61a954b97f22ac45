import t from 'tap'
import { post } from './legacy-server.ts'
import { modernMeta } from './modern-server.ts'
import { connectModern, listenRaw, startNotifier, until } from './notices-peers.ts'
import { startRig } from './rig.ts'

const subscriptionId = 'io.modelcontextprotocol/subscriptionId'

t.test('a modern client hears what modern servers change, as far as it asked', async (t) => {
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
