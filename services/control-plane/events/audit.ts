import { randomUUID } from 'node:crypto'
import type { Clock } from '../../../shared/clock.ts'
import type { DatabaseSync } from '../store/database.ts'

/** One entry of the audit log, in the field names that log consumers know. Holds no secret. */
export interface AuditEntry {
  readonly category:
    | 'AccessPolicies'
    | 'AgentControllers'
    | 'Agents'
    | 'Authentication'
    | 'CredentialProvider'
    | 'TrustProvider'
    | 'Tenant'
    | 'Users'
    | 'Workloads'
  /** What was done, in words, e.g. `Kill switch set`. */
  readonly activity: string
  readonly actor: { readonly type: 'Administrator' | 'User' | 'System'; readonly displayName: string }
  /** To whom or what. */
  readonly target: string
  readonly outcome: 'Success' | 'Failure'
  readonly severity: 'Alert' | 'Warn' | 'Info'
  readonly client?: { readonly ip?: string; readonly userAgent?: string }
  readonly detail?: Readonly<Record<string, unknown>>
}

export interface AuditLog {
  add(entry: AuditEntry): void
  /** Newest first. */
  query(options: { category?: string | undefined; page: number; perPage: number }): {
    entries: unknown[]
    total: number
  }
  sweep(): void
}

/**
 * How many are kept of each class, so that none pushes out what administrators did: `stranger` is what anybody can cause
 * without a sign-in, `other` what people and machines that are known do.
 */
const kept = { administrator: 100_000, other: 80_000, stranger: 20_000 } as const
type Class = keyof typeof kept
const maxAgeMs = 400 * 86_400_000

function classOf({ actor, category, severity }: AuditEntry): Class {
  if (actor.type === 'Administrator') return 'administrator'
  if (category === 'Agents' && actor.type === 'System') return 'stranger'
  const open = category === 'Authentication' || category === 'Agents' || category === 'AgentControllers'
  return open && severity === 'Warn' ? 'stranger' : 'other'
}

export function createAuditLog(db: DatabaseSync, clock: Clock): AuditLog {
  const insert = db.prepare(
    'INSERT INTO audit_log (id, at, category, severity, class, body) VALUES (?, ?, ?, ?, ?, ?)',
  )
  const where = '(?1 IS NULL OR category = ?1)'
  const page = db.prepare(`SELECT body FROM audit_log WHERE ${where} ORDER BY seq DESC LIMIT ?2 OFFSET ?3`)
  const count = db.prepare(`SELECT count(*) AS n FROM audit_log WHERE ${where}`)
  const expire = db.prepare('DELETE FROM audit_log WHERE at < ?')
  const trim = db.prepare(`DELETE FROM audit_log WHERE class = ?1 AND seq <= (
    SELECT seq FROM audit_log WHERE class = ?1 ORDER BY seq DESC LIMIT 1 OFFSET ?2)`)
  return {
    add: (entry) => {
      const id = randomUUID()
      const at = clock.now()
      const body = { externalId: id, ...entry, createdAt: new Date(at).toISOString() }
      insert.run(id, at, entry.category, entry.severity, classOf(entry), JSON.stringify(body))
    },
    query: ({ category = null, page: number, perPage }) => ({
      entries: page.all(category, perPage, (number - 1) * perPage).map((row) => JSON.parse(String(row.body))),
      total: Number(count.get(category)?.n ?? 0),
    }),
    sweep: () => {
      for (const [name, rows] of Object.entries(kept)) trim.run(name, rows)
      expire.run(clock.now() - maxAgeMs)
    },
  }
}
