import { hash, randomUUID } from 'node:crypto'
import { importJWK, type JWK, SignJWT } from 'jose'
import type { Clock } from '../../../shared/clock.ts'
import { type Claims, resolve, resolveOne } from '../../../shared/dynamic-claims.ts'
import { Fault } from '../../../shared/faults.ts'
import { Refused } from './issued.ts'

export interface OwnTokenSpec {
  readonly subject: string
  readonly subjectType: 'literal' | 'dynamic'
  readonly audience: string
  readonly algorithmType: 'RS256' | 'ES256'
  /** What a subject has to look like besides. */
  readonly fits?: ((subject: string) => boolean) | undefined
  /** Seconds. */
  readonly lifetime: number
  readonly customClaims?: readonly {
    readonly key: string
    readonly value: string
    readonly valueType: 'literal' | 'dynamic'
  }[]
}

export interface OwnToken {
  readonly token: string
  /** Milliseconds since the epoch. */
  readonly expiresAt: number
}

export interface OwnTokens {
  /**
   * A JWT of ours about the person, or about the gateway where nothing in it is dynamic. Verified by the keys that our
   * issuer publishes. Throws Refused where an expression resolves to no value, or the subject to other than one or one that does not fit.
   */
  make(spec: OwnTokenSpec, claims: Claims): Promise<OwnToken>
}

type Content = Pick<OwnTokenSpec, 'subject' | 'subjectType' | 'customClaims'>

/** What a token says of somebody; undefined where an expression resolves to nothing. */
function contentOf({ subject, subjectType, customClaims = [] }: Content, claims: Claims) {
  return {
    sub: subjectType === 'literal' ? subject : resolveOne(subject, claims),
    custom: customClaims.map(
      ({ key, value, valueType }) =>
        [key, valueType === 'literal' ? [value] : resolve(value, claims)] as const,
    ),
  }
}

/** Whether anything in a token is about who asks. */
export const isPersonal = ({ subjectType, customClaims = [] }: Omit<Content, 'subject'>): boolean =>
  subjectType === 'dynamic' || customClaims.some(({ valueType }) => valueType === 'dynamic')

/**
 * Names whose a token is: everyone's where nothing in it is about a person. Another issuer's person of the same subject is
 * another one, and so is who has other values now; the digest bounds what long claims take in memory.
 */
export function whomOf(spec: Content, { issuer, subject, claims }: About): string {
  if (!isPersonal(spec)) return ''
  const { sub = null, custom } = contentOf(spec, claims)
  return hash('sha256', JSON.stringify([issuer, subject, sub, custom]), 'base64url')
}
interface About {
  readonly issuer: string
  readonly subject: string
  readonly claims: Claims
}

export interface OwnTokensDeps {
  readonly issuer: () => string
  /** Newest first within an algorithm. */
  readonly keys: () => readonly JWK[]
  readonly clock: Clock
}

/**
 * Tokens that other services take as proof (OpenID Connect Core §2, workload identity federation). `typ` is JWT: our
 * access tokens are `at+jwt` (RFC 9068) and gateways demand that, so that none of these opens a gateway.
 */
export function createOwnTokens({ issuer, keys, clock }: OwnTokensDeps): OwnTokens {
  const imported = new Map<string, ReturnType<typeof importJWK>>()
  const keyOf = async (algorithm: string) => {
    const jwk = keys().find(({ alg }) => alg === algorithm)
    if (!jwk?.kid) throw new Fault('internal', { detail: `there is no ${algorithm} signing key` })
    const known = imported.get(jwk.kid) ?? importJWK(jwk, algorithm)
    if (imported.size > 16) imported.clear()
    imported.set(jwk.kid, known)
    return { kid: jwk.kid, key: await known }
  }

  return {
    make: async (spec, claims) => {
      const { audience, algorithmType, lifetime } = spec
      const { sub, custom: resolved } = contentOf(spec, claims)
      if (sub === undefined) throw new Refused('subject_unresolved')
      if (spec.fits?.(sub) === false) throw new Refused('subject_invalid')
      const custom = resolved.map(([key, values]) => {
        if (!values) throw new Refused('claim_unresolved')
        return [key, values.length === 1 ? values[0] : values] as const
      })
      const { kid, key } = await keyOf(algorithmType)
      const now = Math.floor(clock.now() / 1000)
      const token = await new SignJWT(Object.fromEntries(custom))
        .setProtectedHeader({ alg: algorithmType, kid, typ: 'JWT' })
        .setIssuer(issuer())
        .setSubject(sub)
        .setAudience(audience)
        .setIssuedAt(now)
        .setNotBefore(now)
        .setExpirationTime(now + lifetime)
        .setJti(randomUUID())
        .sign(key)
      return { token, expiresAt: (now + lifetime) * 1000 }
    },
  }
}
