import { createHash } from 'node:crypto'
import { LRUCache } from 'lru-cache'
import type { Clock } from '../../../shared/clock.ts'
import { Fault } from '../../../shared/faults.ts'
import type { Logger } from '../../../shared/log.ts'
import type { Grant } from './grants.ts'
import { introspect } from './oauth.ts'
import { about, type CredentialKey, idOf, type TokenSet } from './vault.ts'

/** What is asked about a token while calls wait for it. No answer in time is no. */
export interface TokenChecks {
  /** Whether the server is another authorization server's now: what the former one gives is of no use there. */
  moved(grant: Grant, tokens: TokenSet): Promise<boolean>
  /** Whether the authorization server says that a token is over before its time (RFC 7662). */
  revoked(key: CredentialKey, grant: Grant, tokens: TokenSet): Promise<boolean>
}

/** What asking the server for its authorization server may take. */
const movedMs = 3_000
/** A server that says which tokens were revoked is asked about one at most this often, and waited for so long. */
const introspectEveryMs = 60_000
const introspectMs = 3_000

export function createTokenChecks(clock: Clock, log: Logger): TokenChecks {
  const asked = new LRUCache<string, { token: string; at: number; revoked: Promise<boolean> }>({
    max: 10_000,
  })
  return {
    moved: async (grant, { server }) => {
      const now = await within(grant.issuerNow(), movedMs)
      return typeof now === 'string' && now !== server.issuer
    },
    revoked: (key, grant, tokens) => {
      const url = grant.introspectionUrl
      const client = url === undefined ? undefined : grant.client(tokens.server, tokens.clientId)
      if (url === undefined || !client) return Promise.resolve(false)
      const id = idOf(key)
      const known = asked.get(id)
      const token = createHash('sha256').update(tokens.accessToken).digest('base64url')
      if (known?.token === token && clock.now() - known.at < introspectEveryMs) return known.revoked
      const answered = introspect(tokens.server, client, url, tokens.accessToken, grant.outbound(url)).then(
        (active) => {
          if (!active) log.info(about(key), 'token is revoked at the server')
          return !active
        },
        (error: unknown) => {
          log.warn({ ...about(key), reason: Fault.from(error).detail }, 'introspection failed')
          return false
        },
      )
      const answer = within(answered, introspectMs).then((found) => found === true)
      asked.set(id, { token, at: clock.now(), revoked: answer })
      return answer
    },
  }
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
