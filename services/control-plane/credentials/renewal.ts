import PQueue from 'p-queue'
import type { Grant } from './grants.ts'
import type { UserTokens } from './user-tokens.ts'
import type { StoredCredential, Vault } from './vault.ts'

export interface RenewalDeps {
  readonly vault: Vault
  readonly tokens: UserTokens
  /** What it takes to renew it; undefined where the configuration or the person is gone. */
  readonly grantOf: (stored: StoredCredential) => Grant | undefined
}

export interface Renewal {
  /** Renews what ends soon and was used lately; resolves when all of it is done. Never throws. */
  tick(): Promise<void>
}

/** Requests to authorization servers at once: a thousand tokens that end together are no flood. */
const concurrency = 8

/** Renews tokens ahead of their end, so that no call waits for it. What nobody uses is renewed when somebody does. */
export function createRenewal({ vault, tokens, grantOf }: RenewalDeps): Renewal {
  const queue = new PQueue({ concurrency })
  let running: Promise<void> | undefined

  const run = async (): Promise<void> => {
    const due = vault.endingSoon().flatMap((stored) => {
      const grant = grantOf(stored)
      return grant ? [{ key: stored, grant }] : []
    })
    await Promise.all(due.map((ask) => queue.add(() => tokens.renewAhead(ask))))
  }
  return {
    tick: () => {
      running ??= run()
        .catch(() => {})
        .finally(() => {
          running = undefined
        })
      return running
    },
  }
}
