import type { Clock } from '../../../shared/clock.ts'
import { type DatabaseSync, transaction } from '../store/database.ts'
import { digest } from '../store/digest.ts'
import type { Sealer } from '../store/sealer.ts'
import type { PendingCheck } from './types.ts'

/** Where a sign-in continues: an authorization request of an agent, or a page of ours. */
export type SignInTarget = { kind: 'interaction'; uid: string } | { kind: 'page'; returnTo: string }

export interface PendingSignIns {
  put(idp: string, browser: string, check: PendingCheck, target: SignInTarget): void
  /**
   * Keeps what a provider posted for `state` until its browser asks for the outcome: the first one in time, for this
   * provider. False where there is no such sign-in, or it has an answer already.
   */
  answer(idp: string, state: string, answer: string): boolean
  /** Takes what belongs to `state`: once, in time, for this provider and this browser; else null. */
  take(
    idp: string,
    browser: string | undefined,
    state: string,
  ): { check: PendingCheck; target: SignInTarget; answer?: string } | null
  sweep(): void
}

const lifetimeMs = 10 * 60_000
const maxPending = 20_000

/** Sign-ins that are away at an identity provider. */
export function createPendingSignIns(db: DatabaseSync, sealer: Sealer, clock: Clock): PendingSignIns {
  const insert = db.prepare(
    'INSERT INTO idp_sign_in (state, idp, browser, sealed, expires_at) VALUES (?, ?, ?, ?, ?)',
  )
  const get = db.prepare('SELECT idp, browser, sealed, answer, expires_at FROM idp_sign_in WHERE state = ?')
  const drop = db.prepare('DELETE FROM idp_sign_in WHERE state = ?')
  const old = db.prepare('DELETE FROM idp_sign_in WHERE expires_at < ?')
  const trim = db.prepare(
    'DELETE FROM idp_sign_in WHERE state IN (SELECT state FROM idp_sign_in ORDER BY expires_at DESC LIMIT -1 OFFSET ?)',
  )
  const answered = db.prepare(
    'UPDATE idp_sign_in SET answer = ? WHERE state = ? AND idp = ? AND answer IS NULL AND expires_at > ?',
  )
  const context = (state: string): string => `idp-sign-in:${state}`
  const answerContext = (state: string): string => `idp-answer:${state}`

  return {
    put: (idp, browser, check, target) => {
      const key = digest(check.state)
      const sealed = sealer.seal(Buffer.from(JSON.stringify({ check, target })), context(key))
      transaction(db, () => {
        insert.run(key, idp, browser, sealed, clock.now() + lifetimeMs)
        trim.run(maxPending)
      })
    },
    answer: (idp, state, answer) => {
      const key = digest(state)
      if (get.get(key)?.idp !== idp) return false
      const sealed = sealer.seal(Buffer.from(answer), answerContext(key))
      return answered.run(sealed, key, idp, clock.now()).changes > 0
    },
    take: (idp, browser, state) => {
      const key = digest(state)
      const row = get.get(key)
      if (!row || row.idp !== idp || row.browser !== browser) return null
      drop.run(key)
      if (Number(row.expires_at) <= clock.now()) return null
      const kept = JSON.parse(sealer.open(Buffer.from(row.sealed as Uint8Array), context(key)).toString())
      if (row.answer === null) return kept
      const answer = sealer.open(Buffer.from(row.answer as Uint8Array), answerContext(key)).toString()
      return { ...kept, answer }
    },
    sweep: () => void old.run(clock.now()),
  }
}
