import { randomUUID } from 'node:crypto'
import { test } from 'tap'
import { createEventStore } from '../../../services/control-plane/events/store.ts'
import { openDatabase } from '../../../services/control-plane/store/database.ts'
import type { WorkloadEvent } from '../../../shared/wire/event.ts'
import { proves } from '../../requirements.ts'
import { enrol, movable, post, startFleet } from './rig.ts'

function event(
  over: { at?: number; tool?: string; user?: string; server?: string; severity?: 'Info' | 'Error' } = {},
): WorkloadEvent {
  return {
    version: '1.0.0',
    meta: {
      timestamp: new Date(over.at ?? Date.now()).toISOString(),
      eventType: 'mcp.request',
      connectionId: randomUUID(),
      eventId: randomUUID(),
      action: 'forward',
      severity: over.severity ?? 'Info',
      policyId: 'p',
    },
    workload: {
      client: { id: 'agents', name: 'Agents' },
      server: { id: over.server ?? 'docs', name: 'Documentation' },
    },
    outcome: { result: 'Modified' },
    application: {
      mcp: {
        httpVersion: 'HTTP/1.1',
        headers: [],
        mcpMethod: 'tools/call',
        mcpSessionId: 's',
        mcpToolName: over.tool ?? 'find',
        userId: over.user ?? 'ann@example.com',
      },
    },
  }
}

function open(limits = { maxAgeMs: 86_400_000, maxRows: 1_000 }) {
  const clock = movable()
  const store = createEventStore({ db: openDatabase(':memory:'), clock, limits: () => limits })
  return { clock, store, all: { page: 1, perPage: 1_000 } }
}

test('a batch that comes twice is stored once', async (t) => {
  proves(t, 'EVENT-05')
  const fleet = await startFleet()
  t.teardown(fleet.close)
  const { gateway } = await enrol(fleet)
  const batch = { events: [event(), event()] }
  const send = (events: unknown) => post(fleet.http, '/gateway/v1/events', events, gateway.accessToken)
  t.same((await send(batch)).body, { accepted: 2, duplicates: 0 })
  t.same((await send(batch)).body, { accepted: 0, duplicates: 2 })
  t.same((await send({ events: [...batch.events, event()] })).body, { accepted: 1, duplicates: 2 })
  t.equal(fleet.events.query({ page: 1, perPage: 10 }).total, 3)
  t.equal((await send({ events: [event(), { ...event(), version: '9' }] })).status, 400)
  t.equal((await send({ events: Array.from({ length: 1001 }, () => event()) })).status, 400)
  t.equal(
    fleet.events.query({ page: 1, perPage: 10 }).total,
    3,
    'a batch with a wrong event is stored in no part',
  )
})

test('newest first, in pages, by any field and any text', async (t) => {
  const { clock, store, all } = open()
  const now = clock.now()
  const events = [
    event({ at: now - 3 * 3_600_000, tool: 'old_tool' }),
    event({ at: now - 1000, tool: '100%_done', user: 'bob@example.com', severity: 'Error' }),
    event({ at: now - 2000, server: 'crm' }),
  ]
  store.add(events, 'gateway')
  const tools = (query: object) =>
    store.query({ ...all, ...query }).events.map(({ application }) => application.mcp.mcpToolName)
  t.same(tools({}), ['100%_done', 'find', 'old_tool'])
  t.same(tools({ page: 2, perPage: 2 }), ['old_tool'])
  t.equal(store.query({ page: 2, perPage: 2 }).total, 3)
  t.same(tools({ spanLastHours: 2 }), ['100%_done', 'find'])
  t.same(tools({ user: 'bob@example.com' }), ['100%_done'])
  t.same(tools({ server: 'crm' }), ['find'])
  t.same(tools({ tool: 'old_tool', client: 'agents' }), ['old_tool'])
  t.same(tools({ severity: 'Error' }), ['100%_done'])
  t.same(tools({ search: 'BOB@' }), ['100%_done'])
  t.same(tools({ search: '%_d' }), ['100%_done'], 'a % is a %')
  t.same(tools({ search: "' OR 1=1 --" }), [])
  t.same(store.query({ ...all, search: 'crm' }).events, [events[2]], 'as it came')
})

test('the oldest go by age and by number, wherever a gateway’s clock is', async (t) => {
  const { clock, store, all } = open({ maxAgeMs: 3_600_000, maxRows: 5 })
  const now = clock.now()
  store.add([event({ at: now + 100 * 365 * 86_400_000, tool: 'future' })], 'gateway')
  store.add(
    Array.from({ length: 8 }, (_, index) => event({ at: now + index, tool: `t${index}` })),
    'gateway',
  )
  t.equal(store.sweep(), 4)
  const left = store.query(all).events.map(({ application }) => application.mcp.mcpToolName)
  t.same(left, ['future', 't7', 't6', 't5', 't4'])
  clock.advance(3_600_000 + 6 * 60_000)
  store.sweep()
  t.equal(store.query(all).total, 0)
})
