import { Fault } from '../../../shared/faults.ts'
import {
  type AuthorizationServer,
  authorizationServer,
  chooseScope,
  type DiscoveryNetworks,
  fetchFrom,
  probe,
  resourceMetadata,
} from './discovery.ts'
import { Refused } from './issued.ts'

/** The authorization server of an MCP server, as far as an identity assertion needs it. */
export interface EnterpriseTarget {
  /** RFC 8707 value. */
  readonly resource: string
  readonly server: AuthorizationServer
  /** Space-separated; undefined: what the server gives by default. */
  readonly scope: string | undefined
}

export const jwtBearerGrant = 'urn:ietf:params:oauth:grant-type:jwt-bearer'

/** Texts of the documented surface, as administrators look for them. */
const noResourceMetadata = 'MCP Server does not support resource metadata discovery'
const noServerMetadata = 'MCP Server does not support auth metadata discovery'

/**
 * From an MCP server's URL to the authorization server that takes identity assertions: RFC 9728, then RFC 8414. Throws
 * Refused where the server does not offer it, a Fault where a later try may succeed.
 */
export async function discoverEnterprise(
  networks: DiscoveryNetworks,
  ask: {
    readonly serverUrl: string
    readonly scopes?: readonly string[] | undefined
    readonly resource?: string | undefined
  },
): Promise<EnterpriseTarget> {
  const url = new URL(ask.serverUrl)
  const from = fetchFrom(networks, url)
  const challenge = await probe(networks.server, ask.serverUrl)
  const document = await offered(noResourceMetadata, () => resourceMetadata(from, url, challenge))
  const server = await offered(noServerMetadata, () => authorizationServer(from, document.issuer, false))
  if (server.grant_types_supported && !server.grant_types_supported.includes(jwtBearerGrant)) {
    throw new Refused('The authorization server of the MCP Server does not take identity assertions')
  }
  await from(server.token_endpoint).checkUrl(server.token_endpoint)
  return {
    resource: ask.resource ?? document.resource,
    server,
    scope: withoutRefresh(chooseScope(ask.scopes, challenge.scope, document.scopes, server)),
  }
}

/** `upstream.garbage` is what the documents themselves are wrong with; other faults are the way there. */
async function offered<T>(text: string, find: () => Promise<T | undefined>): Promise<T> {
  try {
    const found = await find()
    if (found) return found
  } catch (error) {
    if (!(error instanceof Fault) || error.code !== 'upstream.garbage') throw error
    throw new Refused(text, undefined, { cause: error })
  }
  throw new Refused(text)
}

/** The assertion grant gives no refresh token: the identity provider is asked again instead. */
function withoutRefresh(scope: string | undefined): string | undefined {
  const rest = scope?.split(' ').filter((each) => each !== 'offline_access')
  return rest && rest.length > 0 ? rest.join(' ') : undefined
}
