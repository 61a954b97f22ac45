import * as openid from 'openid-client'
import { Fault } from '../../../shared/faults.ts'
import type { AuthorizationServer, Discovered } from './discovery.ts'
import { withoutChallenge, withoutIdToken } from './oauth-answers.ts'
import type { OAuthClient } from './oauth-clients.ts'
import type { Outbound } from './outbound.ts'

export interface Tokens {
  readonly accessToken: string
  readonly refreshToken: string | null
  /** Seconds from now; null where the server did not say. */
  readonly expiresIn: number | null
  /** As granted; null: as asked for. */
  readonly scope: string | null
  readonly account: string | null
}

/** The grant, the client or the person's consent is gone: no later try of the same can succeed. */
export class GrantEnded extends Error {
  /** OAuth error code, safe to show. */
  readonly code: string

  constructor(code: string) {
    super(`the authorization server answered ${code}`)
    this.name = 'GrantEnded'
    this.code = code
  }
}

const timeoutSecs = 15

/** The requests of one client at one authorization server, all of them through `outbound`. */
function configuration(
  server: openid.ServerMetadata,
  client: OAuthClient,
  outbound: Outbound,
  idTokens: 'checked' | 'ignored' = 'checked',
): openid.Configuration {
  const auth =
    client.authMethod === 'none'
      ? openid.None()
      : client.authMethod === 'client_secret_post'
        ? openid.ClientSecretPost(client.clientSecret ?? '')
        : secretBasic(client)
  const config = new openid.Configuration(server, client.clientId, {}, auth)
  config[openid.customFetch] = async (url, options) => {
    const answer = withoutChallenge(await outbound.fetch(url, options as unknown as Record<string, unknown>))
    return idTokens === 'ignored' ? withoutIdToken(answer) : answer
  }
  config.timeout = timeoutSecs
  // `outbound` decides which plain http there may be; the library would refuse all of it.
  openid.allowInsecureRequests(config)
  return config
}

/**
 * RFC 6749 §2.3.1: id and secret form-urlencoded, as the form serializer of WHATWG URL does it. The library encodes "-",
 * "_" and "." too, and servers that decode nothing then know neither.
 */
const secretBasic =
  ({ clientId, clientSecret }: OAuthClient): openid.ClientAuth =>
  (_server, _client, _body, headers) => {
    const pair = `${formEncoded(clientId)}:${formEncoded(clientSecret ?? '')}`
    headers.set('authorization', `Basic ${Buffer.from(pair).toString('base64')}`)
  }

export const formEncoded = (text: string): string => new URLSearchParams({ '': text }).toString().slice(1)

export interface AuthorizationStart {
  readonly url: URL
  readonly state: string
  /** Null without PKCE. */
  readonly verifier: string | null
}

export interface AuthorizationOptions {
  readonly pkce: boolean
  /** Of the configuration; what the flow itself writes can not be among them. */
  readonly parameters: Readonly<Record<string, string>>
}

/** Where to send the browser: code flow, PKCE S256, `resource` (RFC 8707). */
export async function startAuthorization(
  found: Pick<Discovered, 'server' | 'scope'> & { readonly resource: string | undefined },
  client: OAuthClient,
  redirectUri: string,
  outbound: Outbound,
  options: AuthorizationOptions,
): Promise<AuthorizationStart> {
  const state = openid.randomState()
  const verifier = options.pkce ? openid.randomPKCECodeVerifier() : null
  const url = openid.buildAuthorizationUrl(configuration(found.server, client, outbound), {
    ...options.parameters,
    redirect_uri: redirectUri,
    response_type: 'code',
    state,
    ...(verifier === null
      ? {}
      : {
          code_challenge: await openid.calculatePKCECodeChallenge(verifier),
          code_challenge_method: 'S256',
        }),
    ...(found.resource === undefined ? {} : { resource: found.resource }),
    ...(found.scope === undefined ? {} : { scope: found.scope }),
    // OpenID Connect Core §11: a refresh token for offline use takes a consent that is shown.
    ...(found.scope?.split(' ').includes('offline_access') ? { prompt: 'consent' } : {}),
  })
  return { url, state, verifier }
}

/**
 * Exchanges the code. `callback` is our redirect URI with the query it was called with; state and `iss` (RFC 9207) are
 * checked before anything else of it is looked at. Throws GrantEnded for a refusal, Fault otherwise.
 */
export function exchangeCode(
  server: AuthorizationServer,
  client: OAuthClient,
  callback: URL,
  check: CodeCheck,
  outbound: Outbound,
): Promise<Tokens> {
  return guarded(async () => {
    const at = new URL(callback)
    // Without metadata no issuer is known to compare with; each provider has a redirect URI of its own, which is the
    // other defence against mix-up (RFC 9700 §4.4.2.2).
    if (!check.issuerKnown) at.searchParams.delete('iss')
    const answer = await openid.authorizationCodeGrant(
      // An ID token is of the issuer that the server really has, where we have a guess: it would be refused.
      configuration(server, client, outbound, check.issuerKnown ? 'checked' : 'ignored'),
      at,
      {
        expectedState: check.state,
        ...(check.verifier === null ? {} : { pkceCodeVerifier: check.verifier }),
      },
      resourceOf(check.resource),
    )
    return asTokens(answer, account(answer))
  })
}

export interface CodeCheck {
  readonly state: string
  readonly verifier: string | null
  readonly resource: string | undefined
  readonly issuerKnown: boolean
}

const resourceOf = (resource: string | undefined): Record<string, string> =>
  resource === undefined ? {} : { resource }

/** Throws GrantEnded where the refresh token is no longer good, Fault where a later try may succeed. */
export function refresh(
  server: AuthorizationServer,
  client: OAuthClient,
  refreshToken: string,
  resource: string | undefined,
  outbound: Outbound,
): Promise<Tokens> {
  return guarded(async () => {
    // Whose account it is was read when it was connected.
    const config = configuration(server, client, outbound, 'ignored')
    return asTokens(await openid.refreshTokenGrant(config, refreshToken, resourceOf(resource)), null)
  })
}

/** RFC 7009. False where the server has no revocation endpoint. Throws a Fault where it can not be reached. */
export async function revoke(
  server: AuthorizationServer,
  client: OAuthClient,
  token: string,
  hint: 'refresh_token' | 'access_token',
  outbound: Outbound,
): Promise<boolean> {
  if (server.revocation_endpoint === undefined) return false
  await guarded(() =>
    openid.tokenRevocation(configuration(server, client, outbound), token, { token_type_hint: hint }),
  )
  return true
}

/** RFC 7662: whether the token is active. Throws a Fault where nobody can say. */
export function introspect(
  server: AuthorizationServer,
  client: OAuthClient,
  url: string,
  token: string,
  outbound: Outbound,
): Promise<boolean> {
  return guarded(async () => {
    const config = configuration({ ...server, introspection_endpoint: url }, client, outbound)
    return (await openid.tokenIntrospection(config, token, { token_type_hint: 'access_token' })).active
  })
}

type TokenAnswer = openid.TokenEndpointResponse & openid.TokenEndpointResponseHelpers

function asTokens(answer: TokenAnswer, who: string | null): Tokens {
  const { access_token: accessToken, refresh_token: refreshToken, token_type: type } = answer
  if (type.toLowerCase() !== 'bearer') throw garbage('a token that is no bearer token')
  // It goes into a header: visible ASCII alone.
  if (!/^[\x21-\x7e]{1,16384}$/.test(accessToken)) throw garbage('an access token that fits no header')
  const expiresIn = answer.expires_in
  return {
    accessToken,
    refreshToken: refreshToken ?? null,
    expiresIn: expiresIn === undefined || !Number.isFinite(expiresIn) ? null : Math.max(0, expiresIn),
    scope: answer.scope ?? null,
    account: who,
  }
}

/** For the person's eyes alone: which of their accounts it is. Decides nothing. */
function account(answer: TokenAnswer): string | null {
  const claims = answer.claims()
  const name = claims?.email ?? claims?.preferred_username ?? claims?.name
  return typeof name === 'string' ? name.slice(0, 200) : null
}

/** OAuth errors after which asking again is useless (RFC 6749 §5.2, §4.1.2.1). */
const final = new Set(['invalid_grant', 'invalid_client', 'unauthorized_client', 'access_denied'])

async function guarded<T>(work: () => Promise<T>): Promise<T> {
  try {
    return await work()
  } catch (error) {
    throw translate(error)
  }
}

/** The library's errors may hold bodies with tokens in them: only codes and statuses are taken over. */
export function translate(error: unknown): Fault | GrantEnded {
  if (error instanceof openid.AuthorizationResponseError) return new GrantEnded(safeCode(error.error))
  if (error instanceof openid.ResponseBodyError) {
    const code = safeCode(error.error)
    if (final.has(code)) return new GrantEnded(code)
    return new Fault('upstream.rejected', { detail: `the token endpoint answered ${error.status} ${code}` })
  }
  if (error instanceof openid.WWWAuthenticateChallengeError) return new GrantEnded('invalid_client')
  for (let at: unknown = error, depth = 0; at instanceof Error && depth < 8; at = at.cause, depth += 1) {
    if (at instanceof Fault) return at
    if (at.name === 'TimeoutError') return new Fault('upstream.timeout', { detail: 'the token endpoint' })
  }
  const status = statusOf(error)
  if (status !== undefined && status >= 400) {
    return new Fault('upstream.rejected', { detail: `the token endpoint answered ${status}` })
  }
  const code = error instanceof Error && 'code' in error ? String(error.code) : 'unknown'
  return new Fault('upstream.garbage', { detail: `the authorization server's answer was refused (${code})` })
}

/** Of an answer that held no OAuth error: the library hangs it on its own error. */
function statusOf(error: unknown): number | undefined {
  for (let at: unknown = error, depth = 0; at instanceof Error && depth < 8; at = at.cause, depth += 1) {
    const { cause } = at
    if (typeof cause === 'object' && cause !== null && 'status' in cause) return Number(cause.status)
  }
  return undefined
}

export function safeCode(code: unknown): string {
  return typeof code === 'string' && /^[a-z_]{1,40}$/.test(code) ? code : 'error'
}

function garbage(detail: string): Fault {
  return new Fault('upstream.garbage', { detail: `the authorization server answered ${detail}` })
}
