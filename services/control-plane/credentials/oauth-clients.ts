import { z } from 'zod'
import type { Clock } from '../../../shared/clock.ts'
import { Fault } from '../../../shared/faults.ts'
import type { Secret } from '../config/secret.ts'
import { type DatabaseSync, transaction } from '../store/database.ts'
import type { AuthorizationServer } from './discovery.ts'
import type { Outbound } from './outbound.ts'
import type { Sealer } from './sealer.ts'

/** Who we are at an authorization server. */
export interface OAuthClient {
  readonly clientId: string
  readonly clientSecret: string | null
  readonly authMethod: 'client_secret_basic' | 'client_secret_post' | 'none'
  /** False: an administrator registered it and wrote it into the configuration. */
  readonly dynamic: boolean
}

/** What a provider's configuration says of our client. */
export interface ClientSource {
  readonly id: string
  readonly clientId?: string | undefined
  readonly clientSecret?: Secret | undefined
  /** What a registration asks for; a person's own account unless told. */
  readonly grantTypes?: readonly string[]
}

export interface OAuthClients {
  /**
   * The client for this provider there, in the order of MCP 2026-07-28: the configured one, our metadata document where
   * the server takes such, else one that is registered now (RFC 7591). Throws a Fault.
   */
  obtain(
    provider: ClientSource,
    server: AuthorizationServer,
    redirectUri: string,
    outbound: Outbound,
  ): Promise<OAuthClient>
  /** The client that tokens were issued to; undefined where it is no longer ours. */
  known(provider: ClientSource, server: AuthorizationServer, clientId: string): OAuthClient | undefined
  /**
   * The authorization server said that it does not know this client: the next `obtain` registers anew. It stays `known`, for
   * others' tokens hang on it, and the server may have been wrong.
   */
  retire(provider: ClientSource, server: AuthorizationServer, clientId: string): void
}

const registrationSchema = z.object({
  client_id: z.string().min(1).max(2_000),
  client_secret: z.string().max(8_000).optional(),
  client_secret_expires_at: z.number().optional(),
  token_endpoint_auth_method: z.string().optional(),
})
type Registration = z.infer<typeof registrationSchema>
interface Kept {
  readonly registration: Registration
  readonly expiresAt: number | null
}

/** Stands where the redirect URI of a registration in use does. */
const retired = 'retired:'
/** Per provider and authorization server: one that knows nobody for long has every connection register anew. */
const maxRetired = 20

/**
 * Registrations are kept per provider, authorization server and redirect URI, and never used at another server: a
 * server that names a new authorization server tomorrow gets a new client there. A client that an administrator wrote
 * down belongs to the first authorization server it was used at; a change of it is refused, since the secret would go
 * to whoever took the name over.
 */
export function createOAuthClients(
  db: DatabaseSync,
  sealer: Sealer,
  clock: Clock,
  clientName: () => string,
  /** Address of our client metadata document for a provider; undefined where none can be fetched. */
  documentUrl: (providerId: string) => string | undefined,
): OAuthClients {
  const select = db.prepare(
    'SELECT sealed, expires_at FROM oauth_client WHERE provider_id = ? AND authorization_server = ? AND redirect_uri = ?',
  )
  const selectServers = db.prepare(
    'SELECT authorization_server, redirect_uri, sealed FROM oauth_client WHERE provider_id = ?',
  )
  const put = db.prepare(`INSERT OR REPLACE INTO oauth_client
    (provider_id, authorization_server, redirect_uri, sealed, created_at, expires_at) VALUES (?, ?, ?, ?, ?, ?)`)
  const where = 'provider_id = ? AND authorization_server = ?'
  const drop = db.prepare(`DELETE FROM oauth_client WHERE ${where} AND redirect_uri = ?`)
  const dropOldest = db.prepare(`DELETE FROM oauth_client WHERE ${where} AND redirect_uri IN (
    SELECT redirect_uri FROM oauth_client WHERE ${where} AND redirect_uri LIKE '${retired}%'
    ORDER BY created_at DESC LIMIT -1 OFFSET ${maxRetired})`)
  const context = (...key: string[]): string => `oauth-client:${JSON.stringify(key)}`
  const running = new Map<string, Promise<OAuthClient>>()

  const configured = (provider: ClientSource, server: AuthorizationServer): OAuthClient | undefined => {
    if (provider.clientId === undefined) return undefined
    const clientSecret = provider.clientSecret?.reveal() ?? null
    return {
      clientId: provider.clientId,
      clientSecret,
      authMethod: clientSecret === null ? 'none' : secretMethod(server),
      dynamic: false,
    }
  }

  /** Binds a configured client to the authorization server that it was first used at. */
  const pin = (provider: ClientSource, server: AuthorizationServer, clientId: string): void => {
    const marker = `configured:${clientId}`
    const others = selectServers
      .all(provider.id)
      .filter((row) => row.redirect_uri === marker && row.authorization_server !== server.issuer)
    if (others.length > 0) {
      throw new Fault('upstream.rejected', {
        detail: `credential provider ${provider.id}: its client belongs to ${String(others[0]?.authorization_server)}, the server now names ${server.issuer}; configure a client of that one`,
      })
    }
    if (!select.get(provider.id, server.issuer, marker)) {
      const sealed = sealer.seal(Buffer.alloc(0), context(provider.id, server.issuer, marker))
      put.run(provider.id, server.issuer, marker, sealed, clock.now(), null)
    }
  }

  const seal = (registration: Registration, ...key: [string, string, string]): Uint8Array =>
    sealer.seal(Buffer.from(JSON.stringify(registration)), context(...key))

  const open = (providerId: string, issuer: string, redirectUri: string): Kept | undefined => {
    const row = select.get(providerId, issuer, redirectUri)
    if (!row || (row.expires_at !== null && Number(row.expires_at) <= clock.now())) return undefined
    const plain = sealer.open(Buffer.from(row.sealed as Uint8Array), context(providerId, issuer, redirectUri))
    const registration = registrationSchema.parse(JSON.parse(plain.toString('utf8')))
    return { registration, expiresAt: row.expires_at === null ? null : Number(row.expires_at) }
  }

  const stored = (providerId: string, issuer: string, redirectUri: string): OAuthClient | undefined => {
    const kept = open(providerId, issuer, redirectUri)
    return kept && asClient(kept.registration)
  }

  const register = async (
    provider: ClientSource,
    server: AuthorizationServer,
    redirectUri: string,
    outbound: Outbound,
  ): Promise<OAuthClient> => {
    const registration = await requestRegistration(
      server,
      { redirectUri, clientName: clientName(), grantTypes: provider.grantTypes ?? ownAccountGrants },
      outbound,
    )
    const client = asClient(registration)
    const expires = registration.client_secret_expires_at
    const sealed = seal(registration, provider.id, server.issuer, redirectUri)
    put.run(provider.id, server.issuer, redirectUri, sealed, clock.now(), expires ? expires * 1000 : null)
    return client
  }

  return {
    obtain: async (provider, server, redirectUri, outbound) => {
      const own = configured(provider, server)
      if (own) {
        pin(provider, server, own.clientId)
        return own
      }
      const document = documentUrl(provider.id)
      if (server.client_id_metadata_document_supported && document) return documented(document)
      const before = stored(provider.id, server.issuer, redirectUri)
      if (before) return before
      const key = JSON.stringify([provider.id, server.issuer, redirectUri])
      const turn =
        running.get(key) ??
        register(provider, server, redirectUri, outbound).finally(() => running.delete(key))
      running.set(key, turn)
      return turn
    },
    known: (provider, server, clientId) => {
      const own = configured(provider, server)
      if (own) return own.clientId === clientId ? own : undefined
      if (clientId === documentUrl(provider.id)) return documented(clientId)
      for (const row of selectServers.all(provider.id)) {
        if (row.authorization_server !== server.issuer || String(row.redirect_uri).startsWith('configured:'))
          continue
        const client = stored(provider.id, server.issuer, String(row.redirect_uri))
        if (client?.clientId === clientId) return client
      }
      return undefined
    },
    retire: (provider, { issuer }, clientId) =>
      transaction(db, () => {
        for (const row of selectServers.all(provider.id)) {
          const redirectUri = String(row.redirect_uri)
          if (row.authorization_server !== issuer || /^(configured|retired):/.test(redirectUri)) continue
          const kept = open(provider.id, issuer, redirectUri)
          if (kept?.registration.client_id !== clientId) continue
          const place = retired + clientId
          const sealed = seal(kept.registration, provider.id, issuer, place)
          drop.run(provider.id, issuer, redirectUri)
          put.run(provider.id, issuer, place, sealed, clock.now(), kept.expiresAt)
        }
        dropOldest.run(provider.id, issuer, provider.id, issuer)
      }),
  }
}

/** A client that is its document: the same at every authorization server, public, proved by PKCE and redirect URI. */
const documented = (clientId: string): OAuthClient => ({
  clientId,
  clientSecret: null,
  authMethod: 'none',
  dynamic: true,
})

interface RegistrationAsk {
  readonly redirectUri: string
  readonly clientName: string
  readonly grantTypes: readonly string[]
}

const ownAccountGrants = ['authorization_code', 'refresh_token']

async function requestRegistration(
  server: AuthorizationServer,
  { redirectUri, clientName, grantTypes }: RegistrationAsk,
  outbound: Outbound,
): Promise<Registration> {
  if (server.registration_endpoint === undefined) {
    throw new Fault('upstream.rejected', {
      detail: `${server.issuer} registers no clients by itself: register one there by hand and set clientId`,
    })
  }
  const response = await outbound.fetch(server.registration_endpoint, {
    method: 'POST',
    headers: { 'content-type': 'application/json', accept: 'application/json' },
    body: JSON.stringify({
      client_name: clientName,
      // MCP 2026-07-28: says that the redirect URI is a web server's.
      application_type: 'web',
      redirect_uris: [redirectUri],
      grant_types: grantTypes,
      response_types: ['code'],
      token_endpoint_auth_method: preferredMethod(server),
    }),
  })
  if (response.status !== 201 && response.status !== 200) {
    await response.body?.cancel().catch(() => {})
    throw new Fault('upstream.rejected', {
      detail: `${server.issuer} refused the registration (${response.status})`,
    })
  }
  const parsed = registrationSchema.safeParse(await response.json().catch(() => undefined))
  if (!parsed.success) {
    throw new Fault('upstream.garbage', { detail: `${server.issuer} answered no client information` })
  }
  return parsed.data
}

function asClient(registration: Registration): OAuthClient {
  const clientSecret = registration.client_secret ?? null
  const method = registration.token_endpoint_auth_method
  const authMethod =
    clientSecret === null || method === 'none'
      ? 'none'
      : method === 'client_secret_post'
        ? 'client_secret_post'
        : 'client_secret_basic'
  return { clientId: registration.client_id, clientSecret, authMethod, dynamic: true }
}

/** RFC 8414 §2: absent means client_secret_basic. */
function secretMethod(server: AuthorizationServer): 'client_secret_basic' | 'client_secret_post' {
  const methods = server.token_endpoint_auth_methods_supported ?? ['client_secret_basic']
  return !methods.includes('client_secret_basic') && methods.includes('client_secret_post')
    ? 'client_secret_post'
    : 'client_secret_basic'
}

function preferredMethod(server: AuthorizationServer): OAuthClient['authMethod'] {
  const methods = server.token_endpoint_auth_methods_supported ?? ['client_secret_basic']
  const secret = secretMethod(server)
  return methods.includes(secret) ? secret : 'none'
}
