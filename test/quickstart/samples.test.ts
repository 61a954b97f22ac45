import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { Client } from '@modelcontextprotocol/sdk/client/index.js'
import { StreamableHTTPClientTransport } from '@modelcontextprotocol/sdk/client/streamableHttp.js'
import t from 'tap'
import { createAgent, type Era } from '../../installer/quickstart/agent.ts'
import { openLogFile } from '../../installer/quickstart/log-file.ts'
import { anyFreePort } from '../../installer/quickstart/ports.ts'
import { type Launch, launch, type Running } from '../../installer/quickstart/process.ts'

const samples = 'installer/quickstart/samples'

async function start(dir: string, what: Launch): Promise<Running> {
  mkdirSync(dir, { recursive: true })
  const running = launch(what, openLogFile(join(dir, `${what.name}.log`)))
  const deadline = Date.now() + 20_000
  while (!running.said('listens on 127.0.0.1:')) {
    if (Date.now() > deadline) throw new Error(running.log.tail(20))
    await new Promise((resolve) => setTimeout(resolve, 25))
  }
  return running
}

const textOf = (result: unknown): string =>
  (result as { content: { text?: string }[] }).content.map(({ text }) => text).join('')

t.test('notes wants each person’s own account and remembers over a restart', async (t) => {
  const dir = t.testdir()
  const port = await anyFreePort()
  const what = {
    name: 'notes',
    script: `${samples}/notes/main.ts`,
    args: ['--port', String(port), '--state', dir],
  }
  let notes = await start(dir, what)
  t.teardown(() => notes.stop(5000))

  const agentOf = (account: string, era: Era) => {
    const person = { email: `${account}@example.com`, password: '', account }
    const agent = createAgent({
      url: `http://127.0.0.1:${port}/mcp`,
      caPath: null,
      person,
      clientName: 'test',
      era,
    })
    t.teardown(() => agent.close())
    return agent
  }
  const ann = agentOf('ann', 'modern')
  const bob = agentOf('bob', 'legacy')
  const [annClient, bobClient] = [await ann.connect(), await bob.connect()]
  t.equal(annClient.getNegotiatedProtocolVersion(), '2026-07-28')
  t.equal(bobClient.getNegotiatedProtocolVersion(), '2025-11-25')
  t.equal(textOf(await annClient.callTool({ name: 'whoami', arguments: {} })), 'ann')
  t.equal(textOf(await bobClient.callTool({ name: 'whoami', arguments: {} })), 'bob')
  await annClient.callTool({ name: 'add_note', arguments: { text: 'milk' } })
  t.equal(textOf(await annClient.callTool({ name: 'list_notes', arguments: {} })), '1. milk')
  t.equal(textOf(await bobClient.callTool({ name: 'list_notes', arguments: {} })), 'no notes yet')
  t.match(await annClient.readResource({ uri: 'notes://all' }), { contents: [{ text: '1. milk' }] })
  t.match(await annClient.getPrompt({ name: 'summarize_notes' }), {
    messages: [{ content: { text: /milk/ } }],
  })

  const token = ann.provider.stored
  t.ok(token?.refresh_token, 'a refresh token came along')
  await notes.stop(5000)
  notes = await start(dir, what)
  const again = await ann.connect()
  t.equal(
    textOf(await again.callTool({ name: 'list_notes', arguments: {} })),
    '1. milk',
    'the token still opens the notes',
  )
  const refreshed = await fetch(`http://127.0.0.1:${port}/token`, {
    method: 'POST',
    body: new URLSearchParams({
      grant_type: 'refresh_token',
      refresh_token: token?.refresh_token ?? '',
      client_id: ann.provider.client?.client_id ?? '',
    }),
  })
  t.match(
    await refreshed.json(),
    { access_token: /^ey/, expires_in: 300 },
    'client and grant outlived the restart',
  )
})

t.test('weather wants its API key', async (t) => {
  const dir = t.testdir()
  const port = await anyFreePort()
  writeFileSync(join(dir, 'key'), 'the-key\n')
  const args = ['--port', String(port), '--api-key-file', join(dir, 'key')]
  const weather = await start(dir, { name: 'weather', script: `${samples}/weather.ts`, args })
  t.teardown(() => weather.stop(5000))
  const url = new URL(`http://127.0.0.1:${port}/mcp`)
  const client = new Client({ name: 'test', version: '1' })
  await t.rejects(client.connect(new StreamableHTTPClientTransport(url)), /API key/)
  await client.connect(
    new StreamableHTTPClientTransport(url, { requestInit: { headers: { 'x-api-key': 'the-key' } } }),
  )
  t.match(
    textOf(await client.callTool({ name: 'get_weather', arguments: { city: 'Bern' } })),
    /^Bern: \w+, -?\d+ °C$/,
  )
  await client.close()
})

t.test('everything listens on loopback alone, and a second one says that the port is taken', async (t) => {
  const dir = t.testdir()
  const port = await anyFreePort()
  const what = { name: 'everything', script: `${samples}/everything.ts`, env: { PORT: String(port) } }
  const everything = await start(dir, what)
  t.teardown(() => everything.stop(5000))
  const client = new Client({ name: 'test', version: '1' })
  await client.connect(new StreamableHTTPClientTransport(new URL(`http://127.0.0.1:${port}/mcp`)))
  t.ok((await client.listTools()).tools.some(({ name }) => name === 'echo'))
  await client.close()
  const second = launch(what, openLogFile(join(dir, 'second.log')))
  t.match(await second.ended, { code: 1 })
  t.match(second.errors(), /already in use/)
})
