import type { Clock } from '../../../shared/clock.ts'
import type { WorkloadEvent } from '../../../shared/wire/event.ts'
import type { StoredChain } from '../../../shared/wire/event-chain.ts'
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
  /** The chains of a gateway's processes, as far as events of them are stored or were deleted for their age. */
  chains(gatewayId: string): StoredChain[]
  /** Events of a chain by their number, those after `after`, a page of them. */
  chain(gatewayId: string, id: string, after: number): WorkloadEvent[]
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
const chainPage = 500

export function createEventStore({ db, clock, limits }: EventStoreDeps): EventStore {
  const insert = db.prepare(`INSERT OR IGNORE INTO workload_event
    (event_id, at, event_type, severity, connection_id, user_id, server_id, tool, client_id, gateway_id, body,
    chain_id, chain_seq) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`)
  const span = db.prepare('SELECT min(seq) AS first, max(seq) AS last, count(*) AS rows FROM workload_event')
  const old = 'SELECT seq FROM workload_event WHERE at < ? ORDER BY at, seq LIMIT ?'
  const first = 'SELECT seq FROM workload_event ORDER BY at, seq LIMIT ?'
  const [dropOld, dropFirst] = [old, first].map((which) => dropping(db, which)) as [Drop, Drop]
  const chains = db.prepare(`SELECT chain_id AS id, count(*) AS events FROM workload_event
    WHERE gateway_id = ? AND chain_id IS NOT NULL GROUP BY chain_id`)
  const swept = db.prepare('SELECT chain_id AS id, through FROM swept_event_chain WHERE gateway_id = ?')
  const chain = db.prepare(`SELECT body FROM workload_event
    WHERE gateway_id = ? AND chain_id = ? AND chain_seq > ? ORDER BY chain_seq LIMIT ${chainPage}`)
  let sinceSweep = 0

  const sweep = (limit = 5_000): number => {
    const { maxAgeMs, maxRows } = limits()
    return transaction(db, () => {
      const aged = dropOld(clock.now() - maxAgeMs, limit)
      const surplus = Math.min(Number(span.get()?.rows ?? 0) - maxRows, limit)
      return aged + (surplus > 0 ? dropFirst(surplus) : 0)
    })
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
            event.chain?.id ?? null,
            event.chain?.seq ?? null,
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
    chains: (gatewayId) => {
      const found = new Map<string, StoredChain>()
      for (const { id, through } of swept.all(gatewayId))
        found.set(String(id), { id: String(id), events: 0, sweptThrough: Number(through) })
      for (const { id, events } of chains.all(gatewayId)) {
        const sweptThrough = found.get(String(id))?.sweptThrough ?? 0
        found.set(String(id), { id: String(id), events: Number(events), sweptThrough })
      }
      return [...found.values()]
    },
    chain: (gatewayId, id, after) =>
      chain.all(gatewayId, id, after).map(({ body }) => JSON.parse(String(body)) as WorkloadEvent),
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

type Drop = (...values: number[]) => number

/** Deletes the rows of `which`, and writes down how far that took away of each chain: a gap that retention made is none. */
function dropping(db: DatabaseSync, which: string): Drop {
  const note = db.prepare(`INSERT INTO swept_event_chain (gateway_id, chain_id, through)
    SELECT gateway_id, chain_id, max(chain_seq) FROM workload_event
    WHERE chain_id IS NOT NULL AND seq IN (${which}) GROUP BY gateway_id, chain_id
    ON CONFLICT (gateway_id, chain_id) DO UPDATE SET through = max(through, excluded.through)`)
  const drop = db.prepare(`DELETE FROM workload_event WHERE seq IN (${which})`)
  return (...values) => {
    note.run(...values)
    return Number(drop.run(...values).changes)
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
