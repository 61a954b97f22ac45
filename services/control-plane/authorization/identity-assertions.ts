import { createRemoteJWKSet, customFetch, type JWTPayload, type JWTVerifyGetKey, jwtVerify } from 'jose'
import { z } from 'zod'
import type { Clock } from '../../../shared/clock.ts'
import type { Config, OidcConfig } from '../config/schema.ts'
import type { TrustReason } from '../events/refusals.ts'
import { createGuardedFetch, type GuardedFetch } from '../identity/guarded-fetch.ts'
import { mapClaims, saysGroups } from '../identity/mapping.ts'
import type { Identity } from '../identity/types.ts'
import type { DatabaseSync } from '../store/database.ts'
import { digest } from '../store/digest.ts'
import { canonicalResource } from './resource.ts'
import { resourceScope } from './settings.ts'

/** Why an assertion was not taken. `message` may go to the client, `detail` to the log. */
export class AssertionRefused extends Error {
  readonly detail: string
  readonly reason: TrustReason
  constructor(message: string, detail: string, reason: TrustReason = 'ConditionFailed') {
    super(message)
    this.detail = detail
    this.reason = reason
  }
}

export interface Asserted {
  readonly identity: Identity
  /** Whether it says what groups the person is in; most do not. */
  readonly saysGroups: boolean
  readonly idp: OidcConfig
  /** What the assertion allows of the scopes that there are. */
  readonly scopes: readonly string[]
  readonly jti: string
}

export interface IdentityAssertions {
  /**
   * Checks an identity assertion (ID-JAG: draft-ietf-oauth-identity-assertion-authz-grant §4.4; MCP enterprise-managed
   * authorization) that the authenticated client `clientId` brought. Each is taken once. Throws AssertionRefused.
   */
  verify(assertion: string, clientId: string): Promise<Asserted>
  sweep(): void
  close(): Promise<void>
}

export interface IdentityAssertionsDeps {
  readonly db: DatabaseSync
  readonly clock: Clock
  readonly config: Config
  readonly issuer: string
  readonly resource: string
  readonly resourceScopes: readonly string[]
}

export const assertionType = 'oauth-id-jag+jwt'
const maxAssertionBytes = 16 * 1024
/** An assertion is made for one exchange: one that lives longer than this is not taken. */
const maxLifeSecs = 3600
const skewSecs = 10
const algorithms = ['RS256', 'PS256', 'ES256', 'EdDSA', 'Ed25519']
const rediscoverMs = 10 * 60_000

const metadata = z.object({ issuer: z.string(), jwks_uri: z.url() })
const claimsShape = z.object({
  iss: z.string().min(1),
  sub: z.string().min(1).max(255),
  jti: z.string().min(1).max(1000),
  client_id: z.string().min(1),
  exp: z.number(),
  iat: z.number(),
  resource: z.union([z.string(), z.array(z.string()).length(1)]),
  scope: z.string().max(2000).optional(),
})

interface TrustedProvider {
  readonly config: OidcConfig
  readonly fetch: GuardedFetch
  keys: { readonly at: number; readonly get: Promise<JWTVerifyGetKey> } | undefined
}

export function createIdentityAssertions(deps: IdentityAssertionsDeps): IdentityAssertions {
  const { db, clock, issuer, resource } = deps
  const providers = new Map<string, TrustedProvider>()
  for (const config of deps.config.identityProviders) {
    if (config.type !== 'oidc' || !config.identityAssertions) continue
    providers.set(config.issuer, {
      config,
      fetch: createGuardedFetch(config.allowedNetworks),
      keys: undefined,
    })
  }
  const use = db.prepare('INSERT OR IGNORE INTO used_assertion (digest, expires_at) VALUES (?, ?)')
  const expire = db.prepare('DELETE FROM used_assertion WHERE expires_at <= ?')

  const keysOf = (provider: TrustedProvider): Promise<JWTVerifyGetKey> => {
    if (provider.keys && clock.now() - provider.keys.at < rediscoverMs) return provider.keys.get
    const get = discover(provider)
    const entry = { at: clock.now(), get }
    provider.keys = entry
    get.catch(() => {
      if (provider.keys === entry) provider.keys = undefined
    })
    return get
  }

  const verified = async (assertion: string, provider: TrustedProvider): Promise<JWTPayload> => {
    const keys = await keysOf(provider).catch((error: unknown) => {
      throw new AssertionRefused(
        'the keys of the identity provider can not be fetched right now',
        reason(error),
        'NoDataFound',
      )
    })
    try {
      const { payload } = await jwtVerify(assertion, keys, {
        typ: assertionType,
        issuer: provider.config.issuer,
        audience: issuer,
        algorithms,
        clockTolerance: skewSecs,
        currentDate: new Date(clock.now()),
        requiredClaims: ['iss', 'sub', 'aud', 'jti', 'exp', 'iat', 'client_id', 'resource'],
      })
      return payload
    } catch (error) {
      throw new AssertionRefused(
        'the assertion does not verify',
        reason(error),
        /signature|key/i.test(reason(error)) ? 'InvalidSignature' : 'ConditionFailed',
      )
    }
  }

  return {
    verify: async (assertion, clientId) => {
      const provider = providers.get(claimedIssuer(assertion) ?? '')
      if (!provider)
        throw new AssertionRefused(
          'the assertion is of no identity provider that is trusted here',
          'iss',
          'MatchRuleFailed',
        )
      const payload = await verified(assertion, provider)
      const parsed = claimsShape.safeParse(payload)
      if (!parsed.success)
        throw new AssertionRefused(
          'the assertion lacks claims',
          parsed.error.issues[0]!.message,
          'NoDataFound',
        )
      const { data: claims } = parsed
      // Several audiences would be several servers that could each replay it at the others.
      if (Array.isArray(payload.aud) && payload.aud.length !== 1) {
        throw new AssertionRefused('the assertion is for several audiences', 'aud')
      }
      if (claims.client_id !== clientId) {
        throw new AssertionRefused(
          'the assertion was made for another client',
          `client_id ${claims.client_id}`,
        )
      }
      const wanted = Array.isArray(claims.resource) ? claims.resource[0]! : claims.resource
      if (canonicalResource(wanted, resource) !== resource) {
        throw new AssertionRefused('the assertion is for another resource', `resource ${wanted}`)
      }
      const now = clock.now() / 1000
      if (claims.exp - claims.iat > maxLifeSecs || claims.iat > now + skewSecs) {
        throw new AssertionRefused('the assertion lives too long or is of the future', 'exp, iat')
      }
      const scopes = (claims.scope ?? resourceScope)
        .split(' ')
        .filter((scope) => deps.resourceScopes.includes(scope))
      if (scopes.length === 0)
        throw new AssertionRefused('the assertion allows no scope of this resource', 'scope')
      let identity: Identity
      try {
        identity = mapClaims(provider.config, payload)
      } catch (error) {
        throw new AssertionRefused('the assertion names nobody', reason(error), 'NoDataFound')
      }
      // Last: an assertion that was refused for another reason is not spent.
      const until = (claims.exp + skewSecs) * 1000 + 1000
      if (use.run(digest(JSON.stringify(['id-jag', claims.iss, claims.jti])), until).changes === 0) {
        throw new AssertionRefused('the assertion was used before', 'jti')
      }
      const { config } = provider
      return { identity, saysGroups: saysGroups(config, payload), idp: config, scopes, jti: claims.jti }
    },
    sweep: () => void expire.run(clock.now()),
    close: async () => {
      for (const { fetch } of providers.values()) await fetch.close()
    },
  }
}

/** The keys that an issuer's own metadata names, fetched through its guard (OpenID Connect Discovery §4, RFC 8414 §3). */
async function discover({ config, fetch }: TrustedProvider): Promise<JWTVerifyGetKey> {
  const base = config.issuer.replace(/\/$/, '')
  const response = await fetch(`${base}/.well-known/openid-configuration`, {
    headers: { accept: 'application/json' },
  })
  if (response.status !== 200) throw new Error(`discovery answered ${response.status}`)
  const { issuer, jwks_uri } = metadata.parse(await response.json())
  if (issuer !== config.issuer) throw new Error(`discovery names the issuer ${issuer}`)
  const url = new URL(jwks_uri)
  if (url.protocol !== 'https:' && !config.issuer.startsWith('http:'))
    throw new Error('jwks_uri is not https')
  return createRemoteJWKSet(url, {
    timeoutDuration: 5_000,
    cooldownDuration: 30_000,
    cacheMaxAge: rediscoverMs,
    [customFetch]: (address, options) => fetch(String(address), { signal: options.signal }),
  })
}

/** `iss` as the unverified assertion claims it; only chooses whose keys must verify it. */
function claimedIssuer(assertion: string): string | undefined {
  if (assertion.length > maxAssertionBytes) return undefined
  try {
    const [, payload = ''] = assertion.split('.')
    const { iss } = JSON.parse(Buffer.from(payload, 'base64url').toString()) as { iss?: unknown }
    return typeof iss === 'string' ? iss : undefined
  } catch {
    return undefined
  }
}

function reason(error: unknown): string {
  return error instanceof Error ? error.message : String(error)
}
