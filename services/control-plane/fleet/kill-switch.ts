import { randomUUID } from 'node:crypto'
import { decodeJwt } from 'jose'
import type { Clock } from '../../../shared/clock.ts'
import type { Block } from '../../../shared/wire/snapshot.ts'
import type { DatabaseSync } from '../store/database.ts'

export type BlockKind = Block['kind']

export interface KillSwitchEntry {
  readonly id: string
  readonly kind: BlockKind
  /** Subject; OAuth client id or client workload id; server workload id; `jti`. */
  readonly value: string
  readonly reason: string
  readonly createdAt: number
  /** Null while it acts. */
  readonly revertedAt: number | null
}

export interface KillSwitch {
  /** Answers the entry that is there already where the same is shut out. Throws RangeError for a token without `jti`. */
  block(kind: BlockKind, value: string, reason: string): { entry: KillSwitchEntry; created: boolean }
  /** Undefined where there is no such entry, or it was taken back already. */
  revert(id: string): KillSwitchEntry | undefined
  /** Newest first. */
  list(activeOnly: boolean, page: number, perPage: number): { entries: KillSwitchEntry[]; total: number }
  /** What gateways refuse, in a stable order. */
  active(): Block[]
}

export function createKillSwitch(db: DatabaseSync, clock: Clock): KillSwitch {
  const insert = db.prepare(
    'INSERT INTO kill_switch (id, kind, value, reason, created_at) VALUES (?, ?, ?, ?, ?)',
  )
  const byValue = db.prepare('SELECT * FROM kill_switch WHERE kind = ? AND value = ? AND reverted_at IS NULL')
  const byId = db.prepare('SELECT * FROM kill_switch WHERE id = ?')
  const undo = db.prepare('UPDATE kill_switch SET reverted_at = ? WHERE id = ? AND reverted_at IS NULL')
  const active = db.prepare(
    'SELECT kind, value FROM kill_switch WHERE reverted_at IS NULL ORDER BY kind, value',
  )
  const where = '(? = 0 OR reverted_at IS NULL)'
  const page = db.prepare(
    `SELECT * FROM kill_switch WHERE ${where} ORDER BY created_at DESC, id LIMIT ? OFFSET ?`,
  )
  const count = db.prepare(`SELECT count(*) AS n FROM kill_switch WHERE ${where}`)
  return {
    block: (kind, given, reason) => {
      const value = kind === 'token' ? tokenId(given) : given
      const known = byValue.get(kind, value)
      if (known) return { entry: entryOf(known), created: false }
      const id = randomUUID()
      insert.run(id, kind, value, reason, clock.now())
      return { entry: entryOf(byId.get(id)!), created: true }
    },
    revert: (id) => {
      if (undo.run(clock.now(), id).changes === 0) return undefined
      return entryOf(byId.get(id)!)
    },
    list: (activeOnly, number, perPage) => {
      const only = activeOnly ? 1 : 0
      return {
        entries: page.all(only, perPage, (number - 1) * perPage).map(entryOf),
        total: Number(count.get(only)?.n ?? 0),
      }
    },
    active: () =>
      active.all().map((row) => ({ kind: String(row.kind) as BlockKind, value: String(row.value) })),
  }
}

/** `jti` of a token that was pasted whole, so that the token itself is stored nowhere; else the value is the `jti`. */
function tokenId(given: string): string {
  if (given.split('.').length !== 3) return given
  let jti: unknown
  try {
    jti = decodeJwt(given).jti
  } catch {
    return given
  }
  if (typeof jti !== 'string' || jti === '') {
    throw new RangeError('the token has no jti to name it by; block its user or client instead')
  }
  return jti
}

function entryOf(row: Record<string, unknown>): KillSwitchEntry {
  return {
    id: String(row.id),
    kind: String(row.kind) as BlockKind,
    value: String(row.value),
    reason: String(row.reason),
    createdAt: Number(row.created_at),
    revertedAt: row.reverted_at === null ? null : Number(row.reverted_at),
  }
}
