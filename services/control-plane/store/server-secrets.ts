import { randomBytes } from 'node:crypto'
import type { Clock } from '../../../shared/clock.ts'
import type { DatabaseSync } from './database.ts'
import type { Sealer } from './sealer.ts'

const contextOf = (name: string): string => `server-secret:${name}`

/** 32 random bytes under a name, made at first use and sealed at rest; the same after a restart. */
export function serverSecret(db: DatabaseSync, sealer: Sealer, clock: Clock, name: string): Buffer {
  return keepServerSecret(db, sealer, clock, name, randomBytes(32))
}

/** What is kept under a name; undefined where nothing is yet. */
export function findServerSecret(db: DatabaseSync, sealer: Sealer, name: string): Buffer | undefined {
  const row = db.prepare('SELECT sealed FROM server_secret WHERE name = ?').get(name)
  return row && sealer.open(Buffer.from(row.sealed as Uint8Array), contextOf(name))
}

/** Keeps `value` under a name, unless there is one already; answers the one that is kept. */
export function keepServerSecret(
  db: DatabaseSync,
  sealer: Sealer,
  clock: Clock,
  name: string,
  value: Buffer,
): Buffer {
  db.prepare('INSERT OR IGNORE INTO server_secret (name, sealed, created_at) VALUES (?, ?, ?)').run(
    name,
    sealer.seal(value, contextOf(name)),
    clock.now(),
  )
  return findServerSecret(db, sealer, name) ?? value
}
