import type { Principal } from './policy.ts'
import type { Snapshot } from './wire/snapshot.ts'

export type Revocation = Snapshot['revocations'][number]
export type RevocationMatch = Omit<Revocation, 'at'>

export interface TokenFacts {
  readonly subject: string
  readonly clientId: string
  readonly jti: string | undefined
  /** Claim `grant`: the authorization that the token came of. */
  readonly grant: string | undefined
  /** `iat`, seconds since the epoch. */
  readonly issuedAt: number
}

/** What revocations look at, of a token that was verified. */
export function tokenFacts({ subject, clientId, claims }: Principal): TokenFacts {
  const text = (value: unknown): string | undefined => (typeof value === 'string' ? value : undefined)
  const issuedAt = typeof claims.iat === 'number' ? claims.iat : 0
  return { subject, clientId, jti: text(claims.jti), grant: text(claims.grant), issuedAt }
}

/**
 * The revocations of one snapshot laid out for look-up, so that a check costs a few map look-ups however many there
 * are. One without any field names every token of its time.
 */
export class RevocationIndex {
  readonly #byJti = new Map<string, Revocation[]>()
  readonly #byGrant = new Map<string, Revocation[]>()
  readonly #bySubject = new Map<string, Revocation[]>()
  readonly #byClient = new Map<string, Revocation[]>()
  #everyone = -1

  readonly #blocked: ReadonlySet<string>

  /** `blocked`: tokens that the kill switch names, by `jti`, whenever they were issued. */
  constructor(revocations: readonly Revocation[], blocked: ReadonlySet<string> = new Set()) {
    this.#blocked = blocked
    for (const revocation of revocations) {
      if (revocation.jti !== undefined) push(this.#byJti, revocation.jti, revocation)
      else if (revocation.grant !== undefined) push(this.#byGrant, revocation.grant, revocation)
      else if (revocation.subject !== undefined) push(this.#bySubject, revocation.subject, revocation)
      else if (revocation.clientId !== undefined) push(this.#byClient, revocation.clientId, revocation)
      else this.#everyone = Math.max(this.#everyone, revocation.at)
    }
  }

  revoked(token: TokenFacts): boolean {
    if (token.issuedAt <= this.#everyone) return true
    if (token.jti !== undefined && this.#blocked.has(token.jti)) return true
    const hits = (list: Revocation[] | undefined): boolean => list?.some((item) => acts(item, token)) ?? false
    return (
      hits(this.#bySubject.get(token.subject)) ||
      hits(this.#byClient.get(token.clientId)) ||
      (token.grant !== undefined && hits(this.#byGrant.get(token.grant))) ||
      (token.jti !== undefined && hits(this.#byJti.get(token.jti)))
    )
  }
}

function acts(revocation: Revocation, token: TokenFacts): boolean {
  return (
    token.issuedAt <= revocation.at &&
    (revocation.subject === undefined || revocation.subject === token.subject) &&
    (revocation.clientId === undefined || revocation.clientId === token.clientId) &&
    (revocation.grant === undefined || revocation.grant === token.grant) &&
    (revocation.jti === undefined || revocation.jti === token.jti)
  )
}

function push<K, V>(map: Map<K, V[]>, key: K, value: V): void {
  const list = map.get(key)
  if (list) list.push(value)
  else map.set(key, [value])
}
