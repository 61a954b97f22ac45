import { LRUCache } from 'lru-cache'
import type { Clock } from '../../../shared/clock.ts'
import { Fault } from '../../../shared/faults.ts'
import type { Logger } from '../../../shared/log.ts'
import { backoffMs } from '../../../shared/retry.ts'
import type { CredentialChanges } from '../fleet/credential-changes.ts'
import type { Grant } from './grants.ts'
import { GrantEnded, refresh, type Tokens } from './oauth.ts'
import type { TokenChecks } from './token-checks.ts'
import { about, type CredentialKey, idOf, type StoredCredential, type TokenSet, type Vault } from './vault.ts'

export interface RefreshesDeps {
  readonly vault: Vault
  readonly changes: CredentialChanges
  readonly clock: Clock
  /** 0 ≤ random() < 1. */
  readonly random: () => number
  /** A connection ended for good: its owner has to connect again. */
  readonly ended: (stored: StoredCredential, reason: string) => void
  /** A renewal failed again and again; told once until one succeeds. */
  readonly failing: (stored: StoredCredential, reason: string) => void
  readonly log: Logger
}

export interface Refreshes {
  /** Whether one failed so lately that none is tried now. */
  waiting(key: CredentialKey): boolean
  /**
   * Refreshes a token that is due, or that the server refused (`rejected`). What it answers is the row as it is afterwards:
   * renewed, broken, or another's change that came first; undefined where it is gone. At most one at a time for one person
   * and server, however many ask, and one for each token: who read the row before a former one was over holds a refresh
   * token that was used, and servers end the grant of who uses it twice.
   */
  renew(
    stored: StoredCredential,
    tokens: TokenSet,
    grant: Grant,
    rejected: boolean,
  ): Promise<StoredCredential | undefined>
}

/** So many tokens in a row that were refused while they were so young: the next one would be, its owner might help. */
const maxRefusals = 3
const youngMs = 5_000
/** So many renewals in a row that failed are no hiccup any more: half a minute, by the backoff. */
const failingFrom = 6
const backoff = { baseMs: 1_000, capMs: 60_000, floorMs: 250 }

export function createRefreshes(deps: RefreshesDeps, moved: TokenChecks['moved']): Refreshes {
  const { vault, changes, clock, random, ended, failing, log } = deps
  const running = new Map<string, Promise<StoredCredential | undefined>>()
  const failures = new LRUCache<string, { count: number; notBefore: number }>({ max: 10_000 })
  const refusals = new LRUCache<string, number>({ max: 10_000 })

  const breakOff = (stored: StoredCredential, reason: string): void => {
    if (!vault.markBroken(stored, reason)) return
    log.warn({ ...about(stored), reason }, 'connection needs its owner')
    ended(stored, reason)
    changes.publish(stored)
  }

  const once = async (
    stored: StoredCredential,
    tokens: TokenSet,
    grant: Grant,
    rejected: boolean,
  ): Promise<StoredCredential | undefined> => {
    const id = idOf(stored)
    if (rejected) {
      if (clock.now() - stored.refreshedAt > youngMs) refusals.delete(id)
      if ((refusals.get(id) ?? 0) >= maxRefusals) {
        breakOff(stored, 'refused_by_server')
        return vault.find(stored)
      }
      if (await moved(grant, tokens)) {
        breakOff(stored, 'authorization_server_changed')
        return vault.find(stored)
      }
    }
    const client = grant.client(tokens.server, tokens.clientId)
    if (tokens.refreshToken === null || client === undefined) {
      breakOff(stored, tokens.refreshToken === null ? 'no_refresh_token' : 'client_changed')
      return vault.find(stored)
    }
    let fresh: Tokens
    try {
      const outbound = grant.outbound(tokens.server.token_endpoint)
      fresh = await refresh(tokens.server, client, tokens.refreshToken, tokens.resource, outbound)
    } catch (error) {
      // A client of the configuration can be corrected there, and then the refresh token is good again.
      if (error instanceof GrantEnded && (error.code === 'invalid_grant' || client.dynamic)) {
        // Every other code is about this person: the registration is everybody's.
        if (error.code === 'invalid_client') grant.retireClient(tokens.server, client.clientId)
        breakOff(stored, error.code)
        return vault.find(stored)
      }
      const count = (failures.get(id)?.count ?? 0) + 1
      failures.set(id, { count, notBefore: clock.now() + backoffMs(count, { ...backoff, random }) })
      const fault = error instanceof GrantEnded ? undefined : Fault.from(error)
      const reason = fault?.code ?? (error instanceof GrantEnded ? error.code : 'error')
      vault.noteError(stored, `refresh failed: ${reason}`)
      if (count === failingFrom) failing(stored, reason)
      log.warn({ ...about(stored), reason, detail: fault?.detail, count }, 'refresh failed')
      return vault.find(stored)
    }
    failures.delete(id)
    if (rejected) refusals.set(id, (refusals.get(id) ?? 0) + 1)
    else refusals.delete(id)
    const swapped = vault.swap(stored, {
      // RFC 6749 §6: no new refresh token means that the old one stays.
      tokens: {
        ...tokens,
        accessToken: fresh.accessToken,
        refreshToken: fresh.refreshToken ?? tokens.refreshToken,
      },
      scopes: fresh.scope ?? stored.scopes,
      expiresAt: fresh.expiresIn === null ? null : clock.now() + fresh.expiresIn * 1000,
    })
    log.info({ ...about(stored), swapped }, 'token refreshed')
    return vault.find(stored)
  }

  return {
    waiting: (key) => clock.now() < (failures.get(idOf(key))?.notBefore ?? 0),
    renew: (stored, tokens, grant, rejected) => {
      const id = idOf(stored)
      const under = running.get(id)
      if (under) return under
      const now = vault.find(stored)
      if (now?.version !== stored.version) return Promise.resolve(now)
      const turn = once(stored, tokens, grant, rejected).finally(() => running.delete(id))
      running.set(id, turn)
      return turn
    },
  }
}
