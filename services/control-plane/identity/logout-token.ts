import { createRemoteJWKSet, customFetch, type JWTVerifyGetKey, jwtVerify } from 'jose'
import { z } from 'zod'
import type { GuardedFetch } from './guarded-fetch.ts'
import { SignInRefused } from './types.ts'

const event = 'http://schemas.openid.net/event/backchannel-logout'
const algorithms = ['RS256', 'PS256', 'ES256', 'EdDSA', 'Ed25519']
const maxLifeSecs = 3600
const skewSecs = 60

const shape = z.object({
  sub: z.string().min(1).max(255),
  jti: z.string().min(1).max(1000),
  iat: z.number(),
  exp: z.number(),
  events: z.object({ [event]: z.record(z.string(), z.unknown()) }),
  nonce: z.undefined('is there, which makes it an ID token').optional(),
})

export interface LogoutToken {
  /** The provider's own name for the person. */
  readonly sub: string
  readonly jti: string
  /** Seconds since the epoch. */
  readonly exp: number
}

export interface LogoutTokenDeps {
  readonly issuer: string
  readonly clientId: string
  readonly keys: JWTVerifyGetKey
  readonly now: number
}

/**
 * A provider's keys for logout tokens. Anybody can bring a token: whatever it names, the provider is asked twice a minute at
 * most.
 */
export function logoutKeys(jwksUri: string, fetch: GuardedFetch): JWTVerifyGetKey {
  return createRemoteJWKSet(new URL(jwksUri), {
    timeoutDuration: 5_000,
    cooldownDuration: 30_000,
    [customFetch]: (address, options) => fetch(String(address), { signal: options.signal }),
  })
}

/**
 * A logout token (OpenID Connect Back-Channel Logout 1.0 §2.6). One that names a session and no person (`sid` without
 * `sub`) is refused: sessions here are people's. Throws SignInRefused.
 */
export async function verifyLogoutToken(token: string, deps: LogoutTokenDeps): Promise<LogoutToken> {
  const { issuer, clientId, keys, now } = deps
  try {
    const { payload, protectedHeader } = await jwtVerify(token, keys, {
      issuer,
      audience: clientId,
      algorithms,
      clockTolerance: skewSecs,
      currentDate: new Date(now),
    })
    const typ = protectedHeader.typ?.toLowerCase()
    if (typ !== undefined && typ !== 'jwt' && typ !== 'logout+jwt') throw new Error(`its typ is ${typ}`)
    const { sub, jti, iat, exp } = shape.parse(payload)
    if (exp - iat > maxLifeSecs || iat > now / 1000 + skewSecs) throw new Error('it lives too long')
    return { sub, jti, exp }
  } catch (error) {
    const detail =
      error instanceof z.ZodError
        ? error.issues.map(({ path, message }) => `${path.join('.')}: ${message}`).join('; ')
        : error instanceof Error
          ? error.message
          : String(error)
    throw new SignInRefused('The logout token does not verify.', detail, {
      cause: error,
      reason: /signature|key/i.test(detail) ? 'InvalidSignature' : 'ConditionFailed',
    })
  }
}
