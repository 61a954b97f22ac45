import { createRemoteJWKSet, customFetch, type JWTPayload, type JWTVerifyGetKey, jwtVerify } from 'jose'
import { z } from 'zod'
import type { Clock } from '../../../../shared/clock.ts'
import { localKeys } from '../../../../shared/jwks.ts'
import type { TrustProviderOf } from '../../config/agent-controllers.ts'
import { createGuardedFetch } from '../../identity/guarded-fetch.ts'
import { type Attested, EvidenceError } from './types.ts'

const skewSecs = 30
const maxLifeSecs = 25 * 3600
const rediscoverMs = 10 * 60_000
const publicAlgorithms = [
  'RS256',
  'RS384',
  'RS512',
  'PS256',
  'PS384',
  'PS512',
  'ES256',
  'ES384',
  'ES512',
  'EdDSA',
]
const metadataSchema = z.object({ issuer: z.string(), jwks_uri: z.string() })
/** RFC 7518 §3.2: a key is at least as long as the hash. */
const hmacAlgorithms = [
  ['HS256', 32],
  ['HS384', 48],
  ['HS512', 64],
] as const

export interface IssuerKeys {
  readonly algorithms: readonly string[]
  current(): Promise<JWTVerifyGetKey>
  close(): Promise<void>
}

/** The keys that the configuration says, else those that the issuer publishes. */
export function createOidcKeys(provider: TrustProviderOf<'OidcIdToken'>, clock: Clock): IssuerKeys {
  const { jwks, publicKey, symmetricKey } = provider
  const fixed = (algorithms: readonly string[], get: JWTVerifyGetKey): IssuerKeys => ({
    algorithms,
    current: async () => get,
    close: async () => {},
  })
  if (symmetricKey) {
    const key = Buffer.from(symmetricKey.reveal().trim(), 'base64')
    const algorithms = hmacAlgorithms.filter(([, bytes]) => key.length >= bytes).map(([name]) => name)
    return fixed(algorithms, async () => key)
  }
  const known = jwks ?? (publicKey && { keys: [publicKey] })
  return known ? fixed(publicAlgorithms, localKeys(known)) : createIssuerKeys(provider, clock)
}

/** An issuer's keys, found by OpenID Connect Discovery 1.0 and fetched through the network guard. */
export function createIssuerKeys(
  { issuer, allowedNetworks }: { issuer: string; allowedNetworks: readonly string[] },
  clock: Clock,
): IssuerKeys {
  const fetch = createGuardedFetch(allowedNetworks)
  let known: { at: number; keys: Promise<JWTVerifyGetKey> } | undefined
  const discover = async (): Promise<JWTVerifyGetKey> => {
    const response = await fetch(`${issuer.replace(/\/$/, '')}/.well-known/openid-configuration`)
    const metadata = response.ok ? metadataSchema.safeParse(await response.json()).data : undefined
    if (metadata?.issuer !== issuer) {
      throw new EvidenceError(`${issuer} has no OpenID configuration of its own name (${response.status})`)
    }
    return createRemoteJWKSet(new URL(metadata.jwks_uri), {
      [customFetch]: (url: string, options: object) => fetch(url, { ...options }),
    })
  }
  const current = (): Promise<JWTVerifyGetKey> => {
    if (known && clock.now() - known.at < rediscoverMs) return known.keys
    const entry = { at: clock.now(), keys: discover() }
    known = entry
    entry.keys.catch(() => {
      if (known === entry) known = undefined
    })
    return entry.keys
  }
  return { algorithms: publicAlgorithms, current, close: () => fetch.close() }
}

async function verifyToken(
  token: string,
  issuer: string,
  audience: string,
  keys: IssuerKeys,
  now: number,
): Promise<JWTPayload & { sub: string; exp: number }> {
  let payload: JWTPayload
  try {
    const verified = await jwtVerify(token, await keys.current(), {
      algorithms: [...keys.algorithms],
      issuer,
      audience,
      requiredClaims: ['exp', 'iat', 'sub'],
      clockTolerance: skewSecs,
      currentDate: new Date(now),
    })
    payload = verified.payload
  } catch (error) {
    if (error instanceof EvidenceError) throw error
    throw new EvidenceError(
      `the identity token does not verify: ${error instanceof Error ? error.message : error}`,
    )
  }
  const { sub, exp = 0, iat = 0 } = payload
  if (typeof sub !== 'string' || sub === '' || sub.length > 500)
    throw new EvidenceError('the token has no subject')
  if (exp - iat > maxLifeSecs) throw new EvidenceError('the identity token lives longer than 25 hours')
  if (iat > now / 1000 + skewSecs) throw new EvidenceError('the identity token was issued in the future')
  return { ...payload, sub, exp }
}

/** Google's instance identity token; its audience is the challenge, so it is made for this one registration. */
export async function verifyGcp(
  { issuer }: TrustProviderOf<'GcpIdentityToken'>,
  token: string,
  { audience, now }: { audience: string; now: number },
  keys: IssuerKeys,
): Promise<Attested> {
  const claims = await verifyToken(token, issuer, audience, keys, now)
  const google = (claims.google ?? {}) as { compute_engine?: Record<string, unknown> }
  const engine = google.compute_engine ?? {}
  const texts = (value: unknown): string[] => (typeof value === 'string' && value !== '' ? [value] : [])
  const [instance] = texts(engine.instance_id)
  return {
    subject: instance === undefined ? claims.sub : `${String(engine.project_id)}/${instance}`,
    attributes: {
      Email: claims.email_verified === true ? texts(claims.email) : [],
      GcpSubject: [claims.sub],
      GcpProjectId: texts(engine.project_id),
      GcpInstanceId: texts(engine.instance_id),
      GcpZone: texts(engine.zone),
    },
  }
}

/**
 * A token that something else put on the machine. We can not have it made for our challenge, so the first key that
 * shows it has it, by `jti` or, without one, by its content: a signature may be written in more than one way.
 */
export async function verifyOidc(
  { issuer, audience }: TrustProviderOf<'OidcIdToken'>,
  token: string,
  now: number,
  keys: IssuerKeys,
): Promise<Attested> {
  const claims = await verifyToken(token, issuer, audience, keys, now)
  const texts = (value: unknown): string[] =>
    [value]
      .flat()
      .flatMap((item) => (['string', 'number', 'boolean'].includes(typeof item) ? [String(item)] : []))
  const custom = Object.entries(claims).map(([name, value]) => [`OidcCustom:${name}`, texts(value)] as const)
  return {
    subject: claims.sub,
    attributes: {
      ...Object.fromEntries(custom),
      OidcIssuer: [issuer],
      OidcSubject: [claims.sub],
      OidcAudience: texts(claims.aud),
    },
    pin: {
      value: JSON.stringify(['oidc', issuer, claims.jti ?? claims]),
      until: (claims.exp + skewSecs) * 1000 + 1000,
    },
  }
}
