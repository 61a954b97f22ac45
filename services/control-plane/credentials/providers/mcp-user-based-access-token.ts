import { covers } from '../../../../shared/www-authenticate.ts'
import type { UserTokenConfig } from '../../config/schema.ts'
import { Refused } from '../issued.ts'
import type { OwnerNeeded } from '../user-tokens.ts'
import type { CredentialProvider, ProviderDeps } from './provider.ts'

/** Each person's own account at the server; who has none, or one that ended, is given a link to connect it. */
export function createUserTokenProvider(
  config: UserTokenConfig,
  { tokens, tickets, grantOf, origin }: Pick<ProviderDeps, 'tokens' | 'tickets' | 'grantOf' | 'origin'>,
): CredentialProvider {
  return {
    issue: async ({ issuer, subject, server, rejected, scope }) => {
      // What an administrator wrote down is all that may be asked for.
      if (scope !== undefined && config.scopes && !covers(config.scopes.join(' '), scope)) {
        throw new Refused('insufficient_scope')
      }
      const key = { issuer, subject, serverId: server.id, providerId: config.id }
      const grant = grantOf({ server, provider: config })
      const found = await tokens.get({ key, grant, rejected, scope })
      if ('needs' in found) {
        const ticket = tickets.make(key, found.needs === 'scope' ? found.scope : undefined)
        return {
          kind: 'authorization_required',
          url: `${origin()}/connections/${encodeURIComponent(server.id)}/connect?ticket=${ticket.text}`,
          message: message(found, server.name),
          elicitationId: ticket.id,
          reason: reasonOf(found),
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

function reasonOf(found: OwnerNeeded): string {
  if (found.needs === 'reconnect') return found.error
  return found.needs === 'scope' ? 'insufficient_scope' : 'not_connected'
}

function message({ needs }: OwnerNeeded, name: string): string {
  switch (needs) {
    case 'connect':
      return `Connect your ${name} account to use this server: open the link, then try again.`
    case 'reconnect':
      return `Your ${name} connection has ended. Open the link to connect it again, then try again.`
    case 'scope':
      return `${name} needs more permissions from your account for this. Open the link to give them, then try again.`
  }
}
