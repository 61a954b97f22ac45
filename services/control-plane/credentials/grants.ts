import type { ServerWorkloadConfig, UserTokenConfig } from '../config/schema.ts'
import { type AuthorizationServer, type Discovered, type DiscoveryAsk, discover } from './discovery.ts'
import type { Networks } from './networks.ts'
import type { OAuthClient, OAuthClients } from './oauth-clients.ts'
import type { Outbound } from './outbound.ts'

/** A server and the provider that a person's account there is kept by. */
export interface Target {
  readonly server: ServerWorkloadConfig
  readonly provider: UserTokenConfig
}

/** What it takes to renew and revoke tokens, whoever's they are. */
export interface Grant {
  /** The client that tokens were issued to; undefined where it is no longer ours. */
  client(server: AuthorizationServer, clientId: string): OAuthClient | undefined
  /** The way to an endpoint of the authorization server. */
  outbound(url: string): Outbound
  /** The authorization server said that it does not know our client. */
  retireClient(server: AuthorizationServer, clientId: string): void
  /** RFC 7662, where the configuration names it. */
  readonly introspectionUrl?: string | undefined
  /** Which authorization server is in charge now; undefined where nobody can say. */
  issuerNow(): Promise<string | undefined>
}

/** Where discovery of a person's own account starts. */
export const startOf = ({ server, provider }: Target): string => provider.mcpServerUrl ?? server.url

export function outboundOf(networks: Networks, target: Target, url: string): Outbound {
  const { server, elsewhere } = networks.of(target.provider, target.server)
  return new URL(url).origin === new URL(startOf(target)).origin ? server : elsewhere
}

/** The authorization server of a person's own account: as configured, else discovered. Throws a Fault. */
export async function locate(networks: Networks, target: Target): Promise<Discovered> {
  const { provider, server } = target
  const { scopes, resource, oauthAuthorizationUrl, oauthTokenUrl, oauthRevocationUrl } = provider
  if (oauthAuthorizationUrl !== undefined && oauthTokenUrl !== undefined) {
    for (const url of [oauthAuthorizationUrl, oauthTokenUrl]) {
      await outboundOf(networks, target, url).checkUrl(url)
    }
    return {
      resource: resource ?? startOf(target),
      server: {
        issuer: new URL(oauthTokenUrl).origin,
        authorization_endpoint: oauthAuthorizationUrl,
        token_endpoint: oauthTokenUrl,
        ...(oauthRevocationUrl === undefined ? {} : { revocation_endpoint: oauthRevocationUrl }),
      },
      scope: scopes && scopes.length > 0 ? scopes.join(' ') : undefined,
      issuerKnown: false,
    }
  }
  const ask: DiscoveryAsk = { serverUrl: startOf(target), scopes, resource, pkce: provider.isPkceRequired }
  return discover(networks.of(provider, server), ask)
}

export function userGrant(
  target: Target,
  deps: { networks: Networks; clients: OAuthClients; preview(target: Target): Promise<Discovered> },
): Grant {
  const { networks, clients, preview } = deps
  const { provider } = target
  return {
    client: (server, clientId) => clients.known(provider, server, clientId),
    outbound: (url) => outboundOf(networks, target, url),
    retireClient: (server, clientId) => clients.retire(provider, server, clientId),
    introspectionUrl: provider.oauthIntrospectionUrl,
    issuerNow: () =>
      preview(target).then(
        ({ server }) => server.issuer,
        () => undefined,
      ),
  }
}
