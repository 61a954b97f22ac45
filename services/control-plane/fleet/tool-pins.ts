import type { Clock } from '../../../shared/clock.ts'
import type { WorkloadEvent } from '../../../shared/wire/event.ts'
import type { Config } from '../config/schema.ts'
import { type DatabaseSync, transaction } from '../store/database.ts'

export interface ToolPin {
  readonly server: string
  readonly tool: string
  /** SHA-256 of the definition, base64url. */
  readonly digest: string
  readonly state: 'approved' | 'pending'
  readonly firstSeenAt: number
  readonly decidedAt: number | null
}

/** Tool definitions by server: which are approved, which wait for an administrator. */
export interface ToolPins {
  /** What gateways saw, out of their events. True where something was approved by being the first. */
  observe(events: readonly WorkloadEvent[], config: Config): boolean
  /** Undefined where no gateway has seen it. */
  approve(server: string, tool: string, digest: string): ToolPin | undefined
  /** Takes an approval back; the definition waits again. */
  withdraw(server: string, tool: string, digest: string): ToolPin | undefined
  list(filter: PinFilter, page: number, perPage: number): { pins: ToolPin[]; total: number }
  /** Approved digests by tool, in a stable order. */
  approved(server: string): Record<string, string[]>
}

export interface PinFilter {
  readonly server?: string | undefined
  readonly state?: ToolPin['state'] | undefined
}

/** A server that invents names or words without end fills no disk. */
const maxTools = 10_000
const maxWordings = 20

export function createToolPins(db: DatabaseSync, clock: Clock): ToolPins {
  const find = db.prepare('SELECT * FROM tool_pin WHERE server_id = ? AND tool = ? AND digest = ?')
  const wordings = db.prepare('SELECT count(*) AS n FROM tool_pin WHERE server_id = ? AND tool = ?')
  const tools = db.prepare('SELECT count(*) AS n FROM tool_pin WHERE server_id = ?')
  const insert = db.prepare(
    'INSERT OR IGNORE INTO tool_pin (server_id, tool, digest, state, first_seen_at, decided_at) VALUES (?, ?, ?, ?, ?, ?)',
  )
  const decide = db.prepare(
    'UPDATE tool_pin SET state = ?, decided_at = ? WHERE server_id = ? AND tool = ? AND digest = ?',
  )
  const approved = db.prepare(
    "SELECT tool, digest FROM tool_pin WHERE server_id = ? AND state = 'approved' ORDER BY tool, digest",
  )
  const where = '(? IS NULL OR server_id = ?) AND (? IS NULL OR state = ?)'
  const page = db.prepare(
    `SELECT * FROM tool_pin WHERE ${where} ORDER BY first_seen_at DESC, server_id, tool, digest LIMIT ? OFFSET ?`,
  )
  const count = db.prepare(`SELECT count(*) AS n FROM tool_pin WHERE ${where}`)

  const set = (
    state: ToolPin['state'],
    server: string,
    tool: string,
    digest: string,
  ): ToolPin | undefined => {
    decide.run(state, clock.now(), server, tool, digest)
    const row = find.get(server, tool, digest)
    return row && pinOf(row)
  }

  return {
    observe: (events, config) =>
      transaction(db, () => {
        let changed = false
        for (const { workload, contentSecurity } of events) {
          const seen = contentSecurity?.aembitToolPinning
          const server = config.serverWorkloads.find(({ id }) => id === workload.server?.id)
          if (!seen || !server || server.toolPinning.mode === 'off') continue
          for (const { name, digest } of seen.definitions) {
            const known = Number(wordings.get(server.id, name)?.n ?? 0)
            if (known >= maxWordings || (known === 0 && Number(tools.get(server.id)?.n ?? 0) >= maxTools))
              continue
            const first = known === 0 && server.toolPinning.newTools === 'approve'
            const now = clock.now()
            const state = first ? 'approved' : 'pending'
            const { changes } = insert.run(server.id, name, digest, state, now, first ? now : null)
            changed ||= first && Number(changes) > 0
          }
        }
        return changed
      }),
    approve: (server, tool, digest) => set('approved', server, tool, digest),
    withdraw: (server, tool, digest) => set('pending', server, tool, digest),
    list: ({ server = null, state = null }, number, perPage) => {
      const filter = [server, server, state, state] as const
      return {
        pins: page.all(...filter, perPage, (number - 1) * perPage).map(pinOf),
        total: Number(count.get(...filter)?.n ?? 0),
      }
    },
    approved: (server) => {
      const byTool = new Map<string, string[]>()
      for (const row of approved.all(server)) {
        const tool = String(row.tool)
        const digests = byTool.get(tool)
        if (digests) digests.push(String(row.digest))
        else byTool.set(tool, [String(row.digest)])
      }
      return Object.fromEntries(byTool)
    },
  }
}

function pinOf(row: Record<string, unknown>): ToolPin {
  return {
    server: String(row.server_id),
    tool: String(row.tool),
    digest: String(row.digest),
    state: String(row.state) as ToolPin['state'],
    firstSeenAt: Number(row.first_seen_at),
    decidedAt: row.decided_at === null ? null : Number(row.decided_at),
  }
}
