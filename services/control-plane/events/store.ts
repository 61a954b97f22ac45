import type { Clock } from '../../../shared/clock.ts'
import type { WorkloadEvent } from '../../../shared/wire/event.ts'
import { type DatabaseSync, transaction } from '../store/database.ts'

export interface EventLimits {
  readonly maxAgeMs: number
  readonly maxRows: number
}

export interface EventQuery {
  /** Any part of the event's JSON, in any case. */
  readonly search?: string
  /** Not older than so many hours. */
  readonly spanLastHours?: number
  readonly severity?: WorkloadEvent['meta']['severity']
  readonly user?: string
  readonly server?: string
  readonly tool?: string
  readonly client?: string
  /** From 1. */
  readonly page: number
  readonly perPage: number
}

export interface EventStore {
  /** All of a batch or none; events that are there already count as duplicates and stay as they are. */
  add(events: readonly WorkloadEvent[], gatewayId: string): { accepted: number; duplicates: number }
  /** Newest first. */
  query(query: EventQuery): { total: number; events: WorkloadEvent[] }
  /** Deletes what is past its retention, oldest first, at most `limit` rows at once; answers how many. */
  sweep(limit?: number): number
}

export interface EventStoreDeps {
  readonly db: DatabaseSync
  readonly clock: Clock
  /** Of the running configuration. */
  readonly limits: () => EventLimits
}

/** A gateway's clock may be wrong: an event from far in the future would outlive every retention. */
const maxAheadMs = 5 * 60_000
const sweepEvery = 1_000

export function createEventStore({ db, clock, limits }: EventStoreDeps): EventStore {
  const insert = db.prepare(`INSERT OR IGNORE INTO workload_event
    (event_id, at, event_type, severity, connection_id, user_id, server_id, tool, client_id, gateway_id, body)
    VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`)
  const span = db.prepare('SELECT min(seq) AS first, max(seq) AS last, count(*) AS rows FROM workload_event')
  const dropOld = db.prepare(
    'DELETE FROM workload_event WHERE seq IN (SELECT seq FROM workload_event WHERE at < ? ORDER BY at LIMIT ?)',
  )
  const dropFirst = db.prepare(
    'DELETE FROM workload_event WHERE seq IN (SELECT seq FROM workload_event ORDER BY at, seq LIMIT ?)',
  )
  let sinceSweep = 0

  const sweep = (limit = 5_000): number => {
    const { maxAgeMs, maxRows } = limits()
    const old = Number(dropOld.run(clock.now() - maxAgeMs, limit).changes)
    const surplus = Math.min(Number(span.get()?.rows ?? 0) - maxRows, limit)
    return old + (surplus > 0 ? Number(dropFirst.run(surplus).changes) : 0)
  }

  return {
    sweep,
    add: (events, gatewayId) => {
      const latest = clock.now() + maxAheadMs
      const accepted = transaction(db, () => {
        let added = 0
        for (const event of events) {
          const { meta, workload, application } = event
          const at = Math.min(Date.parse(meta.timestamp), latest)
          const { changes } = insert.run(
            meta.eventId,
            at,
            meta.eventType,
            meta.severity,
            meta.connectionId,
            application.mcp.userId ?? null,
            workload.server?.id ?? null,
            application.mcp.mcpToolName ?? null,
            workload.client?.id ?? null,
            gatewayId,
            JSON.stringify(event),
          )
          added += Number(changes)
        }
        return added
      })
      sinceSweep += accepted
      if (sinceSweep >= sweepEvery) {
        sinceSweep = 0
        sweep()
      }
      return { accepted, duplicates: events.length - accepted }
    },
    query: ({ page, perPage, ...filter }) => {
      const { where, values } = conditions(filter, clock.now())
      const total = db.prepare(`SELECT count(*) AS total FROM workload_event ${where}`).get(...values)
      const rows = db
        .prepare(`SELECT body FROM workload_event ${where} ORDER BY at DESC, seq DESC LIMIT ? OFFSET ?`)
        .all(...values, perPage, (page - 1) * perPage)
      return {
        total: Number(total?.total ?? 0),
        events: rows.map((row) => JSON.parse(String(row.body)) as WorkloadEvent),
      }
    },
  }
}

function conditions(filter: Omit<EventQuery, 'page' | 'perPage'>, now: number) {
  const columns: [string, string | number | undefined][] = [
    ['at >= ?', filter.spanLastHours === undefined ? undefined : now - filter.spanLastHours * 3_600_000],
    ['severity = ?', filter.severity],
    ['user_id = ?', filter.user],
    ['server_id = ?', filter.server],
    ['tool = ?', filter.tool],
    ['client_id = ?', filter.client],
    ["body LIKE ? ESCAPE '\\'", filter.search && `%${filter.search.replace(/[\\%_]/g, '\\$&')}%`],
  ]
  const given = columns.filter(
    (column): column is [string, string | number] => column[1] !== undefined && column[1] !== '',
  )
  return {
    where: given.length === 0 ? '' : `WHERE ${given.map(([sql]) => sql).join(' AND ')}`,
    values: given.map(([, value]) => value),
  }
}
