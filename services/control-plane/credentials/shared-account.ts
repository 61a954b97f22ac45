import type { Clock } from '../../../shared/clock.ts'
import { Fault } from '../../../shared/faults.ts'
import type { Logger } from '../../../shared/log.ts'
import type { ProviderConfig } from '../config/schema.ts'
import type { ConnectStates } from './connect-states.ts'
import { Misdirected } from './connections.ts'
import { type AuthorizationServer, discoverIssuer } from './discovery.ts'
import type { Grant } from './grants.ts'
import type { Networks } from './networks.ts'
import { exchangeCode, revoke, startAuthorization } from './oauth.ts'
import type { OAuthClient, OAuthClients } from './oauth-clients.ts'
import type { CredentialKey, StoredCredential, Vault } from './vault.ts'

export type SharedConfig = ProviderConfig<'oauth-authorization-code'>

/** One account for everyone whom policy lets through, authorized by an administrator in a browser. */
export interface SharedAccounts {
  /** The authorization server that the person in the browser will be sent to. */
  locate(config: SharedConfig): Promise<{ server: AuthorizationServer; issuerKnown: boolean }>
  begin(config: SharedConfig, browser: string): Promise<URL>
  /** Throws Misdirected, GrantEnded, Fault as `Connections.finish` does. */
  finish(ask: {
    config: SharedConfig
    browser: string | undefined
    query: URLSearchParams
    by: string
  }): Promise<void>
  find(config: SharedConfig): StoredCredential | undefined
  grantOf(config: SharedConfig): Grant
  /** Forgets the tokens, then asks the authorization server to. */
  disconnect(config: SharedConfig): Promise<'revoked' | 'forgotten'>
}

/** Nobody's: no person of ours has an empty subject. */
export const sharedKey = (providerId: string): CredentialKey => ({
  issuer: '',
  subject: '',
  serverId: '',
  providerId,
})

export const sharedCallbackUrl = (origin: string, providerId: string): string =>
  `${origin}/api/v1/credential-providers/${encodeURIComponent(providerId)}/callback`

export function createSharedAccounts(deps: {
  vault: Vault
  states: ConnectStates
  clients: OAuthClients
  networks: Networks
  origin: () => string
  clock: Clock
  log: Logger
}): SharedAccounts {
  const { vault, states, clients, networks, origin, clock, log } = deps

  const locate: SharedAccounts['locate'] = async (config) => {
    const outbound = networks.only(config.allowedNetworks)
    const { oauthAuthorizationUrl, oauthTokenUrl, oauthRevocationUrl, oauthDiscoveryUrl } = config
    if (oauthAuthorizationUrl !== undefined && oauthTokenUrl !== undefined) {
      await outbound.checkUrl(oauthAuthorizationUrl)
      const server = {
        issuer: new URL(oauthTokenUrl).origin,
        authorization_endpoint: oauthAuthorizationUrl,
        token_endpoint: oauthTokenUrl,
        ...(oauthRevocationUrl === undefined ? {} : { revocation_endpoint: oauthRevocationUrl }),
      }
      return { server, issuerKnown: false }
    }
    // Either form is what operators have at hand: the issuer, or the address of its document.
    const issuer = String(oauthDiscoveryUrl).replace(
      /\/\.well-known\/(openid-configuration|oauth-authorization-server)$/,
      '',
    )
    const server = await discoverIssuer(outbound, issuer, config.isPkceRequired)
    await outbound.checkUrl(server.authorization_endpoint)
    return { server, issuerKnown: true }
  }

  const clientOf = (config: SharedConfig, server: AuthorizationServer): Promise<OAuthClient> =>
    clients.obtain(
      config,
      server,
      sharedCallbackUrl(origin(), config.id),
      networks.only(config.allowedNetworks),
    )

  return {
    locate,
    begin: async (config, browser) => {
      const { server, issuerKnown } = await locate(config)
      const client = await clientOf(config, server)
      const redirectUri = sharedCallbackUrl(origin(), config.id)
      const scope = config.scopes.length > 0 ? config.scopes.join(' ') : undefined
      const { url, state, verifier } = await startAuthorization(
        { server, scope, resource: undefined },
        client,
        redirectUri,
        networks.only(config.allowedNetworks),
        {
          pkce: config.isPkceRequired,
          parameters: Object.fromEntries(config.customParameters.map(({ key, value }) => [key, value])),
        },
      )
      states.put(state, {
        ...sharedKey(config.id),
        browser,
        verifier,
        clientId: client.clientId,
        issuerKnown,
        scope: scope ?? null,
        redirectUri,
        server,
      })
      return url
    },

    finish: async ({ config, browser, query, by }) => {
      const state = states.take(query.get('state'))
      if (!state || state.providerId !== config.id || state.subject !== '') throw new Misdirected('unknown')
      if (browser !== state.browser) throw new Misdirected('browser')
      const client = clients.known(config, state.server, state.clientId)
      if (!client) throw new Fault('upstream.rejected', { detail: 'the client of the configuration changed' })
      const callback = new URL(state.redirectUri)
      callback.search = query.toString()
      const tokens = await exchangeCode(
        state.server,
        client,
        callback,
        {
          state: query.get('state') ?? '',
          verifier: state.verifier,
          resource: undefined,
          issuerKnown: state.issuerKnown,
        },
        networks.only(config.allowedNetworks),
      )
      const { accessToken, refreshToken, expiresIn, scope, account } = tokens
      vault.connect(
        sharedKey(config.id),
        {
          tokens: { accessToken, refreshToken, clientId: client.clientId, server: state.server },
          scopes: scope ?? state.scope ?? '',
          expiresAt: expiresIn === null ? null : clock.now() + expiresIn * 1000,
        },
        account,
        state.scope ?? '',
        by,
      )
      log.info({ providerId: config.id, account }, 'shared account authorized')
    },

    find: (config) => vault.find(sharedKey(config.id)),
    grantOf: (config) => ({
      client: (server, clientId) => clients.known(config, server, clientId),
      outbound: () => networks.only(config.allowedNetworks),
      retireClient: (server, clientId) => clients.retire(config, server, clientId),
      introspectionUrl: config.oauthIntrospectionUrl,
      // The configuration says where; nothing else can.
      issuerNow: async () => undefined,
    }),
    disconnect: async (config) => {
      const key = sharedKey(config.id)
      if (!vault.find(key)) return 'forgotten'
      const { server, clientId, refreshToken, accessToken } = vault.open(key)
      vault.remove(key)
      log.info({ providerId: config.id }, 'shared account forgotten')
      const client = clients.known(config, server, clientId)
      if (!client) return 'forgotten'
      const hint = refreshToken === null ? 'access_token' : 'refresh_token'
      const token = refreshToken ?? accessToken
      return revoke(server, client, token, hint, networks.only(config.allowedNetworks)).then(
        (done) => (done ? 'revoked' : 'forgotten'),
        () => 'forgotten',
      )
    },
  }
}
