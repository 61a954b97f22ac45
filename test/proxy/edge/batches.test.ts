import t from 'tap'
import { proves } from '../../requirements.ts'
import { type Message, startWorkers, type Worker } from '../peers/workers.ts'
import { startKeeper } from '../store/keeper.ts'

const call = (id: number | string) => ({ id, method: 'tools/call', params: { name: 'a_count' } })
const by = (answers: Message[]): Record<string, Message> =>
  Object.fromEntries(answers.map((answer) => [String(answer.id), answer]))

async function start(t: { teardown(end: () => Promise<void>): void }) {
  const server = await startKeeper()
  const workers = await startWorkers({ servers: [{ prefix: 'a', url: server.url }] })
  t.teardown(async () => {
    await workers.close()
    await server.close()
  })
  return { server, worker: await workers.start() }
}

async function open(worker: Worker, protocolVersion: string): Promise<Record<string, string>> {
  const params = { protocolVersion, capabilities: {}, clientInfo: { name: 'c', version: '1' } }
  const { headers } = await worker.ask({ id: 0, method: 'initialize', params })
  return { 'mcp-session-id': String(headers['mcp-session-id']) }
}

t.test('a batch of 2025-03-26: each member is a request of its own', async (t) => {
  proves(t, 'MCP-BATCH-01')
  const { server, worker } = await start(t)
  const session = await open(worker, '2025-03-26')
  const batch = [
    call(1),
    { method: 'notifications/initialized' },
    { id: 'unknown', method: 'no/such' },
    { id: 'denied', method: 'tools/call', params: { name: 'b_count' } },
    { id: 'list', method: 'tools/list' },
    call(2),
  ]
  const { status, headers, last } = await worker.ask(batch, { headers: session })
  t.equal(status, 200)
  t.match(headers['content-type'], /^application\/json/)
  t.equal(last.length, 5, 'an answer for each request, none for the notification')
  const answers = by(last)
  const counted = [answers[1], answers[2]].map(({ result }) => result.content[0].text)
  t.same(counted.sort(), ['1', '2'], 'in one session at the server')
  t.match(answers.unknown.error, { code: -32601 })
  t.match(answers.denied.error, { code: -32602 }, 'decided by itself')
  t.match(answers.list.result, { tools: [{ name: 'a_count' }] })
  t.equal(server.opened, 1)

  const told: Message[] = []
  const streamed = await worker.ask(
    [call(3), { id: 'watch', method: 'resources/subscribe', params: { uri: 'note://a' } }],
    {
      headers: session,
      onMessage: (message) => told.push(message),
    },
  )
  t.equal(streamed.status, 200)
  await server.until(() => server.update('note://a') === 1)
  let heard: Message[] = []
  while (!heard.some(({ method }) => method === 'notifications/resources/updated')) {
    heard = []
    const more = await worker.ask(
      [
        { id: 'p', method: 'ping' },
        { id: 'q', method: 'ping' },
      ],
      {
        headers: session,
        onMessage: (message) => heard.push(message),
      },
    )
    if (String(more.headers['content-type']).startsWith('application/json')) t.equal(more.last.length, 2)
  }
  t.same(
    heard.flatMap(({ id }) => (id === undefined ? [] : [id])).sort(),
    ['p', 'q'],
    'on a stream the answers come one by one',
  )

  const quiet = await worker.ask([{ method: 'notifications/roots/list_changed' }], { headers: session })
  t.equal(quiet.status, 202, 'nothing to answer')
})

t.test('batches are for clients of 2025-03-26, with a session or without', async (t) => {
  proves(t, 'MCP-BATCH-01')
  const { worker } = await start(t)
  const stateless = await worker.ask([call(1), { id: 2, method: 'ping' }])
  t.equal(stateless.last.length, 2, 'a client that names no version is of 2025-03-26')
  const session = await open(worker, '2025-06-18')
  for (const headers of [
    session,
    { 'mcp-protocol-version': '2025-11-25' },
    { 'mcp-protocol-version': '2026-07-28' },
  ]) {
    const refused = await worker.ask([call(1)], { headers: headers as Record<string, string> })
    t.equal(refused.status, 400)
    t.match(refused.last.error, { code: -32600, data: { reason: 'rpc.batch' } })
  }
})

t.test(
  'a client that forgets its session id is answered, whatever it asks and whichever version it is of',
  async (t) => {
    proves(t, 'SESSION-13')
    const { server, worker } = await start(t)
    for (const version of [undefined, '2025-03-26', '2025-06-18', '2025-11-25']) {
      const headers: Record<string, string> = version === undefined ? {} : { 'mcp-protocol-version': version }
      const ask = async (method: string, params: object = {}): Promise<Message> => {
        const { status, last } = await worker.ask({ id: 1, method, params }, { headers })
        t.equal(status, 200, `${method}, ${version}`)
        return last
      }
      t.match((await ask('tools/list')).result, { tools: [{ name: 'a_count' }] })
      t.match((await ask('tools/call', { name: 'a_count' })).result, { content: [{ type: 'text' }] })
      t.match((await ask('resources/list')).result, { resources: [{ uri: 'note://a' }] })
      t.match((await ask('resources/templates/list')).result, { resourceTemplates: [] })
      t.ok((await ask('resources/read', { uri: 'note://a' })).result)
      t.match((await ask('prompts/list')).result, { prompts: [] })
      t.ok((await ask('prompts/get', { name: 'a_p' })).result)
      const ref = { type: 'ref/prompt', name: 'a_p' }
      t.ok((await ask('completion/complete', { ref, argument: { name: 'x', value: '' } })).result)
      t.same((await ask('ping')).result, {})
      t.same((await ask('logging/setLevel', { level: 'info' })).result, {})
      const initialized = await worker.ask({ method: 'notifications/initialized' }, { headers })
      t.equal(initialized.status, 202)
      const subscribed = await worker.ask(
        { id: 1, method: 'resources/subscribe', params: { uri: 'note://a' } },
        { headers },
      )
      t.match(subscribed.last.error, { data: { reason: 'session.missing' } }, 'nobody could be told')
    }
    t.equal(server.opened, 1, 'of one person, in one session at the server')
  },
)
