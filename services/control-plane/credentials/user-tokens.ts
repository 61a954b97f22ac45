import { createHash } from 'node:crypto'
import { LRUCache } from 'lru-cache'
import type { Clock } from '../../../shared/clock.ts'
import { Fault } from '../../../shared/faults.ts'
import type { Logger } from '../../../shared/log.ts'
import { backoffMs } from '../../../shared/retry.ts'
import { covers, unionOf } from '../../../shared/www-authenticate.ts'
import type { CredentialChanges } from '../fleet/credential-changes.ts'
import type { Grant } from './grants.ts'
import { Refused } from './issued.ts'
import { GrantEnded, introspect, refresh, type Tokens } from './oauth.ts'
import {
  type CredentialKey,
  longestAheadMs,
  type StoredCredential,
  type TokenSet,
  type Vault,
} from './vault.ts'

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

export interface UserTokensDeps {
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

/** A token is renewed in the last minute of its life, or the last fifth of a short one. */
const aheadShare = 0.2
/** By so much of that time it may be later. */
const jitterShare = 0.25
/** A token with less left than this is not handed out: it would expire on its way. */
const marginMs = 2_000
/** So many tokens in a row that were refused while they were so young: the next one would be, its owner might help. */
const maxRefusals = 3
const youngMs = 5_000
/** What asking the server for its authorization server may take, while calls wait. */
const movedMs = 3_000
/** A server that says which tokens were revoked is asked about one at most this often, and waited for so long. */
const introspectEveryMs = 60_000
const introspectMs = 3_000
/** So many renewals in a row that failed are no hiccup any more: half a minute, by the backoff. */
const failingFrom = 6
const backoff = { baseMs: 1_000, capMs: 60_000, floorMs: 250 }

export function createUserTokens(deps: UserTokensDeps): UserTokens {
  const { vault, changes, clock, random, ended, failing, log } = deps
  const running = new Map<string, Promise<StoredCredential | undefined>>()
  const failures = new LRUCache<string, { count: number; notBefore: number }>({ max: 10_000 })
  const refusals = new LRUCache<string, number>({ max: 10_000 })
  const jitters = new LRUCache<string, { version: number; share: number }>({ max: 10_000 })
  const checks = new LRUCache<string, { token: string; at: number; revoked: Promise<boolean> }>({
    max: 10_000,
  })

  /**
   * With jitter, so that tokens that were issued together are not renewed together; drawn once a token, or one that is asked for
   * often would always be renewed at the earliest. Never, for a token without an end.
   */
  const dueAt = (stored: StoredCredential): number => {
    if (stored.expiresAt === null) return Number.POSITIVE_INFINITY
    const id = keyOf(stored)
    let drawn = jitters.get(id)
    if (drawn?.version !== stored.version) {
      drawn = { version: stored.version, share: 1 - random() * jitterShare }
      jitters.set(id, drawn)
    }
    const life = stored.expiresAt - stored.refreshedAt
    return stored.expiresAt - Math.max(marginMs, Math.min(longestAheadMs, life * aheadShare) * drawn.share)
  }

  const about = (stored: CredentialKey) => ({
    subject: stored.subject,
    serverId: stored.serverId,
    providerId: stored.providerId,
  })
  const breakOff = (stored: StoredCredential, reason: string): void => {
    if (!vault.markBroken(stored, reason)) return
    log.warn({ ...about(stored), reason }, 'connection needs its owner')
    ended(stored, reason)
    changes.publish(stored)
  }

  /** One refresh. What it answers is the row as it is afterwards: another's change may have come first. */
  const renew = async (
    stored: StoredCredential,
    tokens: TokenSet,
    ask: UserTokenAsk,
    rejected: boolean,
  ): Promise<StoredCredential | undefined> => {
    const id = keyOf(stored)
    if (rejected) {
      if (clock.now() - stored.refreshedAt > youngMs) refusals.delete(id)
      if ((refusals.get(id) ?? 0) >= maxRefusals) {
        breakOff(stored, 'refused_by_server')
        return vault.find(stored)
      }
      // The server moved to another authorization server: what the former one gives is of no use there.
      if (await moved(ask, tokens)) {
        breakOff(stored, 'authorization_server_changed')
        return vault.find(stored)
      }
    }
    const client = ask.grant.client(tokens.server, tokens.clientId)
    if (tokens.refreshToken === null || client === undefined) {
      breakOff(stored, tokens.refreshToken === null ? 'no_refresh_token' : 'client_changed')
      return vault.find(stored)
    }
    let fresh: Tokens
    try {
      const outbound = ask.grant.outbound(tokens.server.token_endpoint)
      fresh = await refresh(tokens.server, client, tokens.refreshToken, tokens.resource, outbound)
    } catch (error) {
      // A client of the configuration can be corrected there, and then the refresh token is good again.
      if (error instanceof GrantEnded && (error.code === 'invalid_grant' || client.dynamic)) {
        if (error.code !== 'invalid_grant') ask.grant.forgetClient(tokens.server)
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

  /**
   * At most one at a time for one person and server, however many ask, and one for each token: who read the row before a
   * former one was over holds a refresh token that was used, and servers end the grant of who uses it twice.
   */
  const renewOnce = (stored: StoredCredential, tokens: TokenSet, ask: UserTokenAsk, rejected: boolean) => {
    const id = keyOf(stored)
    const under = running.get(id)
    if (under) return under
    const now = vault.find(stored)
    if (now?.version !== stored.version) return Promise.resolve(now)
    const turn = renew(stored, tokens, ask, rejected).finally(() => running.delete(id))
    running.set(id, turn)
    return turn
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
    const id = keyOf(ask.key)
    let tokens = vault.open(ask.key)
    const rejected =
      (ask.rejected !== undefined && fits(ask.rejected, tokens.accessToken)) || (await revoked(ask, tokens))
    const due = dueAt(stored) <= clock.now()
    const renewable = tokens.refreshToken !== null || over(stored)
    const waiting = clock.now() < (failures.get(id)?.notBefore ?? 0)
    if (!waiting && (rejected || (due && renewable))) {
      stored = await renewOnce(stored, tokens, ask, rejected)
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

  const moved = async ({ grant }: UserTokenAsk, { server }: TokenSet): Promise<boolean> => {
    const now = await within(grant.issuerNow(), movedMs)
    return typeof now === 'string' && now !== server.issuer
  }

  /** Whether the server says that a token is over before its time (RFC 7662). No answer is no. */
  const revoked = ({ key, grant }: UserTokenAsk, tokens: TokenSet): Promise<boolean> => {
    const url = grant.introspectionUrl
    const client = url === undefined ? undefined : grant.client(tokens.server, tokens.clientId)
    if (url === undefined || !client) return Promise.resolve(false)
    const id = keyOf(key)
    const known = checks.get(id)
    const token = createHash('sha256').update(tokens.accessToken).digest('base64url')
    if (known?.token === token && clock.now() - known.at < introspectEveryMs) return known.revoked
    const asked = introspect(tokens.server, client, url, tokens.accessToken, grant.outbound(url)).then(
      (active) => {
        if (!active) log.info(about(key), 'token is revoked at the server')
        return !active
      },
      (error: unknown) => {
        log.warn({ ...about(key), reason: Fault.from(error).detail }, 'introspection failed')
        return false
      },
    )
    const answer = within(asked, introspectMs).then((found) => found === true)
    checks.set(id, { token, at: clock.now(), revoked: answer })
    return answer
  }

  const renewAhead: UserTokens['renewAhead'] = async (ask) => {
    try {
      const stored = vault.find(ask.key)
      if (stored?.state !== 'connected' || stored.expiresAt === null) return
      const tokens = vault.open(ask.key)
      const waiting = clock.now() < (failures.get(keyOf(ask.key))?.notBefore ?? 0)
      if (waiting || tokens.refreshToken === null) return
      if (dueAt(stored) > clock.now()) return
      await renewOnce(stored, tokens, ask, false)
    } catch (error) {
      log.error({ ...about(ask.key), err: error }, 'renewing ahead failed')
    }
  }

  const over = (stored: StoredCredential): boolean =>
    stored.expiresAt !== null && stored.expiresAt - clock.now() < marginMs

  return { get, renewAhead }
}

async function within<T>(work: Promise<T>, ms: number): Promise<T | undefined> {
  let timer: NodeJS.Timeout | undefined
  const limit = new Promise<undefined>((resolve) => {
    timer = setTimeout(resolve, ms, undefined)
  })
  try {
    return await Promise.race([work, limit])
  } finally {
    clearTimeout(timer)
  }
}

function keyOf(key: CredentialKey): string {
  return JSON.stringify([key.issuer, key.subject, key.serverId, key.providerId])
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
