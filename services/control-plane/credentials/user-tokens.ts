import { createHash } from 'node:crypto'
import { LRUCache } from 'lru-cache'
import { Fault } from '../../../shared/faults.ts'
import { covers, unionOf } from '../../../shared/www-authenticate.ts'
import type { Grant } from './grants.ts'
import { Refused } from './issued.ts'
import { createRefreshes, type RefreshesDeps } from './refreshes.ts'
import { createTokenChecks } from './token-checks.ts'
import { about, type CredentialKey, idOf, longestAheadMs, type StoredCredential } from './vault.ts'

export interface UserToken {
  readonly accessToken: string
  readonly expiresAt: number | null
}

export interface UserTokenAsk {
  readonly key: CredentialKey
  readonly grant: Grant
  /** SHA-256 (base64url) of the header value, or of the token in it, that the server refused. */
  readonly rejected?: string | undefined
  /** Scopes that the server demanded. */
  readonly scope?: string | undefined
}

/** Not without the person: never connected, connected no longer, or connected with less scope than is needed. */
export type OwnerNeeded =
  | { readonly needs: 'connect' }
  | { readonly needs: 'reconnect'; readonly error: string }
  | { readonly needs: 'scope'; readonly scope: string }

export interface UserTokens {
  /**
   * A token that is good now, or why its owner is needed. Throws `credential.unavailable` where a refresh failed that may
   * succeed later and the token at hand is over; Refused where the owner was asked for a scope before and did not get it.
   */
  get(ask: UserTokenAsk): Promise<UserToken | OwnerNeeded>
  /** Renews a token that ends soon, for whoever asks next. Never throws: what fails is tried again, or its owner is needed. */
  renewAhead(ask: Pick<UserTokenAsk, 'key' | 'grant'>): Promise<void>
}

/** A token is renewed in the last minute of its life, or the last fifth of a short one. */
const aheadShare = 0.2
/** By so much of that time it may be later. */
const jitterShare = 0.25
/** A token with less left than this is not handed out: it would expire on its way. */
const marginMs = 2_000

export function createUserTokens(deps: RefreshesDeps): UserTokens {
  const { vault, clock, random, log } = deps
  const checks = createTokenChecks(clock, log)
  const refreshes = createRefreshes(deps, checks.moved)
  const jitters = new LRUCache<string, { version: number; share: number }>({ max: 10_000 })

  /**
   * With jitter, so that tokens that were issued together are not renewed together; drawn once a token, or one that is asked for
   * often would always be renewed at the earliest. Never, for a token without an end.
   */
  const dueAt = (stored: StoredCredential): number => {
    if (stored.expiresAt === null) return Number.POSITIVE_INFINITY
    const id = idOf(stored)
    let drawn = jitters.get(id)
    if (drawn?.version !== stored.version) {
      drawn = { version: stored.version, share: 1 - random() * jitterShare }
      jitters.set(id, drawn)
    }
    const life = stored.expiresAt - stored.refreshedAt
    return stored.expiresAt - Math.max(marginMs, Math.min(longestAheadMs, life * aheadShare) * drawn.share)
  }

  const get = async (ask: UserTokenAsk): Promise<UserToken | OwnerNeeded> => {
    let stored = vault.find(ask.key)
    if (!stored) return { needs: 'connect' }
    if (stored.state === 'broken') return reconnect(stored)
    if (ask.scope !== undefined && !covers(stored.scopes, ask.scope)) {
      // Asked for already and not granted: the same question again would get the same answer.
      if (covers(stored.requestedScopes, ask.scope)) throw new Refused('insufficient_scope')
      return { needs: 'scope', scope: unionOf(stored.scopes, ask.scope) ?? '' }
    }
    let tokens = vault.open(ask.key)
    const rejected =
      (ask.rejected !== undefined && fits(ask.rejected, tokens.accessToken)) ||
      (await checks.revoked(ask.key, ask.grant, tokens))
    const due = dueAt(stored) <= clock.now()
    const renewable = tokens.refreshToken !== null || over(stored)
    if (!refreshes.waiting(ask.key) && (rejected || (due && renewable))) {
      stored = await refreshes.renew(stored, tokens, ask.grant, rejected)
      if (!stored) return { needs: 'connect' }
      if (stored.state === 'broken') return reconnect(stored)
      tokens = vault.open(ask.key)
    }
    if (over(stored) || (ask.rejected !== undefined && fits(ask.rejected, tokens.accessToken))) {
      throw new Fault('credential.unavailable', {
        detail: `${ask.key.serverId}: ${stored.lastError ?? 'no fresh token'}`,
      })
    }
    vault.used(stored)
    return { accessToken: tokens.accessToken, expiresAt: stored.expiresAt }
  }

  const renewAhead: UserTokens['renewAhead'] = async (ask) => {
    try {
      const stored = vault.find(ask.key)
      if (stored?.state !== 'connected' || stored.expiresAt === null) return
      const tokens = vault.open(ask.key)
      if (refreshes.waiting(ask.key) || tokens.refreshToken === null) return
      if (dueAt(stored) > clock.now()) return
      await refreshes.renew(stored, tokens, ask.grant, false)
    } catch (error) {
      log.error({ ...about(ask.key), err: error }, 'renewing ahead failed')
    }
  }

  const over = (stored: StoredCredential): boolean =>
    stored.expiresAt !== null && stored.expiresAt - clock.now() < marginMs

  return { get, renewAhead }
}

const reconnect = ({ lastError }: StoredCredential): OwnerNeeded => ({
  needs: 'reconnect',
  error: lastError ?? 'unknown',
})

/** Whether a digest is of this token or of the header that carried it. */
function fits(digest: string, token: string): boolean {
  return [token, `Bearer ${token}`].some(
    (value) => createHash('sha256').update(value).digest('base64url') === digest,
  )
}
