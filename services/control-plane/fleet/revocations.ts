import { randomUUID } from 'node:crypto'
import type { Clock } from '../../../shared/clock.ts'
import type { Revocation, RevocationMatch } from '../../../shared/revocations.ts'
import type { DatabaseSync } from '../store/database.ts'

export interface Revocations {
  /** Refuses every access token issued until now that matches all fields given. Throws RangeError where none is given. */
  add(match: RevocationMatch): void
  /** Those that may still refuse a live token, oldest first. */
  live(tokenLifeSecs: number): Revocation[]
}

/**
 * Of those that name one token or one authorization, which people's clients may ask for: the newest are kept. What names a
 * person or a client is never left out. Each lives no longer than the access tokens it refuses.
 */
const maxNarrow = 10_000

export function createRevocations(db: DatabaseSync, clock: Clock): Revocations {
  const again = db.prepare(`UPDATE revocation SET at = ?
    WHERE subject IS ? AND client_id IS ? AND jti IS ? AND grant_ref IS ?`)
  const insert = db.prepare(
    'INSERT INTO revocation (at, subject, client_id, jti, grant_ref, id) VALUES (?, ?, ?, ?, ?, ?)',
  )
  const columns = 'SELECT at, id, subject, client_id, jti, grant_ref FROM revocation'
  const narrow = '(jti IS NOT NULL OR grant_ref IS NOT NULL)'
  const list = db.prepare(`SELECT * FROM (${columns} WHERE NOT ${narrow})
    UNION ALL SELECT * FROM (${columns} WHERE ${narrow} ORDER BY at DESC, id LIMIT ?)
    ORDER BY at, id DESC`)
  const expire = db.prepare('DELETE FROM revocation WHERE at < ?')
  return {
    add: ({ subject, clientId, jti, grant }) => {
      if ([subject, clientId, jti, grant].every((value) => value === undefined)) {
        throw new RangeError('a revocation names a subject, a client, a token or a grant')
      }
      const row = [
        Math.floor(clock.now() / 1000),
        ...[subject, clientId, jti, grant].map((value) => value ?? null),
      ] as const
      if (again.run(...row).changes === 0) insert.run(...row, randomUUID())
    },
    live: (tokenLifeSecs) => {
      expire.run(Math.floor(clock.now() / 1000) - tokenLifeSecs - 60)
      return list.all(maxNarrow).map((row) => ({
        at: Number(row.at),
        ...(row.subject === null ? {} : { subject: String(row.subject) }),
        ...(row.client_id === null ? {} : { clientId: String(row.client_id) }),
        ...(row.jti === null ? {} : { jti: String(row.jti) }),
        ...(row.grant_ref === null ? {} : { grant: String(row.grant_ref) }),
      }))
    },
  }
}
