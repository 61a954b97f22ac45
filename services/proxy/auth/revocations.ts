import type { Snapshot } from '../../../shared/wire/snapshot.ts'

type Revocation = Snapshot['revocations'][number]

export interface TokenFacts {
  readonly subject: string
  readonly clientId: string
  readonly jti: string | undefined
  /** `iat`, seconds since the epoch. */
  readonly issuedAt: number
}

/**
 * The revocations of one snapshot laid out for look-up, so that a check costs three map look-ups however many there
 * are. One without any field names every token of its time.
 */
export class RevocationIndex {
  readonly #byJti = new Map<string, Revocation[]>()
  readonly #bySubject = new Map<string, Revocation[]>()
  readonly #byClient = new Map<string, Revocation[]>()
  #everyone = -1

  constructor(revocations: readonly Revocation[]) {
    for (const revocation of revocations) {
      if (revocation.jti !== undefined) push(this.#byJti, revocation.jti, revocation)
      else if (revocation.subject !== undefined) push(this.#bySubject, revocation.subject, revocation)
      else if (revocation.clientId !== undefined) push(this.#byClient, revocation.clientId, revocation)
      else this.#everyone = Math.max(this.#everyone, revocation.at)
    }
  }

  revoked(token: TokenFacts): boolean {
    if (token.issuedAt <= this.#everyone) return true
    const hits = (list: Revocation[] | undefined): boolean => list?.some((item) => acts(item, token)) ?? false
    return (
      hits(this.#bySubject.get(token.subject)) ||
      hits(this.#byClient.get(token.clientId)) ||
      (token.jti !== undefined && hits(this.#byJti.get(token.jti)))
    )
  }
}

function acts(revocation: Revocation, token: TokenFacts): boolean {
  return (
    token.issuedAt <= revocation.at &&
    (revocation.subject === undefined || revocation.subject === token.subject) &&
    (revocation.clientId === undefined || revocation.clientId === token.clientId) &&
    (revocation.jti === undefined || revocation.jti === token.jti)
  )
}

function push<K, V>(map: Map<K, V[]>, key: K, value: V): void {
  const list = map.get(key)
  if (list) list.push(value)
  else map.set(key, [value])
}
