import t from 'tap'
import type { JsonObject } from '../../../services/proxy/mcp/protocol/types.ts'
import { proves } from '../../requirements.ts'
import { type Handler, ok, post, startLegacy } from './legacy-server.ts'
import { startRig } from './rig.ts'

t.test('a server that misbehaves fails its own call alone, in time', async (t) => {
  proves(t, 'MCP-HOSTILE-01')
  const rig = await startRig({ timeouts: { tools_call: 1_500 } })
  t.teardown(() => rig.close())
  const cases: { name: string; code: number; handler: Handler }[] = [
    { name: 'hangs', code: 5040, handler: () => {} },
    { name: 'resets', code: 5020, handler: (_body, response) => response.destroy() },
    {
      name: 'answers HTML',
      code: 5021,
      handler: (_body, response) => response.writeHead(200, { 'content-type': 'text/html' }).end('<p>'),
    },
    {
      name: 'answers broken JSON',
      code: 5021,
      handler: (_b, response) => response.writeHead(200, { 'content-type': 'application/json' }).end('{"js'),
    },
    { name: 'answers another id', code: 5021, handler: (_b, response) => ok({ id: 999_999 }, response) },
    {
      name: 'ends its stream without an answer',
      code: 5021,
      handler: (_b, response) =>
        response.writeHead(200, { 'content-type': 'text/event-stream' }).end(': hello\n\n'),
    },
    {
      name: 'sends garbage events',
      code: 5021,
      handler: (_b, response) =>
        response.writeHead(200, { 'content-type': 'text/event-stream' }).end('data: nope\n\n'),
    },
    {
      name: 'drips for ever',
      code: 5040,
      handler: (_b, response) => {
        response.writeHead(200, { 'content-type': 'text/event-stream' })
        const drip = setInterval(() => response.write(': drip\n\n'), 20)
        response.on('close', () => clearInterval(drip))
      },
    },
    {
      name: 'answers 10 MB where 1 MB is the limit',
      code: 5023,
      handler: (_b, response) =>
        response.writeHead(200, { 'content-type': 'application/json' }).end(' '.repeat(10 << 20)),
    },
    {
      name: 'sends one event of 10 MB',
      code: 5023,
      handler: (_b, response) =>
        response.writeHead(200, { 'content-type': 'text/event-stream' }).end(`data: ${'x'.repeat(10 << 20)}`),
    },
    {
      name: 'redirects',
      code: 5022,
      handler: (_b, response) => response.writeHead(302, { location: 'http://127.0.0.1:1/' }).end(),
    },
    {
      name: 'is broken inside',
      code: 5022,
      handler: (_b, response) => response.writeHead(500).end('stack trace'),
    },
  ]
  for (const { name, code, handler } of cases) {
    const bad = await startLegacy(handler)
    const good = await startLegacy(ok)
    rig.setServers([
      { prefix: 'bad', url: bad.url },
      { prefix: 'good', url: good.url },
    ])
    const startedAt = performance.now()
    const { last } = await post(rig, 'tools/call', { name: 'bad_go' })
    t.equal(last.error?.code, code, `${name}: ${last.error?.message}`)
    t.ok(performance.now() - startedAt < 10_000, `${name}: within its limit`)
    t.notMatch(JSON.stringify(last), /127\.0\.0\.1|stack|node_modules/, `${name}: says nothing of the inside`)
    t.match((await post(rig, 'tools/call', { name: 'good_go' })).last.result, { content: [{ text: 'ok' }] })
    await Promise.all([bad.close(), good.close()])
  }
})

t.test('an upstream session that is gone is opened again, unseen', async (t) => {
  proves(t, 'SESSION-09')
  const rig = await startRig()
  let session = 'one'
  const server = await startLegacy(ok, { session: () => session })
  t.teardown(async () => {
    await Promise.all([rig.close(), server.close()])
  })
  rig.setServers([{ prefix: 'a', url: server.url }])
  await post(rig, 'tools/call', { name: 'a_go' })
  session = 'two'
  const answers = await Promise.all(
    Array.from({ length: 8 }, () => post(rig, 'tools/call', { name: 'a_go' })),
  )
  for (const { last } of answers) t.match(last.result, { content: [{ text: 'ok' }] })
  t.equal(
    server.seen.filter(({ method }) => method === 'initialize').length,
    2,
    'one new session for all of them',
  )
})

t.test('a session of the client has its own at the server, ended with it', async (t) => {
  proves(t, 'SESSION-10')
  const rig = await startRig()
  let count = 0
  const server = await startLegacy(ok, { session: () => 'fixed' })
  t.teardown(async () => {
    await Promise.all([rig.close(), server.close()])
  })
  rig.setServers([{ prefix: 'a', url: server.url }])
  const open = async () =>
    (
      await post(rig, 'initialize', {
        protocolVersion: '2025-11-25',
        capabilities: {},
        clientInfo: { name: 'c', version: '1' },
      })
    ).headers.get('mcp-session-id')!
  const ids = [await open(), await open()]
  for (const id of ids) await post(rig, 'tools/call', { name: 'a_go' }, { 'mcp-session-id': id })
  t.equal(server.seen.filter(({ method }) => method === 'initialize').length, 2)
  const ended = new Promise<void>((resolve) => {
    const wait = setInterval(() => {
      count = server.seen.filter(({ method }) => method === 'DELETE').length
      if (count > 0) resolve(clearInterval(wait))
    }, 5)
  })
  await rig.core.endSession({
    id: ids[0]!,
    protocolVersion: '',
    clientCapabilities: {},
    issuedAt: 0,
    principalKey: '',
  })
  await ended
  t.equal(count, 1)
})

t.test('a server that goes down keeps its last listing, marked', async (t) => {
  proves(t, 'MCP-LIST-08')
  let ahead = 0
  const rig = await startRig({ now: () => Date.now() + ahead })
  const server = await startLegacy(ok)
  t.teardown(() => rig.close())
  rig.setServers([{ prefix: 'a', url: server.url }])
  const ask = async () => (await post(rig, 'tools/list')).last.result!
  const outcome = (result: JsonObject) => (result._meta as Record<string, unknown>)['io.aembit/servers']
  t.same(outcome(await ask()), [{ server: 'a', outcome: 'ok' }])
  await server.close()
  t.same(outcome(await ask()), [{ server: 'a', outcome: 'ok' }], 'fresh in memory: nobody is asked')
  ahead = 60_000
  const later = await ask()
  t.match(later.tools, [{ name: 'a_go' }], 'an outage does not look like an empty catalogue')
  t.same(outcome(later), [{ server: 'a', outcome: 'error', stale: true }])
})
