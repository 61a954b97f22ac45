import { createRemoteJWKSet, customFetch, type JWTVerifyGetKey } from 'jose'
import { Agent, fetch as undiciFetch } from 'undici'
import { boundedAnswer } from '../../../shared/bounded-answer.ts'
import { Fault } from '../../../shared/faults.ts'
import { localKeys } from '../../../shared/jwks.ts'
import { createNetworkGuard } from '../../../shared/networks.ts'
import type { Issuer, Snapshot } from '../../../shared/wire/snapshot.ts'

export type Fetch = (url: string, options: { signal: AbortSignal; method: 'GET' }) => Promise<Response>

export interface TrustedIssuer {
  readonly issuer: Issuer
  readonly keys: JWTVerifyGetKey
}

const maxJwksBytes = 256 * 1024

/** Is `host` one of the domains, or below one? Domains are names, compared without case. */
export function hostIsTrusted(host: string, domains: readonly string[]): boolean {
  const name = host.toLowerCase()
  return domains.some((domain) => {
    const suffix = domain.toLowerCase()
    return name === suffix || name.endsWith(`.${suffix}`)
  })
}

/** A fetch for key documents: guarded at connect time, no redirects, bounded in time (the signal) and size. `allowed`: private networks. */
export function createJwksFetch(allowed: readonly string[] = []): { fetch: Fetch; close(): Promise<void> } {
  const guard = createNetworkGuard(allowed)
  const agent = new Agent({
    connect: { lookup: guard.lookup, timeout: 3_000 },
    headersTimeout: 5_000,
    bodyTimeout: 5_000,
    maxResponseSize: maxJwksBytes,
  })
  return {
    fetch: async (url, options) => {
      const { hostname } = new URL(url)
      // A literal address never reaches `lookup`.
      if (/^[\d.]+$|^\[/.test(hostname)) guard.check(hostname.replace(/^\[|\]$/g, ''))
      const response = await undiciFetch(url, { ...options, dispatcher: agent, redirect: 'error' })
      return boundedAnswer(response as unknown as Response, url, maxJwksBytes)
    },
    close: () => agent.close(),
  }
}

/** Tells how each fetch went. */
export const countedFetch =
  (fetch: Fetch, count: (outcome: 'success' | 'error') => void): Fetch =>
  async (url, options) => {
    try {
      const response = await fetch(url, options)
      count(response.ok ? 'success' : 'error')
      return response
    } catch (error) {
      count('error')
      throw error
    }
  }

/**
 * The issuers of one snapshot by their `iss`, each with the keys that its tokens must verify under. Key sets fetched
 * from a `jwksUri` are carried over from the former index, so that a new snapshot does not refetch them.
 */
export class IssuerIndex {
  readonly #issuers = new Map<string, TrustedIssuer>()
  readonly #remote = new Map<string, JWTVerifyGetKey>()

  constructor(snapshot: Snapshot, trustedDomains: readonly string[], fetch: Fetch, former?: IssuerIndex) {
    for (const issuer of snapshot.issuers) {
      const keys = this.#keys(issuer, trustedDomains, fetch, former)
      // Ours comes first, and nobody takes its place.
      if (keys && !this.#issuers.has(issuer.issuer)) this.#issuers.set(issuer.issuer, { issuer, keys })
    }
  }

  get(iss: string): TrustedIssuer | undefined {
    return this.#issuers.get(iss)
  }

  #keys(
    issuer: Issuer,
    domains: readonly string[],
    fetch: Fetch,
    former?: IssuerIndex,
  ): JWTVerifyGetKey | undefined {
    if (issuer.jwks) return localKeys(issuer.jwks)
    if (issuer.jwksUri === undefined || !URL.canParse(issuer.jwksUri)) return undefined
    const url = new URL(issuer.jwksUri)
    if (url.protocol !== 'https:' || !hostIsTrusted(url.hostname, domains)) return undefined
    const keys =
      (former ? former.#remote.get(url.href) : undefined) ??
      createRemoteJWKSet(url, {
        timeoutDuration: 5_000,
        cooldownDuration: 30_000,
        cacheMaxAge: 600_000,
        [customFetch]: (address, options) => fetch(address, { signal: options.signal, method: 'GET' }),
      })
    this.#remote.set(url.href, keys)
    return keys
  }
}

/** Thrown for a token whose `iss` no entry of the snapshot names. */
export function unknownIssuer(iss: unknown): Fault {
  return new Fault('token.issuer_unknown', {
    detail: typeof iss === 'string' ? `iss ${iss.slice(0, 200)}` : 'no iss',
  })
}
