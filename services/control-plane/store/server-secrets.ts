import { randomBytes } from 'node:crypto'
import type { Clock } from '../../../shared/clock.ts'
import type { DatabaseSync } from './database.ts'
import type { Sealer } from './sealer.ts'

/** 32 random bytes under a name, made at first use and sealed at rest; the same after a restart. */
export function serverSecret(db: DatabaseSync, sealer: Sealer, clock: Clock, name: string): Buffer {
  const context = `server-secret:${name}`
  db.prepare('INSERT OR IGNORE INTO server_secret (name, sealed, created_at) VALUES (?, ?, ?)').run(
    name,
    sealer.seal(randomBytes(32), context),
    clock.now(),
  )
  const row = db.prepare('SELECT sealed FROM server_secret WHERE name = ?').get(name)
  return sealer.open(Buffer.from(row?.sealed as Uint8Array), context)
}
