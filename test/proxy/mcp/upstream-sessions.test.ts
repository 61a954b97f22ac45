import type { ServerResponse } from 'node:http'
import t, { type Test } from 'tap'
import { Stop } from '../../../services/proxy/mcp/stop.ts'
import { createUpstreamHttp } from '../../../services/proxy/mcp/upstream/http.ts'
import type { Party } from '../../../services/proxy/mcp/upstream/request.ts'
import { createLegacySessions } from '../../../services/proxy/mcp/upstream/sessions.ts'
import { proves } from '../../requirements.ts'
import { ManualClock } from '../../rig/manual-clock.ts'
import { type Handler, ok, startLegacy } from './legacy-server.ts'
import { ann, proxyConfig } from './rig.ts'

const minute = 60_000

async function scene(t: Test, onCall: Handler) {
  const server = await startLegacy(onCall, { session: () => 's1' })
  const http = createUpstreamHttp(null)
  const clock = new ManualClock()
  let id = 0
  const sessions = createLegacySessions({
    http,
    config: proxyConfig(),
    clock,
    info: { name: 'gateway', title: 'Gateway', version: '0' },
    nextId: () => ++id,
    notes: undefined,
    onOpen: () => {},
    onEnded: () => {},
  })
  t.teardown(async () => {
    await sessions.close(1_000)
    await http.close()
    await server.close()
  })
  const workload = {
    id: 'a',
    name: 'a',
    prefix: 'a',
    url: server.url.toString(),
    credential: 'none' as const,
    allowedNetworks: ['127.0.0.0/8'],
  }
  const party = (binding: string): Party => ({
    principal: ann,
    binding,
    principalKey: 'ann',
    variant: '',
    capabilities: {},
    tasks: false,
    live: false,
    protocolVersion: '2025-06-18',
  })
  const deleted = (): number => server.seen.filter(({ method }) => method === 'DELETE').length
  const opened = (): number => server.seen.filter(({ method }) => method === 'initialize').length
  /** What is on its way arrives. */
  const arrive = () => new Promise((resolve) => setTimeout(resolve, 50))
  return { sessions, clock, workload, party, deleted, opened, arrive }
}

t.test('a session is not ended under a call that runs, and is when nobody uses it', async (t) => {
  proves(t, 'MCP-SESSION-GONE-02')
  let answer = (): void => {}
  const { promise: asked, resolve: reached } = Promise.withResolvers<void>()
  const { sessions, clock, workload, party, deleted, arrive } = await scene(t, (body, response) => {
    answer = () => ok(body, response as ServerResponse)
    reached()
  })
  const session = await sessions.get(party('ann'), workload, {})
  const running = session.exchange({
    headers: session.headers({}),
    message: { jsonrpc: '2.0', id: 9, method: 'tools/call', params: { name: 'go', arguments: {} } },
    stop: new Stop(),
    limit: 65_536,
  })
  await asked
  for (let at = 0; at < 40; at++) {
    clock.advance(minute)
    await arrive()
    sessions.sweep()
  }
  t.equal(deleted(), 0, 'a call of 40 minutes')
  answer()
  t.match((await running).response, { result: { content: [{ text: 'ok' }] } })
  clock.advance(16 * minute)
  await arrive()
  sessions.sweep()
  await arrive()
  t.equal(deleted(), 1)
})

t.test('after a client ended its session nothing of it opens another one', async (t) => {
  proves(t, 'MCP-SESSION-GONE-03')
  const { sessions, workload, party, deleted, opened } = await scene(t, ok)
  await sessions.get(party('session-1'), workload, {})
  await sessions.end('session-1')
  t.equal(deleted(), 1)
  await t.rejects(async () => sessions.get(party('session-1'), workload, {}), { code: 'session.unknown' })
  t.equal(opened(), 1)
  await sessions.get(party('session-2'), workload, {})
  t.equal(opened(), 2, 'another client is none the wiser')
})
