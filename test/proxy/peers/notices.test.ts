import t from 'tap'
import { proves } from '../../requirements.ts'
import { startNotifier, until } from '../mcp/notices-peers.ts'
import { startTeller } from '../mcp/teller.ts'
import { type Message, startWorkers } from './workers.ts'

t.test('what one worker hears reaches the session at another one', async (t) => {
  proves(t, 'MCP-NOTICE-04')
  const server = await startNotifier()
  const workers = await startWorkers({ servers: [{ prefix: 'm', url: server.url }] })
  t.teardown(async () => {
    await workers.close()
    await server.close()
  })
  const [first, second] = await Promise.all([workers.start(), workers.start()])
  const params = { protocolVersion: '2025-11-25', capabilities: {}, clientInfo: { name: 'c', version: '1' } }
  const initialized = await first.ask({ id: 0, method: 'initialize', params })
  const headers = { 'mcp-session-id': String(initialized.headers['mcp-session-id']) }
  const ask = async (worker: typeof first, method: string, params: object = {}): Promise<Message[]> => {
    const before: Message[] = []
    const { last } = await worker.ask(
      { id: 1, method, params },
      { headers, onMessage: (message) => before.push(message) },
    )
    t.notOk(last.error, method)
    return before
  }
  const uri = `note://${server.port}/one`
  await ask(second, 'tools/list')
  await ask(first, 'resources/subscribe', { uri })
  await until(() => server.filters.some((filter) => Array.isArray(filter.resourceSubscriptions)))

  server.notify.resourceUpdated(uri)
  let told: Message[] = []
  while (!told.some(({ method }) => method === 'notifications/resources/updated'))
    told = await ask(second, 'ping')
  t.match(
    told.find(({ params }) => params?.uri),
    { params: { uri } },
  )

  const opened = server.opened()
  await ask(second, 'resources/unsubscribe', { uri })
  await until(() => server.opened() > opened)
  t.notOk(server.filters.at(-1)?.resourceSubscriptions, 'whichever worker had taken the subscription')
})

t.test('a question that one worker keeps is asked by the one that the session asks next, once', async (t) => {
  proves(t, 'MCP-ASK-HELD-01')
  const server = await startTeller()
  const workers = await startWorkers({ servers: [{ prefix: 'a', url: server.url }] })
  t.teardown(async () => {
    await workers.close()
    await server.close()
  })
  const [first, second] = await Promise.all([workers.start(), workers.start()])
  const params = {
    protocolVersion: '2025-11-25',
    capabilities: { roots: { listChanged: true } },
    clientInfo: { name: 'c', version: '1' },
  }
  const initialized = await first.ask({ id: 0, method: 'initialize', params })
  const headers = { 'mcp-session-id': String(initialized.headers['mcp-session-id']) }
  await first.ask({ id: 1, method: 'tools/list' }, { headers })
  await until(() => server.streams.size === 1)
  server.say({ id: 'q', method: 'roots/list' })
  const questions: Message[] = []
  const onMessage = (message: Message): void => {
    if (message.method === 'roots/list') questions.push(message)
  }
  while (questions.length === 0) await second.ask({ id: 2, method: 'ping' }, { headers, onMessage })
  await second.ask({ id: questions[0].id, result: { roots: [{ uri: 'file:///mine' }] } }, { headers })
  await until(() => server.seen.some(({ body }) => body.id === 'q' && body.method === undefined))
  for (const worker of [first, second]) await worker.ask({ id: 3, method: 'ping' }, { headers, onMessage })
  t.equal(questions.length, 1)

  await second.ask({ method: 'notifications/roots/list_changed' }, { headers })
  await until(() => server.count('notifications/roots/list_changed') === 1)
  t.pass('from a worker that has no session at the server')
})
