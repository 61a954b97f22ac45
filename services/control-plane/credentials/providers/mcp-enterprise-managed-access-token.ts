import type { EnterpriseTokenConfig } from '../../config/schema.ts'
import { SignInNeeded } from '../idp-assertions.ts'
import { headersAnswer } from './present.ts'
import type { CredentialProvider, ProviderDeps } from './provider.ts'

/** The person's sign-in at their company opens the server; who has none, or one that ended, is given a link to sign in. */
export function createEnterpriseProvider(
  config: EnterpriseTokenConfig,
  { enterprise, tickets, origin }: Pick<ProviderDeps, 'enterprise' | 'tickets' | 'origin'>,
): CredentialProvider {
  return {
    issue: async ({ issuer, subject, claims, server, rejected, scope }) => {
      try {
        return headersAnswer(
          config.id,
          await enterprise.get({ config, server, subject, idp: claims.idp, rejected, scope }),
        )
      } catch (error) {
        if (!(error instanceof SignInNeeded)) throw error
        const ticket = tickets.make({ issuer, subject, serverId: server.id, providerId: config.id })
        return {
          kind: 'authorization_required',
          url: `${origin()}/connections/${encodeURIComponent(server.id)}/sign-in?ticket=${ticket.text}`,
          message: `Sign in again to use ${server.name}: open the link, then try again.`,
          elicitationId: ticket.id,
          reason: error.reason,
        }
      }
    },
  }
}
