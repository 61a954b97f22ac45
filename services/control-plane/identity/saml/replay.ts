import type { DatabaseSync } from '../../store/database.ts'
import { digest } from '../../store/digest.ts'

export interface AssertionReplay {
  /** True the first time an assertion is shown, false from then on. `expiresAt`: ms since the epoch. */
  use(issuer: string, id: string, expiresAt: number): boolean
  sweep(now: number): void
}

/** Assertion ids that were accepted, kept over restarts until the assertion is refused for its age. */
export function createAssertionReplay(db: DatabaseSync): AssertionReplay {
  const insert = db.prepare('INSERT OR IGNORE INTO saml_assertion (id, expires_at) VALUES (?, ?)')
  const old = db.prepare('DELETE FROM saml_assertion WHERE expires_at < ?')
  return {
    use: (issuer, id, expiresAt) =>
      insert.run(digest(JSON.stringify([issuer, id])), Math.ceil(expiresAt)).changes > 0,
    sweep: (now) => void old.run(now),
  }
}
