import { hash } from 'node:crypto'
import { decodeJwt, errors, type JWTPayload, jwtVerify } from 'jose'
import { LRUCache } from 'lru-cache'
import { identifyClient } from '../../../shared/client-match.ts'
import type { Clock } from '../../../shared/clock.ts'
import { directClaims } from '../../../shared/direct-claims.ts'
import { Fault } from '../../../shared/faults.ts'
import type { Decision, PolicyIndex, Principal } from '../../../shared/policy.ts'
import { RevocationIndex, type TokenFacts, tokenFacts } from '../../../shared/revocations.ts'
import type { Issuer } from '../../../shared/wire/snapshot.ts'
import { type Fetch, IssuerIndex, unknownIssuer } from './issuers.ts'

/** A verified token: what the cache holds and what a request carries. */
export interface Verified extends TokenFacts {
  readonly principal: Principal
  /** `exp`, ms since the epoch. */
  readonly expiresAt: number
  /** The signature is checked again after this, ms since the epoch; never past `expiresAt`. */
  readonly cachedUntil: number
  /** What it was verified against, see `TokenVerifier.trust`. */
  readonly trust: string
  /** The snapshot that the revocation check and `decision` below hold for. */
  checked: PolicyIndex | undefined
  /** decideGateway's answer on `checked`; a pure function of it and the principal, so worth keeping. */
  decision: Decision | undefined
}

export interface VerifierDeps {
  readonly clock: Clock
  readonly trustedIssuerDomains: readonly string[]
  readonly fetch: Fetch
  readonly maxCached?: number
}

const cacheMs = 60_000
/** Clock difference to the issuer, for a first look at a token; a cached one ends at its `exp` sharp. */
const leewaySecs = 5

/**
 * Verifies access tokens against the issuers of the current snapshot. Verified ones are kept by SHA-256 digest until
 * min(exp, 60 s), so that the token itself is never a key in memory; on each use the revocations of the current
 * snapshot are checked again, and a snapshot with other issuers or audiences empties the cache.
 */
export class TokenVerifier {
  readonly #deps: VerifierDeps
  readonly #cache: LRUCache<string, Verified>
  /** One verification per token at a time, however many requests of a client start at once. */
  readonly #pending = new Map<string, Promise<Verified>>()
  #index: PolicyIndex | undefined
  #issuers: IssuerIndex | undefined
  #revocations = new RevocationIndex([])
  #trustDigest = ''

  constructor(deps: VerifierDeps) {
    this.#deps = deps
    this.#cache = new LRUCache({ max: deps.maxCached ?? 10_000 })
  }

  get cached(): number {
    return this.#cache.size
  }

  /** A new snapshot is in force. */
  swap(index: PolicyIndex): void {
    const { issuers, gateway, revocations } = index.snapshot
    const digest = JSON.stringify([issuers, gateway.audiences])
    if (digest !== this.#trustDigest) {
      this.#trustDigest = digest
      this.#issuers = new IssuerIndex(
        index.snapshot,
        this.#deps.trustedIssuerDomains,
        this.#deps.fetch,
        this.#issuers,
      )
      this.#cache.clear()
      this.#pending.clear()
    }
    this.#revocations = new RevocationIndex(revocations, index.blocked.token)
    this.#index = index
  }

  /**
   * Who the bearer of `token` is. Throws a token.* Fault. Synchronous where the token is cached, so that the usual
   * request waits for nothing.
   */
  verify(token: string): Verified | Promise<Verified> {
    const digest = hash('sha256', token, 'base64url')
    const known = this.#cache.get(digest)
    if (known !== undefined) {
      if (this.#deps.clock.now() < known.cachedUntil) return this.#checked(known)
      this.#cache.delete(digest)
    }
    let pending = this.#pending.get(digest)
    if (!pending) {
      pending = this.#verify(token, digest).finally(() => this.#pending.delete(digest))
      this.#pending.set(digest, pending)
    }
    return pending.then((verified) => this.#checked(verified))
  }

  /** What tokens are verified against; another value means that a verified one may not be so any more. */
  get trust(): string {
    return this.#trustDigest
  }

  /** A token that was verified before, on the snapshot of now. Throws token.revoked. */
  recheck(verified: Verified): Verified {
    return this.#checked(verified)
  }

  /** Whether the token behind `principal` was revoked since it was verified. */
  revoked(principal: Principal): boolean {
    return this.#revocations.revoked(tokenFacts(principal))
  }

  #checked(verified: Verified): Verified {
    if (verified.checked !== this.#index) {
      if (this.#revocations.revoked(verified)) {
        throw new Fault('token.revoked', { detail: `subject ${verified.subject}` })
      }
      verified.checked = this.#index
      verified.decision = undefined
    }
    return verified
  }

  async #verify(token: string, digest: string): Promise<Verified> {
    const index = this.#index
    const issuers = this.#issuers
    const trust = this.#trustDigest
    if (!index || !issuers) throw new Fault('snapshot.none')
    const trusted = issuers.get(claimedIssuer(token))
    if (!trusted) throw unknownIssuer(claimedIssuer(token))
    const { issuer, keys } = trusted
    const ours = issuer.kind === 'authorization-server'
    const now = this.#deps.clock.now()
    let payload: JWTPayload
    try {
      const result = await jwtVerify(token, keys, {
        issuer: issuer.issuer,
        audience: [...index.snapshot.gateway.audiences],
        algorithms: [...issuer.algorithms],
        clockTolerance: leewaySecs,
        currentDate: new Date(now),
        requiredClaims: ours ? ['sub', 'exp', 'iat', 'client_id', 'jti'] : ['sub', 'exp', 'iat'],
        // RFC 9068 §4: an ID token or any other JWT of the same issuer is not an access token.
        ...(ours ? { typ: 'at+jwt' } : {}),
      })
      payload = result.payload
    } catch (error) {
      throw faultOf(error)
    }
    const verified = toVerified(payload, issuer, index, now, trust)
    // A snapshot swapped while we verified may have taken this issuer's keys away.
    if (this.#issuers === issuers && verified.cachedUntil > now) this.#cache.set(digest, verified)
    return verified
  }
}

/** `iss` as the unverified token claims it; only chooses which keys must verify it. */
function claimedIssuer(token: string): string {
  try {
    const { iss } = decodeJwt(token)
    return typeof iss === 'string' ? iss : ''
  } catch (error) {
    throw new Fault('token.malformed', { cause: error, detail: 'not a JWT' })
  }
}

function toVerified(
  claims: JWTPayload,
  issuer: Issuer,
  index: PolicyIndex,
  now: number,
  trust: string,
): Verified {
  const text = (key: string): string | undefined => {
    const value = claims[key]
    return typeof value === 'string' && value !== '' ? value : undefined
  }
  const subject = text('sub')
  if (subject === undefined) throw new Fault('token.malformed', { detail: 'sub is empty' })
  const ours = issuer.kind === 'authorization-server'
  const clientId = text('client_id') ?? text('azp') ?? ''
  const expiresAt = (claims.exp ?? 0) * 1000
  const principal: Principal = Object.freeze({
    issuer: issuer.issuer,
    subject,
    clientId,
    ...(ours ? {} : { direct: true }),
    // A client without a person behind it; a foreign issuer can not say so of one of ours.
    kind: ours && claims.subject_type === 'client' ? ('client' as const) : ('person' as const),
    // A foreign IdP vouches for its users, not for which client workload of ours is calling.
    clientWorkload: ours
      ? text('client_workload')
      : identifyClient(index.snapshot.clientWorkloads, { clientId, claims })?.id,
    identityProvider: ours ? text('idp') : issuer.id,
    claims: Object.freeze(ours ? claims : directClaims(claims)),
  })
  return {
    principal,
    ...tokenFacts(principal),
    expiresAt,
    cachedUntil: Math.min(expiresAt, now + cacheMs),
    trust,
    checked: undefined,
    decision: undefined,
  }
}

function faultOf(error: unknown): Fault {
  const detail = error instanceof Error ? error.message : String(error)
  const more = { detail, cause: error }
  if (error instanceof errors.JWTExpired) return new Fault('token.expired', more)
  if (error instanceof errors.JWTClaimValidationFailed) {
    return new Fault(error.claim === 'aud' ? 'token.audience' : 'token.malformed', more)
  }
  if (
    error instanceof errors.JWSSignatureVerificationFailed ||
    error instanceof errors.JWKSNoMatchingKey ||
    error instanceof errors.JWKSMultipleMatchingKeys
  ) {
    return new Fault('token.signature', more)
  }
  if (
    error instanceof errors.JOSEAlgNotAllowed ||
    error instanceof errors.JOSENotSupported ||
    error instanceof errors.JWTInvalid ||
    error instanceof errors.JWSInvalid ||
    error instanceof TypeError
  ) {
    // A TypeError is jose's word for a key that does not fit the algorithm; a failed fetch is one too, with a cause.
    if (error instanceof TypeError && error.cause !== undefined)
      return new Fault('token.keys_unavailable', more)
    return new Fault('token.malformed', more)
  }
  return new Fault('token.keys_unavailable', more)
}
