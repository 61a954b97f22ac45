import { randomUUID } from 'node:crypto'
import { mkdtempSync, readFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import Fastify from 'fastify'
import { test } from 'tap'
import { loadAdminToken } from '../../../services/control-plane/api/admin-token.ts'
import { registerApi } from '../../../services/control-plane/api/routes.ts'
import { systemClock } from '../../../shared/clock.ts'
import type { ToolPinning, WorkloadEvent } from '../../../shared/wire/event.ts'
import { proves } from '../../requirements.ts'
import { configOf, enrol, memoryLog, post, startFleet, yaml } from './rig.ts'

const listing = (server: string, definitions: ToolPinning['definitions']): WorkloadEvent => ({
  version: '1.0.0',
  meta: {
    timestamp: new Date().toISOString(),
    eventType: 'mcp.response',
    connectionId: randomUUID(),
    eventId: randomUUID(),
    action: 'forward',
    severity: 'Info',
    policyId: 'p',
  },
  workload: { client: null, server: { id: server, name: server } },
  outcome: { result: 'Passthrough' },
  application: { mcp: { httpVersion: 'HTTP/1.1', headers: [], mcpMethod: 'tools/list', mcpSessionId: '' } },
  contentSecurity: { aembitToolPinning: { mode: 'hold', changed: 0, held: 0, definitions } },
})

async function start(newTools: 'approve' | 'hold') {
  const fleet = await startFleet()
  const [id = ''] = configOf().serverWorkloads.map((server) => server.id)
  const config = configOf(yaml())
  config.serverWorkloads = config.serverWorkloads.map((server) =>
    server.id === id ? { ...server, toolPinning: { mode: 'hold', newTools } } : server,
  )
  await fleet.snapshots.apply(config, { keys: [] })
  const { gateway } = await enrol(fleet)
  const pinned = () =>
    fleet.snapshots.current().snapshot.servers.find((server) => server.id === id)?.toolPinning
  const tell = (...definitions: ToolPinning['definitions']) =>
    post(fleet.http, '/gateway/v1/events', { events: [listing(id, definitions)] }, gateway.accessToken)
  return { fleet, id, pinned, tell }
}

test('the first definition that any gateway sees is approved for all; another one waits', async (t) => {
  proves(t, 'PIN-01')
  const { fleet, id, pinned, tell } = await start('approve')
  t.teardown(fleet.close)
  t.same(pinned(), { mode: 'hold', newTools: 'approve', approved: {} })
  const before = fleet.snapshots.current().snapshot.version
  await tell({ name: 'go', digest: 'first' })
  t.same(pinned()?.approved, { go: ['first'] })
  t.ok(fleet.snapshots.current().snapshot.version > before, 'gateways get a new snapshot')
  await tell({ name: 'go', digest: 'second' })
  t.same(pinned()?.approved, { go: ['first'] })
  t.match(fleet.toolPins.list({ state: 'pending' }, 1, 10).pins, [
    { server: id, tool: 'go', digest: 'second' },
  ])
  for (let wording = 0; wording < 50; wording++) await tell({ name: 'go', digest: `w${wording}` })
  t.equal(fleet.toolPins.list({}, 1, 100).total, 20, 'a server that words it anew for ever fills no disk')
})

test('an administrator approves and takes back, and the trail says so', async (t) => {
  proves(t, 'PIN-02')
  const { fleet, id, pinned, tell } = await start('hold')
  t.teardown(fleet.close)
  const tokenPath = join(mkdtempSync(join(tmpdir(), 'pins-')), 'admin-token')
  const app = Fastify()
  const isAdmin = await loadAdminToken(tokenPath)
  registerApi(app, { ...fleet, isAdmin, version: '1', clock: systemClock, log: memoryLog().log })
  t.teardown(() => app.close())
  const headers = { authorization: `Bearer ${readFileSync(tokenPath, 'utf8').trim()}` }
  const call = async (method: 'GET' | 'POST', url: string, payload?: object) => {
    const response = await app.inject({
      method,
      url: `/api/v1${url}`,
      headers,
      ...(payload ? { payload } : {}),
    })
    return { status: response.statusCode, body: response.json() }
  }
  await tell({ name: 'go', digest: 'abc' })
  t.same(pinned()?.approved, {}, 'first seen is not approved here')
  t.match((await call('GET', '/tool-pins?state=pending')).body.entities, [
    { server: id, tool: 'go', digest: 'abc', state: 'pending', decidedAt: null },
  ])
  t.equal((await call('POST', '/tool-pins/approve', { server: id, tool: 'go', digest: 'zzz' })).status, 404)
  t.equal((await call('POST', '/tool-pins/approve', { server: id, tool: 'go', digest: 'abc' })).status, 200)
  t.same(pinned()?.approved, { go: ['abc'] })
  t.match((await call('GET', '/audit-logs')).body.entities, [{ activity: 'Tool definition approved' }])
  t.equal((await call('POST', '/tool-pins/withdraw', { server: id, tool: 'go', digest: 'abc' })).status, 200)
  t.same(pinned()?.approved, {})
})
