import * as client from 'openid-client'
import type { Clock } from '../../../shared/clock.ts'
import type { OidcConfig } from '../config/schema.ts'
import { keepClaims } from './claims.ts'
import { normalizeEmail } from './directory.ts'
import { createGuardedFetch, type GuardedFetch } from './guarded-fetch.ts'
import type { IdpTokens } from './idp-tokens.ts'
import { type Identity, SignInRefused } from './types.ts'

/** What must come back with the browser; sealed at rest while it is away. */
export interface PendingCheck {
  readonly state: string
  readonly nonce: string
  readonly verifier: string
}

export interface ExternalProvider {
  readonly id: string
  /** URL to send the browser to, and what to check its return against. Throws SignInRefused where unreachable. */
  begin(redirectUri: string, loginHint?: string): Promise<{ url: URL; check: PendingCheck }>
  /** `callback` is the full URL the browser came back to. Throws SignInRefused for anything that does not verify. */
  finish(callback: URL, check: PendingCheck): Promise<SignedIn>
  /** Who we are there and where, for further requests in a person's name; absent where there are none. */
  configuration?(): Promise<client.Configuration>
  close(): Promise<void>
}

/** `tokens`: what the provider gave for later requests in the person's name, where it gives any. */
export type SignedIn = Identity & { readonly tokens?: IdpTokens | undefined }

const rediscoverMs = 10 * 60_000

/**
 * A customer's identity provider over OpenID Connect: discovery, code flow, PKCE S256, state, nonce, and every check
 * of the ID token by openid-client. Its documents and keys are fetched through the network guard.
 */
export function createExternalProvider(config: OidcConfig, clock: Clock): ExternalProvider {
  const guarded: GuardedFetch = createGuardedFetch(config.allowedNetworks)
  // Plain http is for an issuer that an operator put on an allowed (loopback, private) network.
  const insecure = config.issuer.startsWith('http:') && config.allowedNetworks.length > 0
  let known: { at: number; configuration: Promise<client.Configuration> } | undefined

  const discover = (): Promise<client.Configuration> => {
    if (known && clock.now() - known.at < rediscoverMs) return known.configuration
    const configuration = client.discovery(
      new URL(config.issuer),
      config.clientId,
      undefined,
      config.clientSecret === undefined
        ? client.None()
        : client.ClientSecretPost(config.clientSecret.reveal()),
      {
        [client.customFetch]: (url, options) => guarded(url, options as unknown as Record<string, unknown>),
        ...(insecure ? { execute: [client.allowInsecureRequests] } : {}),
        timeout: 10,
      },
    )
    const entry = { at: clock.now(), configuration }
    known = entry
    configuration.catch(() => {
      if (known === entry) known = undefined
    })
    return configuration
  }
  const unreachable = (error: unknown): SignInRefused =>
    new SignInRefused(
      `"${config.name}" can not be reached right now. Try again in a minute.`,
      reason(error),
      {
        cause: error,
      },
    )

  return {
    id: config.id,
    configuration: discover,
    begin: async (redirectUri, loginHint) => {
      const configuration = await discover().catch((error: unknown) => {
        throw unreachable(error)
      })
      const check = {
        state: client.randomState(),
        nonce: client.randomNonce(),
        verifier: client.randomPKCECodeVerifier(),
      }
      const scopes = new Set(['openid', ...config.scopes])
      const url = client.buildAuthorizationUrl(configuration, {
        redirect_uri: redirectUri,
        scope: [...scopes].join(' '),
        response_type: 'code',
        state: check.state,
        nonce: check.nonce,
        code_challenge: await client.calculatePKCECodeChallenge(check.verifier),
        code_challenge_method: 'S256',
        ...(loginHint ? { login_hint: loginHint } : {}),
      })
      return { url, check }
    },
    finish: async (callback, check) => {
      const configuration = await discover().catch((error: unknown) => {
        throw unreachable(error)
      })
      let claims: Record<string, unknown>
      let given: IdpTokens | undefined
      try {
        const tokens = await client.authorizationCodeGrant(configuration, callback, {
          expectedState: check.state,
          expectedNonce: check.nonce,
          pkceCodeVerifier: check.verifier,
          idTokenExpected: true,
        })
        const idToken = tokens.claims()!
        claims = { ...idToken }
        if (tokens.id_token) given = { idToken: tokens.id_token, refreshToken: tokens.refresh_token ?? null }
        const wanted = ['email', config.subjectClaim, 'groups']
        if (
          wanted.some((name) => claims[name] === undefined) &&
          configuration.serverMetadata().userinfo_endpoint
        ) {
          const info = await client.fetchUserInfo(configuration, tokens.access_token, idToken.sub)
          // What was signed wins over what was merely answered.
          claims = { ...info, ...claims }
        }
      } catch (error) {
        if (error instanceof client.AuthorizationResponseError) {
          throw new SignInRefused(
            `"${config.name}" did not sign you in.`,
            `identity provider answered ${error.error}`,
            {
              cause: error,
            },
          )
        }
        throw new SignInRefused(`The answer of "${config.name}" could not be verified.`, reason(error), {
          cause: error,
        })
      }
      return { ...mapClaims(config, claims), tokens: given }
    },
    close: () => guarded.close(),
  }
}

/** The provider's claims as ours. Throws SignInRefused where no single usable subject comes out. */
export function mapClaims(config: OidcConfig, claims: Record<string, unknown>): Identity {
  const subjectClaim = config.subjectClaim
  const text = (name: string): string | undefined => {
    const value = Object.hasOwn(claims, name) ? claims[name] : undefined
    return typeof value === 'string' && value.length > 0 && value.length <= 255 ? value : undefined
  }
  const email = text('email')
  const raw = text(subjectClaim)
  if (raw === undefined) {
    throw new SignInRefused(
      `"${config.name}" did not say who you are: the claim "${subjectClaim}" is missing.`,
      `claim ${subjectClaim} is absent, empty or not one string`,
    )
  }
  // An address that its owner never confirmed is a name anyone may claim.
  if (
    subjectClaim === 'email' &&
    claims.email_verified !== undefined &&
    claims.email_verified !== true &&
    claims.email_verified !== 'true'
  ) {
    throw new SignInRefused(
      `"${config.name}" has not verified your email address.`,
      'email_verified is not true',
    )
  }
  const name = text('name') ?? text('preferred_username')
  const groups = claims.groups
  return {
    idp: config.id,
    idpSubject: String(claims.sub),
    claims: keepClaims(claims),
    subject: subjectClaim === 'email' ? normalizeEmail(raw) : raw,
    ...(email === undefined ? {} : { email: normalizeEmail(email) }),
    ...(name === undefined ? {} : { name }),
    groups: Array.isArray(groups)
      ? groups
          .filter((group): group is string => typeof group === 'string' && group.length <= 255)
          .slice(0, 200)
      : [],
  }
}

/** For the log: the error's own words and its cause's, never a body that an IdP sent. */
function reason(error: unknown): string {
  if (!(error instanceof Error)) return String(error)
  const cause = error.cause instanceof Error ? `: ${error.cause.message}` : ''
  return `${error.message}${cause}`
}
