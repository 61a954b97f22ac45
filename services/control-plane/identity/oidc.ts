import { createPrivateKey } from 'node:crypto'
import { calculateJwkThumbprint, exportJWK, importPKCS8, type JWTVerifyGetKey } from 'jose'
import * as client from 'openid-client'
import type { Clock } from '../../../shared/clock.ts'
import { Fault } from '../../../shared/faults.ts'
import { presets } from '../config/presets.ts'
import type { OidcConfig } from '../config/schema.ts'
import { fetchGroups, groupsAreElsewhere } from './groups-overage.ts'
import { createGuardedFetch, type GuardedFetch } from './guarded-fetch.ts'
import { logoutKeys, verifyLogoutToken } from './logout-token.ts'
import { isComplete, mapClaims } from './mapping.ts'
import { type ExternalProvider, SignInRefused } from './types.ts'

const rediscoverMs = 10 * 60_000

/**
 * A customer's identity provider over OpenID Connect: discovery, code flow, PKCE S256, state, nonce, and every check
 * of the ID token, its signature included, by openid-client. Documents and keys come through the network guard.
 */
export function createExternalProvider(
  config: OidcConfig,
  clock: Clock,
  makeFetch: (allowed: readonly string[]) => GuardedFetch = createGuardedFetch,
): ExternalProvider {
  const guarded = makeFetch(config.allowedNetworks)
  // Plain http is for an issuer that an operator put on an allowed (loopback, private) network.
  const insecure = config.issuer.startsWith('http:') && config.allowedNetworks.length > 0
  const preset = config.preset === undefined ? undefined : presets[config.preset]
  let keysOfLogout: { readonly uri: string; readonly get: JWTVerifyGetKey } | undefined
  let known: { at: number; configuration: Promise<client.Configuration> } | undefined

  const discover = async (): Promise<client.Configuration> =>
    client.discovery(new URL(config.issuer), config.clientId, undefined, await authentication(config), {
      [client.customFetch]: (url, options) => guarded(url, options as unknown as Record<string, unknown>),
      execute: [client.enableNonRepudiationChecks, ...(insecure ? [client.allowInsecureRequests] : [])],
      timeout: 10,
    })
  const cached = (): Promise<client.Configuration> => {
    if (known && clock.now() - known.at < rediscoverMs) return known.configuration
    const entry = { at: clock.now(), configuration: discover() }
    known = entry
    entry.configuration.catch(() => {
      if (known === entry) known = undefined
    })
    return entry.configuration
  }
  const unreachable = (error: unknown): SignInRefused =>
    new SignInRefused(
      `"${config.name}" can not be reached right now. Try again in a minute.`,
      reason(error),
      { cause: error, reason: 'NoDataFound' },
    )

  /** What the ID token says, and of what it lacks what the userinfo endpoint says. */
  const claimsOf = async (
    configuration: client.Configuration,
    tokens: Awaited<ReturnType<typeof client.authorizationCodeGrant>>,
  ): Promise<Record<string, unknown>> => {
    const idToken = tokens.claims()!
    let claims: Record<string, unknown> = { ...idToken }
    if (!isComplete(config, claims) && configuration.serverMetadata().userinfo_endpoint) {
      const info = await client.fetchUserInfo(configuration, tokens.access_token, idToken.sub)
      // What was signed wins over what was merely answered.
      claims = { ...info, ...claims }
    }
    if (preset?.groupsOverage && groupsAreElsewhere(claims)) {
      claims.groups = await fetchGroups(guarded, tokens.access_token).catch((error: unknown) => {
        throw new SignInRefused(
          `You are in more groups than "${config.name}" tells at once, and the rest could not be read.`,
          reason(error),
          { cause: error, reason: 'NoDataFound' },
        )
      })
    }
    return claims
  }

  return {
    id: config.id,
    configuration: cached,
    begin: async (redirectUri, loginHint) => {
      const configuration = await cached().catch((error: unknown) => {
        throw unreachable(error)
      })
      const check = {
        state: client.randomState(),
        nonce: client.randomNonce(),
        verifier: client.randomPKCECodeVerifier(),
      }
      // No `resource` (RFC 8707): Entra refuses it, and what is asked for here is who somebody is.
      const url = client.buildAuthorizationUrl(configuration, {
        ...config.authorizationParameters,
        redirect_uri: redirectUri,
        scope: [...new Set(['openid', ...config.scopes])].join(' '),
        response_type: 'code',
        state: check.state,
        nonce: check.nonce,
        code_challenge: await client.calculatePKCECodeChallenge(check.verifier),
        code_challenge_method: 'S256',
        ...(loginHint ? { login_hint: loginHint } : {}),
      })
      return { url, check }
    },
    finish: async (callback, { state, nonce, verifier }) => {
      // Read anew, so that a key that the provider changed a second ago is there.
      const configuration = await discover().catch((error: unknown) => {
        throw unreachable(error)
      })
      try {
        const tokens = await client.authorizationCodeGrant(configuration, callback, {
          expectedState: state,
          expectedNonce: nonce,
          pkceCodeVerifier: verifier,
          idTokenExpected: true,
        })
        const { id_token: idToken, refresh_token: refreshToken = null } = tokens
        const identity = mapClaims(config, await claimsOf(configuration, tokens))
        return { ...identity, ...(idToken === undefined ? {} : { tokens: { idToken, refreshToken } }) }
      } catch (error) {
        if (error instanceof SignInRefused) throw error
        if (error instanceof client.AuthorizationResponseError) {
          throw new SignInRefused(
            `"${config.name}" did not sign you in.`,
            `identity provider answered ${error.error}`,
            { cause: error, reason: 'NoDataFound' },
          )
        }
        throw new SignInRefused(`The answer of "${config.name}" could not be verified.`, reason(error), {
          cause: error,
          reason: /signature|keys/i.test(reason(error)) ? 'InvalidSignature' : 'ConditionFailed',
        })
      }
    },
    logoutToken: async (token) => {
      const configuration = await cached().catch((error: unknown) => {
        throw unreachable(error)
      })
      const { issuer, jwks_uri: jwksUri } = configuration.serverMetadata()
      if (jwksUri === undefined) throw unreachable(new Error('its metadata names no keys'))
      if (keysOfLogout?.uri !== jwksUri) keysOfLogout = { uri: jwksUri, get: logoutKeys(jwksUri, guarded) }
      return verifyLogoutToken(token, {
        issuer,
        clientId: config.clientId,
        keys: keysOfLogout.get,
        now: clock.now(),
      })
    },
    endSession: async (returnTo, hint) => {
      // Okta wants the ID token there, which is not kept; a page that refuses is no place to send people to.
      if (config.preset === 'okta') return undefined
      const configuration = await cached().catch(() => undefined)
      if (configuration?.serverMetadata().end_session_endpoint === undefined) return undefined
      return client.buildEndSessionUrl(configuration, {
        post_logout_redirect_uri: returnTo,
        ...(hint === undefined ? {} : { logout_hint: hint }),
      })
    },
    close: () => guarded.close(),
  }
}

/** Refuses a clientKey that can not sign, before anybody signs in. Throws Fault `config.invalid`. */
export async function checkClientKey(config: OidcConfig): Promise<void> {
  await authentication(config).catch(() => {
    throw new Fault('config.invalid', {
      detail: `identityProviders: clientKey of ${config.id} is no private key of RSA (2048 bits or more) or P-256, write PKCS #8 PEM`,
    })
  })
}

/** How the gateway proves itself at the provider (OpenID Connect Core §9). */
async function authentication(config: OidcConfig): Promise<client.ClientAuth> {
  const { clientSecret, clientKey } = config
  if (clientKey === undefined) {
    if (clientSecret === undefined) return client.None()
    return config.clientAuthentication === 'client_secret_basic'
      ? client.ClientSecretBasic(clientSecret.reveal())
      : client.ClientSecretPost(clientSecret.reveal())
  }
  const pem = clientKey.reveal()
  const object = createPrivateKey(pem)
  if (object.asymmetricKeyType === 'rsa' && (object.asymmetricKeyDetails?.modulusLength ?? 0) < 2048) {
    throw new Error('the key is too short')
  }
  const key = await importPKCS8(pem, object.asymmetricKeyType === 'rsa' ? 'RS256' : 'ES256')
  const { kty, crv, x, y, n, e } = await exportJWK(object)
  const kid = config.clientKeyId ?? (await calculateJwkThumbprint({ kty, crv, x, y, n, e }))
  if (config.preset !== 'entra-id') return client.PrivateKeyJwt({ key, kid })
  // Entra knows keys by the thumbprint of their certificate.
  return client.PrivateKeyJwt(
    { key, kid },
    { [client.modifyAssertion]: (header) => void Object.assign(header, { 'x5t#S256': kid }) },
  )
}

/** For the log: the error's own words and its cause's, never a body that an IdP sent. */
function reason(error: unknown): string {
  if (!(error instanceof Error)) return String(error)
  const cause = error.cause instanceof Error ? `: ${error.cause.message}` : ''
  return `${error.message}${cause}`
}
