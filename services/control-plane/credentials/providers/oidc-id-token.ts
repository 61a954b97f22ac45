import { isSpiffeId } from '../../../../shared/spiffe.ts'
import type { ProviderConfig } from '../../config/schema.ts'
import { whomOf } from '../own-tokens.ts'
import { headersAnswer, issuedToken } from './present.ts'
import type { CredentialProvider, ProviderDeps } from './provider.ts'

type Deps = Pick<ProviderDeps, 'issued' | 'own'>

/**
 * A JWT of our own, which the server verifies by the keys that our issuer publishes: an ID token, or a JWT-SVID, which is
 * one whose subject is a SPIFFE ID (SPIFFE JWT-SVID §3).
 */
export function createIdTokenProvider(
  config: ProviderConfig<'oidc-id-token'> | ProviderConfig<'jwt-svid-token'>,
  { issued, own }: Deps,
): CredentialProvider {
  return {
    issue: async (ask) => {
      const make = async () => {
        const fits = config.type === 'jwt-svid-token' ? isSpiffeId : undefined
        const { token, expiresAt } = await own.make({ ...config, fits }, ask.claims)
        return issuedToken(token, expiresAt, config.header)
      }
      return headersAnswer(
        config.id,
        await issued.get({ config, whom: whomOf(config, ask), make, rejected: ask.rejected }),
      )
    },
  }
}
