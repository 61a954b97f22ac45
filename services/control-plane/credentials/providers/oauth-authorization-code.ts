import { Refused } from '../issued.ts'
import { type SharedConfig, sharedKey } from '../shared-account.ts'
import { headersAnswer, issuedToken } from './present.ts'
import type { CredentialProvider, ProviderDeps } from './provider.ts'

/** One account for everyone whom policy lets through; an administrator authorized it and has to do so again when it ends. */
export function createSharedAccountProvider(
  config: SharedConfig,
  { tokens, shared, clock }: Pick<ProviderDeps, 'tokens' | 'shared' | 'clock'>,
): CredentialProvider {
  return {
    issue: async ({ rejected }) => {
      const stored = shared.find(config)
      if (!stored) throw new Refused('not_authorized')
      if (stored.connectedAt + config.lifetime * 1000 <= clock.now())
        throw new Refused('authorization_expired')
      const found = await tokens.get({ key: sharedKey(config.id), grant: shared.grantOf(config), rejected })
      if ('needs' in found) {
        throw new Refused(
          found.needs === 'reconnect' ? `authorization_ended (${found.error})` : 'not_authorized',
        )
      }
      return headersAnswer(config.id, issuedToken(found.accessToken, found.expiresAt, config.header))
    },
  }
}
