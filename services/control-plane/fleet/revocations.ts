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

/** Newest kept; each lives no longer than the access tokens it refuses. */
const maxRevocations = 10_000

export function createRevocations(db: DatabaseSync, clock: Clock): Revocations {
  const insert = db.prepare(
    'INSERT INTO revocation (id, at, subject, client_id, jti, grant_ref) VALUES (?, ?, ?, ?, ?, ?)',
  )
  const list = db.prepare(
    'SELECT at, subject, client_id, jti, grant_ref FROM revocation ORDER BY at DESC, id LIMIT ?',
  )
  const expire = db.prepare('DELETE FROM revocation WHERE at < ?')
  return {
    add: ({ subject, clientId, jti, grant }) => {
      if ([subject, clientId, jti, grant].every((value) => value === undefined)) {
        throw new RangeError('a revocation names a subject, a client, a token or a grant')
      }
      insert.run(
        randomUUID(),
        Math.floor(clock.now() / 1000),
        subject ?? null,
        clientId ?? null,
        jti ?? null,
        grant ?? null,
      )
    },
    live: (tokenLifeSecs) => {
      expire.run(Math.floor(clock.now() / 1000) - tokenLifeSecs - 60)
      return list
        .all(maxRevocations)
        .reverse()
        .map((row) => ({
          at: Number(row.at),
          ...(row.subject === null ? {} : { subject: String(row.subject) }),
          ...(row.client_id === null ? {} : { clientId: String(row.client_id) }),
          ...(row.jti === null ? {} : { jti: String(row.jti) }),
          ...(row.grant_ref === null ? {} : { grant: String(row.grant_ref) }),
        }))
    },
  }
}
