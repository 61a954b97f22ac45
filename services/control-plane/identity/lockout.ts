import type { Clock } from '../../../shared/clock.ts'
import type { DatabaseSync } from '../store/database.ts'

/** From the `free`-th failure on, each one shuts the door for base·2^n, at most `capMs`. */
interface Rule {
  readonly free: number
  readonly baseMs: number
  readonly capMs: number
}

/**
 * An address serves many people (an office behind one NAT), so that it may fail oftener than one account; an
 * account's cap is short enough that locking someone else out of theirs by guessing stays an annoyance.
 */
const rules = {
  account: { free: 5, baseMs: 5_000, capMs: 15 * 60_000 },
  address: { free: 20, baseMs: 5_000, capMs: 15 * 60_000 },
} as const satisfies Record<string, Rule>
const forgetAfterMs = 24 * 3_600_000

export interface Lockout {
  /** Milliseconds that this account or address must still wait; 0 where it may try. */
  waitMs(account: string, address: string): number
  failed(account: string, address: string): void
  /** Clears the account, and takes back the one failure that `failed` counted ahead of this success. */
  succeeded(account: string, address: string): void
  sweep(): void
}

/** Counts failed sign-ins in the database, so that a restart is no amnesty. */
export function createLockout(db: DatabaseSync, clock: Clock): Lockout {
  const find = db.prepare(
    'SELECT failures, last_at, blocked_until FROM sign_in_failure WHERE kind = ? AND key = ?',
  )
  const put = db.prepare(`INSERT INTO sign_in_failure (kind, key, failures, last_at, blocked_until)
    VALUES (?, ?, ?, ?, ?) ON CONFLICT (kind, key) DO UPDATE SET failures = excluded.failures,
    last_at = excluded.last_at, blocked_until = excluded.blocked_until`)
  const clear = db.prepare("DELETE FROM sign_in_failure WHERE kind = 'account' AND key = ?")
  const back = db.prepare(
    "UPDATE sign_in_failure SET failures = failures - 1, blocked_until = 0 WHERE kind = 'address' AND key = ?",
  )
  const old = db.prepare('DELETE FROM sign_in_failure WHERE last_at < ?')

  const remaining = (kind: keyof typeof rules, key: string): number => {
    const row = find.get(kind, key)
    return row ? Math.max(0, Number(row.blocked_until) - clock.now()) : 0
  }
  const count = (kind: keyof typeof rules, key: string): void => {
    const now = clock.now()
    const row = find.get(kind, key)
    const fresh = !row || now - Number(row.last_at) > forgetAfterMs
    const failures = fresh ? 1 : Number(row.failures) + 1
    const { free, baseMs, capMs } = rules[kind]
    const over = failures - free
    const delay = over < 0 ? 0 : Math.min(capMs, baseMs * 2 ** Math.min(over, 20))
    put.run(kind, key, failures, now, now + delay)
  }
  return {
    waitMs: (account, address) => Math.max(remaining('account', account), remaining('address', address)),
    failed: (account, address) => {
      count('account', account)
      count('address', address)
    },
    succeeded: (account, address) => {
      clear.run(account)
      // Only that one: a good password of their own must not buy a guesser new tries.
      back.run(address)
    },
    sweep: () => void old.run(clock.now() - forgetAfterMs),
  }
}
