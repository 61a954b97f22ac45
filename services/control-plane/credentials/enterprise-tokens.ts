import { LRUCache } from 'lru-cache'
import type { Clock } from '../../../shared/clock.ts'
import { Fault } from '../../../shared/faults.ts'
import { covers, unionOf } from '../../../shared/www-authenticate.ts'
import type { EnterpriseTokenConfig, ServerWorkloadConfig } from '../config/schema.ts'
import { callbackUrl } from './connections.ts'
import { discoverEnterprise, type EnterpriseTarget, jwtBearerGrant } from './enterprise-discovery.ts'
import { type IdpAssertions, SignInNeeded } from './idp-assertions.ts'
import { type Issued, type IssuedCredentials, Refused } from './issued.ts'
import type { Networks } from './networks.ts'
import { formEncoded } from './oauth.ts'
import type { OAuthClient, OAuthClients } from './oauth-clients.ts'
import type { Outbound } from './outbound.ts'
import { issuedToken } from './providers/present.ts'
import { requestOAuthToken } from './token-endpoint.ts'

export interface EnterpriseAsk {
  readonly config: EnterpriseTokenConfig
  readonly server: ServerWorkloadConfig
  /** The person, by our tokens. */
  readonly subject: string
  /** The identity provider that they signed in at; undefined for who did not sign in here. */
  readonly idp: unknown
  readonly rejected?: string | undefined
  /** Scopes that the server demanded. */
  readonly scope?: string | undefined
}

export interface EnterpriseTokens {
  /** Throws SignInNeeded, Refused, or `credential.unavailable` where a later try may succeed. */
  get(ask: EnterpriseAsk): Promise<Issued<{ name: string; value: string }>>
  /** What an administrator sees of a server before anybody uses it: discovered, and registered there. Throws as `get`. */
  discover(config: EnterpriseTokenConfig, server: ServerWorkloadConfig): Promise<EnterpriseDiscovery>
}

export interface EnterpriseDiscovery {
  readonly oidcIssuerUrl: string
  readonly oauthTokenUrl: string
  readonly resource: string
  readonly scopes: readonly string[]
  readonly clientId: string
}

export interface EnterpriseTokensDeps {
  readonly assertions: IdpAssertions
  readonly clients: OAuthClients
  readonly networks: Networks
  readonly issued: IssuedCredentials
  readonly clock: Clock
  readonly origin: () => string
}

/** Documented: a token is kept for five minutes at most, so that who is removed at the identity provider is out by then. */
const maxLifeMs = 5 * 60_000
const rediscoverMs = 5 * 60_000
const blockedText = 'The MCP server or its authorization server resolves to an internal address'

/** Nobody connects an account here: the person's sign-in at their company is what opens the server (RFC 8693, RFC 7523). */
export function createEnterpriseTokens(deps: EnterpriseTokensDeps): EnterpriseTokens {
  const { assertions, clients, networks, issued, clock, origin } = deps
  const located = new LRUCache<string, { at: number; found: Promise<EnterpriseTarget> }>({ max: 1_000 })
  /** What servers demanded beyond what they said before. */
  const demanded = new LRUCache<string, string>({ max: 10_000 })

  const locateNow = async (
    config: EnterpriseTokenConfig,
    server: ServerWorkloadConfig,
  ): Promise<EnterpriseTarget> => {
    const serverUrl = config.mcpServerUrl ?? server.url
    const { scopes, resource, oidcIssuerUrl, oauthTokenUrl } = config
    if (oidcIssuerUrl === undefined || oauthTokenUrl === undefined) {
      return discoverEnterprise(networks.of(config, server), { serverUrl, scopes, resource })
    }
    return {
      resource: resource ?? serverUrl,
      server: {
        issuer: oidcIssuerUrl,
        authorization_endpoint: oauthTokenUrl,
        token_endpoint: oauthTokenUrl,
      },
      scope: scopes && scopes.length > 0 ? scopes.join(' ') : undefined,
    }
  }
  const locate = (config: EnterpriseTokenConfig, server: ServerWorkloadConfig): Promise<EnterpriseTarget> => {
    const key = JSON.stringify([config, server.url, server.allowedNetworks])
    const known = located.get(key)
    if (known && clock.now() - known.at < rediscoverMs) return known.found
    const entry = { at: clock.now(), found: locateNow(config, server) }
    located.set(key, entry)
    entry.found.catch(() => {
      if (located.get(key) === entry) located.delete(key)
    })
    return entry.found
  }

  const outboundFor = (
    url: string,
    config: EnterpriseTokenConfig,
    server: ServerWorkloadConfig,
  ): Outbound => {
    const both = networks.of(config, server)
    return new URL(url).origin === new URL(config.mcpServerUrl ?? server.url).origin
      ? both.server
      : both.elsewhere
  }

  const clientOf = async (
    config: EnterpriseTokenConfig,
    server: ServerWorkloadConfig,
    found: EnterpriseTarget,
  ): Promise<OAuthClient> => {
    const { registration_endpoint: registrar = found.server.token_endpoint } = found.server
    const source = { ...config, grantTypes: [jwtBearerGrant, 'authorization_code'] }
    try {
      const redirectUri = callbackUrl(origin(), config.id)
      return await clients.obtain(source, found.server, redirectUri, outboundFor(registrar, config, server))
    } catch (error) {
      const fault = Fault.from(error)
      if (config.clientId !== undefined || !['upstream.rejected', 'upstream.garbage'].includes(fault.code)) {
        throw error
      }
      throw new Refused('Dynamic Client Registration failed', undefined, { cause: fault })
    }
  }

  const tokenOf = async (ask: EnterpriseAsk, scopeKey: string) => {
    const { config, server, subject } = ask
    const found = await locate(config, server)
    const scope = unionOf(found.scope, demanded.get(scopeKey))
    const once = async (client: OAuthClient) => {
      const assertion = await assertions.make({
        idp: config.identityProvider,
        subject,
        audience: found.server.issuer,
        resource: found.resource,
        scope,
      })
      return requestOAuthToken(outboundFor(found.server.token_endpoint, config, server), {
        url: found.server.token_endpoint,
        ...authenticated(client, {
          grant_type: jwtBearerGrant,
          assertion,
          resource: found.resource,
          ...(scope === undefined ? {} : { scope }),
        }),
      })
    }
    const client = await clientOf(config, server, found)
    const { accessToken, expiresIn } = await once(client).catch(async (error: unknown) => {
      // A registration that is gone there is made anew, once; a configured client is corrected in the configuration.
      if (!(error instanceof Refused) || error.code !== 'invalid_client' || !client.dynamic) throw error
      clients.retire(config, found.server, client.clientId)
      return once(await clientOf(config, server, found))
    })
    const lifeMs = Math.min(maxLifeMs, expiresIn === null ? maxLifeMs : expiresIn * 1000)
    return issuedToken(accessToken, clock.now() + lifeMs)
  }

  /** An address in private space stays there: nobody's later try helps. */
  const explained = async <T>(work: () => Promise<T>): Promise<T> => {
    try {
      return await work()
    } catch (error) {
      if (error instanceof Fault && error.code === 'upstream.blocked')
        throw new Refused(blockedText, undefined, { cause: error })
      throw error
    }
  }

  return {
    get: async (ask) => {
      const { config, server, subject, rejected, scope } = ask
      if (ask.idp !== config.identityProvider) throw new Refused('signed_in_elsewhere')
      // What an administrator wrote down is all that may be asked for.
      if (scope !== undefined && config.scopes && !covers(config.scopes.join(' '), scope)) {
        throw new Refused('insufficient_scope')
      }
      const scopeKey = JSON.stringify([config.id, server.id, subject])
      if (scope !== undefined) demanded.set(scopeKey, unionOf(demanded.get(scopeKey), scope) ?? scope)
      // Another sign-in, another token: what a former one gave ends with it.
      const signIn = assertions.signIn(config.identityProvider, subject)
      if (signIn === undefined) throw new SignInNeeded('not_signed_in')
      const whom = JSON.stringify([server.id, subject, signIn, demanded.get(scopeKey) ?? ''])
      return issued.get({ config, whom, rejected, make: () => explained(() => tokenOf(ask, scopeKey)) })
    },
    discover: (config, server) =>
      explained(async () => {
        const found = await locateNow(config, server)
        const { clientId } = await clientOf(config, server, found)
        return {
          oidcIssuerUrl: found.server.issuer,
          oauthTokenUrl: found.server.token_endpoint,
          resource: found.resource,
          scopes: found.scope?.split(' ') ?? [],
          clientId,
        }
      }),
  }
}

/** RFC 6749 §2.3.1. */
function authenticated(client: OAuthClient, form: Record<string, string>) {
  const { clientId, clientSecret, authMethod } = client
  if (authMethod === 'none' || clientSecret === null) return { form: { ...form, client_id: clientId } }
  if (authMethod === 'client_secret_post') {
    return { form: { ...form, client_id: clientId, client_secret: clientSecret } }
  }
  const pair = `${formEncoded(clientId)}:${formEncoded(clientSecret)}`
  return { form, headers: { authorization: `Basic ${Buffer.from(pair).toString('base64')}` } }
}
