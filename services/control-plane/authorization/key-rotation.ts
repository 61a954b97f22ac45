import type { Clock } from '../../../shared/clock.ts'
import type { Logger } from '../../../shared/log.ts'
import type { SigningKeys } from './keys.ts'

export interface KeyRotation {
  /**
   * Publishes successors now; they sign after `keyLeadMs`, and at once where they waited so long already. `compromised`: they sign at once and what the former keys
   * signed is refused, so that everybody's tokens have to be refreshed.
   */
  rotate(compromised: boolean): Promise<void>
  /** What is due by the clock: successors for keys that are old, their taking over, forgetting what is gone. */
  tick(): Promise<void>
}

export interface KeyRotationDeps {
  readonly keys: SigningKeys
  readonly clock: Clock
  readonly log: Logger
  /** How long a key signs, ms. */
  readonly everyMs: () => number
  /** How long a token that a key signed may live, ms. */
  readonly tokenMs: () => number
  /** Puts the keys of now in force: at the authorization server and, by the snapshot, at every gateway. */
  readonly apply: () => Promise<void>
}

/** Longer than a gateway works on a snapshot that nobody confirmed; and than clients keep our key set. */
export const keyLeadMs = 15 * 60_000
/** A retired key is published until its last token is over, and two days for those who keep tokens to look at later. */
const graceMs = 2 * 86_400_000

/** Keys overlap: a successor is known everywhere before it signs, its predecessor until nothing it signed is left. */
export function createKeyRotation(deps: KeyRotationDeps): KeyRotation {
  const { keys, clock, log, everyMs, tokenMs, apply } = deps
  let turn: Promise<unknown> = Promise.resolve()
  const inTurn = <T>(work: () => Promise<T>): Promise<T> => {
    const next = turn.then(work)
    turn = next.catch(() => {})
    return next
  }
  const told = (what: string): void =>
    log.info({ event: 'signing_keys', keys: keys.list().map(({ kid, state }) => ({ kid, state })) }, what)

  return {
    rotate: (compromised) =>
      inTurn(async () => {
        const promoted = compromised ? 0 : keys.promote(keyLeadMs)
        if (promoted === 0) await keys.publish()
        if (compromised) {
          keys.promote(0)
          keys.prune(-1)
        }
        await apply()
        told(
          compromised
            ? 'signing keys replaced, the former ones forgotten'
            : promoted > 0
              ? 'successors sign from now on'
              : 'successors of the signing keys published',
        )
      }),
    tick: () =>
      inTurn(async () => {
        const promoted = keys.promote(keyLeadMs)
        const pruned = keys.prune(graceMs + tokenMs())
        const active = keys.list().filter(({ state }) => state === 'active')
        const old = active.some(({ createdAt }) => clock.now() - createdAt > everyMs() - keyLeadMs)
        const waiting = keys.list().some(({ state }) => state === 'next')
        if (old && !waiting) await keys.publish()
        if (promoted + pruned === 0 && (!old || waiting)) return
        await apply()
        told(promoted > 0 ? 'successors sign from now on' : 'signing keys changed')
      }),
  }
}
