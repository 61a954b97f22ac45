import { hash } from 'node:crypto'
import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t from 'tap'
import { chained } from '../../../services/proxy/record-chain.ts'
import { Spool } from '../../../services/proxy/record-spool.ts'
import { Fault } from '../../../shared/faults.ts'
import { createLogger } from '../../../shared/log.ts'
import { workloadEventSchema } from '../../../shared/wire/event.ts'
import { proves } from '../../requirements.ts'
import { TestClock, token } from './fakes.ts'
import { rpc, startRig } from './rig.ts'

const log = createLogger('test', 'off')

t.test('what a call looks like in the trail', async (t) => {
  proves(t, 'EVENT-01')
  const rig = await startRig({
    core: (call, { recorder, sessions }) => {
      if ('method' in call.message && call.message.method === 'boom') {
        throw new Fault('upstream.timeout', { detail: 'secret-host' })
      }
      const server = call.index.snapshot.servers[0]!
      recorder.request(call, { server, decision: null, toolName: 'find', outcome: 'Modified' })
      recorder.response(call, {
        server,
        decision: null,
        outcome: 'Passthrough',
        httpResponseCode: 200,
        durationMs: 12.345,
      })
      const session = sessions.seal(call.principal, '2025-11-25', {})
      call.reply.json(200, '{}', { 'mcp-session-id': session.id })
    },
  })
  t.teardown(() => rig.close())
  const opened = await rig.http1({ body: rpc('initialize', {}) })
  const id = String(opened.headers['mcp-session-id'])
  await rig.http1({
    path: '/mcp?secret=in-the-query',
    body: rpc('tools/call', { name: 'crm_find', arguments: { q: 'secret-argument' } }, 'req-7'),
    headers: {
      'mcp-session-id': id,
      'x-api-key': 'secret-key',
      cookie: 'sid=secret',
      'user-agent': 'agent/1',
    },
  })
  await rig.http2({ body: rpc('boom', {}, 8) })
  await rig.http1({ body: '{' })
  await rig.http1({ body: rpc('x'), token: await token({ client_workload: 'other' }) })
  await rig.http1({ body: rpc('x'), token: 'not-a-token' })
  await rig.http1({ body: rpc('x'), token: null })
  await rig.http1({ method: 'GET' })
  await rig.stop()
  const events = await rig.events()
  for (const event of events)
    t.strictSame(workloadEventSchema.parse(event), event, 'the shape of the contract')
  const [, , request, response, ...refused] = events
  t.match(request, {
    meta: {
      eventType: 'mcp.request',
      severity: 'Info',
      policyId: 'p1',
      connectionId: response!.meta.connectionId,
    },
    workload: { client: { id: 'cw', name: 'agents' }, server: { id: 'crm', name: 'CRM' } },
    network: {
      clientWorkloadIP: '203.0.113.9',
      clientWorkloadPort: 40_100,
      serverWorkloadHost: 'crm.test',
      serverWorkloadPort: 443,
      proxyPort: 8443,
    },
    outcome: { result: 'Modified' },
    decision: { policyVersion: 1, rule: null, reasonCode: 'allowed' },
    application: {
      mcp: {
        httpMethod: 'POST',
        httpVersion: 'HTTP/1.1',
        uri: '/mcp',
        headers: [{ host: 'crm.test' }],
        mcpMethod: 'tools/call',
        mcpProtocolVersion: '2025-11-25',
        mcpServerName: 'CRM',
        mcpToolName: 'find',
        mcpRequestId: 'req-7',
        userId: 'ann@corp.test',
        oauthClientId: 'agent-1',
      },
    },
  })
  t.match(
    request!.application.mcp.mcpSessionId,
    /^[0-9a-f-]{36}$/,
    'a name of the session, not the id that opens it',
  )
  t.match(response, { application: { mcp: { httpResponseCode: 200, durationMs: 12.3 } } })
  t.same(
    refused.map(({ decision }) => decision?.reasonCode),
    ['allowed', 'allowed', 'client_workload_unknown', undefined],
    'what policy said of it, beside what became of it',
  )
  t.strictSame(
    refused.map(({ outcome, application: { mcp } }) => [
      outcome.result,
      outcome.reasonCode,
      mcp.httpResponseCode,
      mcp.httpVersion,
      mcp.userId,
    ]),
    [
      ['Error', 'upstream.timeout', 200, 'HTTP/2', 'ann@corp.test'],
      ['Error', 'rpc.parse', 400, 'HTTP/1.1', 'ann@corp.test'],
      ['Error', 'client_workload_unknown', 403, 'HTTP/1.1', 'ann@corp.test'],
      ['Error', 'token.malformed', 401, 'HTTP/1.1', undefined],
    ],
    'one response event for each refusal; a request without a token and a GET are none',
  )
  const text = JSON.stringify(events)
  for (const secret of ['secret', rig.valid, id]) t.notOk(text.includes(secret), 'no secret, no content')
})

t.test('headers of the client: names all, values of harmless ones', async (t) => {
  proves(t, 'EVENT-02')
  const rig = await startRig({
    core: (call, { recorder }) => {
      recorder.request(call, { server: null, decision: null, outcome: 'Passthrough' })
      call.reply.json(200, '{}')
    },
  })
  t.teardown(() => rig.close())
  await rig.http1({
    body: rpc('tools/list'),
    headers: { 'x-api-key': 'k', 'user-agent': 'agent/1', 'x-many': ['a', 'b'] },
  })
  await rig.stop()
  const [event] = await rig.events()
  const headers = Object.assign({}, ...event!.application.mcp.headers)
  t.match(headers, {
    host: 'gw.test:8443',
    'user-agent': 'agent/1',
    authorization: '***',
    'x-api-key': '***',
    'x-many': '***',
  })
  t.equal(event!.application.mcp.uri, '/mcp')
})

t.test('each event holds the digest of the one before, over what a parser gives back', async (t) => {
  proves(t, 'EVENT-08')
  const rig = await startRig({
    core: (call, { recorder }) => {
      const server = call.index.snapshot.servers[0]!
      const odd = { toolName: '\ud800"\\\u2028ü', reason: `${'x'.repeat(1023)}😀` }
      recorder.request(call, { server, decision: null, outcome: 'Modified', ...odd })
      recorder.response(call, {
        server: null,
        decision: null,
        outcome: 'Error',
        reasonCode: 'a',
        httpResponseCode: 502,
        durationMs: 1 / 3,
        contentSecurity: {
          aembitMcpToolsAcl: { decision: 'blocked', control: 'invocable', matchedRules: ['*'] },
        },
      })
      call.reply.json(200, '{}')
    },
  })
  t.teardown(() => rig.close())
  const headers = { '7': 'k', 'user-agent': 'a"\\b', __proto__x: '1' }
  await rig.http1({ body: rpc('tools/list', {}, '\ud800'), headers })
  await rig.http2({ body: rpc('tools/call', {}, 2) })
  await rig.stop()
  const lines = await rig.lines()
  t.equal(lines.length, 4)
  for (const [at, line] of lines.entries()) {
    const event = JSON.parse(line)
    t.equal(JSON.stringify(event), line, 'the same bytes after each hop')
    t.match(event.chain, { id: JSON.parse(lines[0]!).chain.id, seq: at + 1 })
    t.equal(event.chain.prev, at === 0 ? '' : hash('sha256', lines[at - 1]!, 'base64url'))
  }
})

t.test('an event that is dropped takes no number', async (t) => {
  const lines: string[] = []
  const append = chained('7b0e7a6e-9a47-4b2c-8a4c-0f6f4b3f1f11', (line) => {
    const taken = !line.includes('"drop"')
    if (taken) lines.push(line)
    return taken
  })
  for (const n of ['"a"', '"drop"', '"b"']) append(`{"n":${n}}`)
  t.same(
    lines.map((line) => JSON.parse(line).chain.seq),
    [1, 2],
  )
})

t.test('strangers can not flood the trail', async (t) => {
  proves(t, 'EVENT-03')
  const rig = await startRig()
  t.teardown(() => rig.close())
  await Promise.all(Array.from({ length: 60 }, () => rig.http1({ body: rpc('x'), token: 'stranger' })))
  t.ok(Number(rig.edge.stats().eventsSuppressed) >= 20)
  await rig.stop()
  t.ok((await rig.events()).length <= 40)
})

t.test('segments: sealed by age and by size, named by age', async (t) => {
  const dir = await mkdtemp(join(tmpdir(), 'spool-'))
  t.teardown(() => rm(dir, { recursive: true, force: true }))
  const clock = new TestClock()
  const spool = new Spool({ dir, owner: '3-9', clock, log })
  await spool.start()
  const names = async (): Promise<string[]> => (await readdir(dir)).sort()
  const until = async (test: (all: string[]) => boolean): Promise<string[]> => {
    for (;;) {
      const all = await names()
      if (test(all)) return all
      await new Promise((done) => setTimeout(done, 5))
    }
  }
  spool.append('{"n":1}')
  spool.append('{"n":2}')
  const [open] = await until((all) => all.length === 1)
  t.match(open, /^3-9-\d{15}\.open$/)
  clock.offset = 1_000
  const [ready] = await until((all) => all[0]?.endsWith('.ready') === true)
  t.equal(await readFile(join(dir, ready!), 'utf8'), '{"n":1}\n{"n":2}\n')
  for (let n = 0; n < 10; n++) spool.append(`"${'ü'.repeat(20_000)}"`)
  await until((all) => all.filter((name) => name.endsWith('.ready')).length === 2)
  spool.append('{"n":3}')
  await spool.close()
  const all = await names()
  t.equal(all.filter((name) => name.endsWith('.ready')).length, 3)
  t.match(await readFile(join(dir, all.at(-1)!), 'utf8'), '{"n":3}\n', 'the newest sorts last')
  spool.append('{"late":1}')
  t.equal(spool.dropped, 1, 'nothing after the end')
})

t.test('a disk that does not take it costs events, not requests', async (t) => {
  proves(t, 'EVENT-04')
  const dir = await mkdtemp(join(tmpdir(), 'spool-'))
  const spool = new Spool({
    dir: join(dir, 'in'),
    owner: '0-1',
    clock: new TestClock(),
    log,
  })
  await spool.start()
  await rm(dir, { recursive: true })
  spool.append('{"n":1}')
  await spool.close()
  t.equal(spool.dropped, 1)
  const tight = new Spool({ dir, owner: '0-1', clock: new TestClock(), log, maxBlocks: 2, blockBytes: 100 })
  await tight.start()
  for (let n = 0; n < 20; n++) tight.append('{"n":123456}')
  t.ok(tight.dropped > 0 && tight.dropped < 20, 'memory is bounded')
  tight.append(`"${'x'.repeat(200)}"`)
  await tight.close()
  t.equal(tight.written + tight.dropped, 21, 'each line is written or counted')
  await rm(dir, { recursive: true })
})
