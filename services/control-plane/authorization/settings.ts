import type { ResourceServer } from 'oidc-provider'
import { Fault } from '../../../shared/faults.ts'
import { identityScopes, resourceScope } from '../config/clients.ts'
import type { Config } from '../config/schema.ts'
import { redirectProblem } from './clients.ts'
import type { SigningAlgorithm } from './keys.ts'

/** What of the configuration the authorization server works by. Times in seconds. */
export interface AuthorizationSettings {
  /** Origin; `iss` of every token and of the metadata, byte for byte. */
  readonly issuer: string
  readonly signingAlgorithm: SigningAlgorithm
  readonly accessTokenSecs: number
  /** From the first token of a grant on; rotation does not extend it. */
  readonly refreshTokenSecs: number
  readonly dynamicRegistration: boolean
  readonly clientDocuments: Config['authorizationServer']['clientIdMetadataDocuments']
  /** URLs of client id metadata documents that client workloads name. */
  readonly clientDocumentUrls: ReadonlySet<string>
  /** A grant type is offered where a client is registered for it, or an identity provider's assertions are taken. */
  readonly clientCredentials: boolean
  readonly identityAssertions: boolean
  readonly clients: Config['authorizationServer']['clients']
  /** Canonical URL of the MCP endpoint: the one resource, and `aud` of every access token. */
  readonly resource: string
  /** Scopes of the resource: the one that every token has, and those that client workloads are told apart by. */
  readonly resourceScopes: readonly string[]
}

export { identityScopes, resourceScope }

/** Throws `config.invalid` with every problem that only this room can see. */
export function authorizationSettings(config: Config): AuthorizationSettings {
  const { authorizationServer, gateway } = config
  const problems: string[] = []
  if (new URL(authorizationServer.issuer).origin !== authorizationServer.issuer) {
    problems.push(
      'authorizationServer.issuer must be an origin, as in https://gateway.example, without a path',
    )
  }
  for (const client of authorizationServer.clients) {
    for (const uri of client.redirectUris) {
      const problem = redirectProblem(uri)
      if (problem)
        problems.push(`authorizationServer.clients: redirect URI ${uri} of ${client.clientId} ${problem}`)
    }
  }
  if (problems.length > 0) throw new Fault('config.invalid', { detail: problems.join('\n') })
  return {
    issuer: authorizationServer.issuer,
    signingAlgorithm: authorizationServer.signingAlgorithm,
    accessTokenSecs: authorizationServer.accessTokenLifetime,
    refreshTokenSecs: authorizationServer.refreshTokenLifetime,
    dynamicRegistration: authorizationServer.dynamicClientRegistration,
    clientDocuments: authorizationServer.clientIdMetadataDocuments,
    clientDocumentUrls: new Set(
      config.clientWorkloads
        .flatMap(({ identities }) => identities)
        .filter(({ type }) => type === 'cimdClientId')
        .map(({ value }) => value),
    ),
    clientCredentials: authorizationServer.clients.some(({ grantTypes }) =>
      grantTypes.includes('client_credentials'),
    ),
    identityAssertions: config.identityProviders.some((idp) => idp.type === 'oidc' && idp.identityAssertions),
    clients: authorizationServer.clients,
    resource: gateway.url,
    resourceScopes: [
      ...new Set([
        resourceScope,
        ...config.clientWorkloads
          .flatMap(({ identities }) => identities)
          .filter(({ type }) => type === 'oauthScope')
          .map(({ value }) => value),
      ]),
    ],
  }
}

/** The one resource server, as oidc-provider wants it. */
export function resourceServer(settings: AuthorizationSettings): ResourceServer {
  return {
    scope: settings.resourceScopes.join(' '),
    audience: settings.resource,
    accessTokenFormat: 'jwt',
    accessTokenTTL: settings.accessTokenSecs,
    jwt: { sign: { alg: settings.signingAlgorithm } },
  }
}
