import type { UserTokenConfig } from '../../config/schema.ts'
import type { CredentialProvider, ProviderDeps } from './provider.ts'

/** Each person's own account at the server; who has none, or one that ended, is given a link to connect it. */
export function createUserTokenProvider(
  config: UserTokenConfig,
  { tokens, tickets, origin }: Pick<ProviderDeps, 'tokens' | 'tickets' | 'origin'>,
): CredentialProvider {
  return {
    issue: async ({ issuer, subject, server, rejected }) => {
      const key = { issuer, subject, serverId: server.id, providerId: config.id }
      const found = await tokens.get({ key, provider: config, server, rejected })
      if (typeof found === 'string') {
        const ticket = tickets.make(key)
        return {
          kind: 'authorization_required',
          url: `${origin()}/connections/${encodeURIComponent(server.id)}/connect?ticket=${ticket.text}`,
          message:
            found === 'missing'
              ? `Connect your ${server.name} account to use this server: open the link, then try again.`
              : `Your ${server.name} connection has ended. Open the link to connect it again, then try again.`,
          elicitationId: ticket.id,
        }
      }
      return {
        kind: 'headers',
        headers: [{ name: 'Authorization', value: `Bearer ${found.accessToken}` }],
        expiresAt: found.expiresAt === null ? null : new Date(found.expiresAt).toISOString(),
        credentialProviderId: config.id,
      }
    },
  }
}
