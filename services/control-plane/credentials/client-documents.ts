import type { FastifyInstance } from 'fastify'
import type { CredentialProviderConfig } from '../config/schema.ts'
import type { SnapshotSource } from '../fleet/snapshots.ts'
import { callbackUrl } from './connections.ts'

export interface ClientDocumentDeps {
  readonly snapshots: SnapshotSource
  readonly origin: () => string
  readonly clientName: () => string
}

type DocumentRoute = { Params: { credentialProviderId: string } }

/**
 * Our client metadata documents (draft-ietf-oauth-client-id-metadata-document): the client id of a provider is the
 * address of its document, the same at every authorization server. No secret and no key: PKCE and the one redirect URI
 * prove who we are, and every server that takes such documents takes public clients.
 */
export function registerClientDocuments(
  app: FastifyInstance,
  { snapshots, origin, clientName }: ClientDocumentDeps,
): void {
  app.get<DocumentRoute>('/mcp-auth/userauth/:credentialProviderId/client.json', (request, reply) => {
    const id = request.params.credentialProviderId
    const { credentialProviders } = snapshots.current().config
    const provider = credentialProviders.find((each) => each.id === id)
    if (!provider || documentUrl(origin(), provider) === undefined) return reply.callNotFound()
    return reply
      .headers({ 'cache-control': 'public, max-age=3600', 'x-content-type-options': 'nosniff' })
      .type('application/json')
      .send({
        client_id: addressOf(origin(), id),
        client_name: clientName(),
        client_uri: origin(),
        application_type: 'web',
        redirect_uris: [callbackUrl(origin(), id)],
        grant_types: ['authorization_code', 'refresh_token'],
        response_types: ['code'],
        token_endpoint_auth_method: 'none',
      })
  })
}

const addressOf = (origin: string, providerId: string): string =>
  `${origin}/mcp-auth/userauth/${encodeURIComponent(providerId)}/client.json`

/**
 * Undefined where the configuration names a client or wants none of this, and on plain http, which is a loopback mode:
 * no authorization server elsewhere could fetch it.
 */
export function documentUrl(origin: string, provider: CredentialProviderConfig): string | undefined {
  if (provider.type !== 'mcp-user-based-access-token' || !provider.clientIdMetadataDocument) return undefined
  return provider.clientId === undefined && origin.startsWith('https:')
    ? addressOf(origin, provider.id)
    : undefined
}
