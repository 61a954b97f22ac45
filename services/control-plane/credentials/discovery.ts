import { z } from 'zod'
import { Fault } from '../../../shared/faults.ts'
import { type Challenge, parseChallenge, scopeOf } from '../../../shared/www-authenticate.ts'
import type { Outbound } from './outbound.ts'

/** What we use of RFC 8414 metadata; the rest of a document is dropped. */
export const authorizationServerSchema = z.object({
  issuer: z.string(),
  authorization_endpoint: z.string(),
  token_endpoint: z.string(),
  registration_endpoint: z.string().optional(),
  revocation_endpoint: z.string().optional(),
  jwks_uri: z.string().optional(),
  scopes_supported: z.array(z.string()).optional(),
  grant_types_supported: z.array(z.string()).optional(),
  token_endpoint_auth_methods_supported: z.array(z.string()).optional(),
  id_token_signing_alg_values_supported: z.array(z.string()).optional(),
  code_challenge_methods_supported: z.array(z.string()).optional(),
  authorization_response_iss_parameter_supported: z.boolean().optional(),
  client_id_metadata_document_supported: z.boolean().optional(),
})
export type AuthorizationServer = z.infer<typeof authorizationServerSchema>

export interface Discovered {
  /** RFC 8707 value: the resource that tokens are asked for. */
  readonly resource: string
  readonly server: AuthorizationServer
  /** What to ask for, space-separated; undefined: leave it to the authorization server. */
  readonly scope: string | undefined
  /** False for addresses of the configuration: nobody said what `iss` the server puts into its answers. */
  readonly issuerKnown: boolean
}

export interface DiscoveryAsk {
  readonly serverUrl: string
  /** Decided by the configuration rather than discovered. */
  readonly scopes?: readonly string[] | undefined
  readonly resource?: string | undefined
  /** False: a server that does not advertise PKCE is taken as well. */
  readonly pkce?: boolean
}

export interface DiscoveryNetworks {
  /** For the MCP server itself. */
  readonly server: Outbound
  /** For whatever the server's metadata names. */
  readonly elsewhere: Outbound
}

const maxScopes = 100

/**
 * From an MCP server's URL to its authorization server (MCP 2026-07-28, authorization): the 401's metadata URL, else
 * the well-known forms of RFC 9728 §3.1; then RFC 8414 §3.1 and OpenID Connect Discovery in the order of the
 * specification. Throws a Fault whose detail says which step failed.
 */
export async function discover(networks: DiscoveryNetworks, ask: DiscoveryAsk): Promise<Discovered> {
  const url = new URL(ask.serverUrl)
  const from = fetchFrom(networks, url)
  const challenge = await probe(networks.server, ask.serverUrl)
  const document = await resourceMetadata(from, url, challenge)
  // Servers of the 2025-03-26 revision have no such document and are their own authorization server.
  const issuer = document?.issuer ?? url.origin
  const server =
    (await authorizationServer(from, issuer, ask.pkce ?? true)) ??
    (document ? undefined : unpublished(url.origin))
  if (!server) throw wrong(`${issuer} publishes no metadata`)
  const { checkUrl } = from(server.token_endpoint)
  await checkUrl(server.token_endpoint)
  await from(server.authorization_endpoint).checkUrl(server.authorization_endpoint)
  return {
    resource: ask.resource ?? document?.resource ?? ask.serverUrl,
    server,
    scope: chooseScope(ask.scopes, challenge.scope, document?.scopes, server),
    issuerKnown: true,
  }
}

/** The way to an address, by whether it is the MCP server's own. */
export const fetchFrom =
  (networks: DiscoveryNetworks, { origin }: URL) =>
  (target: string): Outbound =>
    URL.canParse(target) && new URL(target).origin === origin ? networks.server : networks.elsewhere

/** Where the 2025-03-26 revision expects the endpoints of a server that publishes nothing (its "fallbacks"). */
const unpublished = (origin: string): AuthorizationServer => ({
  issuer: origin,
  authorization_endpoint: `${origin}/authorize`,
  token_endpoint: `${origin}/token`,
  registration_endpoint: `${origin}/register`,
  token_endpoint_auth_methods_supported: ['none', 'client_secret_basic', 'client_secret_post'],
})

/** The metadata of one issuer, from the well-known addresses of RFC 8414 and OpenID Connect Discovery. */
export async function discoverIssuer(
  outbound: Outbound,
  issuer: string,
  pkce: boolean,
): Promise<AuthorizationServer> {
  const server = await authorizationServer(() => outbound, issuer, pkce)
  if (!server) throw wrong(`${issuer} publishes no metadata`)
  return server
}

/** Asks without a token. `ping` starts no session anywhere, whatever the server makes of it. */
export async function probe(outbound: Outbound, serverUrl: string): Promise<Challenge> {
  const response = await outbound.fetch(serverUrl, {
    method: 'POST',
    headers: { accept: 'application/json, text/event-stream', 'content-type': 'application/json' },
    body: JSON.stringify({ jsonrpc: '2.0', id: 1, method: 'ping' }),
  })
  await response.body?.cancel().catch(() => {})
  return parseChallenge(response.status === 401 ? response.headers.get('www-authenticate') : null)
}

export async function resourceMetadata(fetchFrom: (url: string) => Outbound, url: URL, challenge: Challenge) {
  const path = url.pathname === '/' ? '' : url.pathname.replace(/\/$/, '')
  const wellKnown = `${url.origin}/.well-known/oauth-protected-resource`
  const candidates = challenge.resourceMetadata
    ? [challenge.resourceMetadata]
    : [...new Set([`${wellKnown}${path}`, wellKnown])]
  for (const candidate of candidates) {
    if (!URL.canParse(candidate)) throw wrong('the server names a metadata address that is no URL')
    const document = await fetchFrom(candidate).document(candidate)
    if (!document) continue
    const { resource } = document
    // RFC 9728 §3.3. A document for the server's whole origin, or for a path above, is one for it too.
    if (typeof resource !== 'string' || !covers(resource, url)) {
      throw wrong(`the document at ${candidate} is for another resource`)
    }
    const [issuer] = Array.isArray(document.authorization_servers) ? document.authorization_servers : []
    if (typeof issuer !== 'string') throw wrong(`the document at ${candidate} names no authorization server`)
    const scopes = Array.isArray(document.scopes_supported)
      ? document.scopes_supported.slice(0, maxScopes)
      : []
    return { resource, issuer, scopes: scopeOf(scopes.join(' ')) }
  }
  if (challenge.resourceMetadata) throw wrong(`there is no document at ${challenge.resourceMetadata}`)
  return undefined
}

function covers(resource: string, url: URL): boolean {
  if (!URL.canParse(resource)) return false
  const whole = new URL(resource)
  const prefix = whole.pathname.replace(/\/$/, '')
  return (
    whole.origin === url.origin &&
    !whole.search &&
    !whole.hash &&
    (url.pathname === prefix || url.pathname.startsWith(`${prefix}/`))
  )
}

/** Undefined where it publishes none of the forms. Throws `upstream.garbage` for one that can not be used. */
export async function authorizationServer(
  fetchFrom: (url: string) => Outbound,
  issuer: string,
  pkce: boolean,
): Promise<AuthorizationServer | undefined> {
  if (!URL.canParse(issuer)) throw wrong('the authorization server is no URL')
  const { origin, pathname, search, hash } = new URL(issuer)
  if (search || hash) throw wrong('the authorization server has a query or a fragment')
  const path = pathname === '/' ? '' : pathname.replace(/\/$/, '')
  const candidates = new Set([
    `${origin}/.well-known/oauth-authorization-server${path}`,
    `${origin}/.well-known/openid-configuration${path}`,
    `${origin}${path}/.well-known/openid-configuration`,
  ])
  for (const candidate of candidates) {
    const document = await fetchFrom(candidate).document(candidate)
    if (!document) continue
    const parsed = authorizationServerSchema.safeParse(document)
    if (!parsed.success) throw wrong(`the metadata at ${candidate} lacks what RFC 8414 requires`)
    // RFC 8414 §3.3: byte for byte, else one server could speak for another (mix-up).
    if (parsed.data.issuer !== issuer) throw wrong(`the metadata at ${candidate} is of another issuer`)
    if (pkce && !parsed.data.code_challenge_methods_supported?.includes('S256')) {
      throw wrong(`${issuer} does not offer PKCE with S256`)
    }
    return parsed.data
  }
  return undefined
}

/** The configuration's word, else the challenge, else what the server lists, else none. */
export function chooseScope(
  configured: readonly string[] | undefined,
  challenged: string | undefined,
  listed: string | undefined,
  server: AuthorizationServer,
): string | undefined {
  if (configured) return configured.length > 0 ? configured.join(' ') : undefined
  const tokens = new Set((challenged ?? listed ?? '').split(' ').filter((token) => token !== ''))
  // A refresh token is what keeps a connection: asked for where, and only where, the server knows how.
  if (server.scopes_supported?.includes('offline_access')) tokens.add('offline_access')
  else tokens.delete('offline_access')
  return tokens.size > 0 ? [...tokens].join(' ') : undefined
}

function wrong(detail: string): Fault {
  return new Fault('upstream.garbage', { detail: `discovery: ${detail}` })
}
