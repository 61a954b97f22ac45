import type { ProviderConfig } from '../../config/schema.ts'
import { whomOf } from '../own-tokens.ts'
import { requestOAuthToken } from '../token-endpoint.ts'
import { headersAnswer, issuedToken } from './present.ts'
import type { CredentialProvider, ProviderDeps } from './provider.ts'

const assertionSecs = 300
/** Entra always says how long; should it not, this is the least it gives. */
const leastSecs = 300

/** Microsoft Entra workload identity federation: client credentials with a JWT of our own as client assertion (RFC 7523). */
export function createEntraProvider(
  config: ProviderConfig<'azure-entra-federation'>,
  { issued, own, networks, clock }: Pick<ProviderDeps, 'issued' | 'own' | 'networks' | 'clock'>,
): CredentialProvider {
  const { id, azureTenant, clientId, scope, authorityUrl } = config
  const url = `${authorityUrl.replace(/\/$/, '')}/${azureTenant}/oauth2/v2.0/token`
  const outbound = networks.only(config.allowedNetworks)

  return {
    issue: async (ask) => {
      const { claims, rejected } = ask
      const make = async () => {
        // Entra verifies RS256 alone.
        const spec = { ...config, algorithmType: 'RS256' as const, lifetime: assertionSecs }
        const { token } = await own.make(spec, claims)
        const { accessToken, expiresIn } = await requestOAuthToken(outbound, {
          url,
          form: {
            grant_type: 'client_credentials',
            client_id: clientId,
            scope,
            client_assertion_type: 'urn:ietf:params:oauth:client-assertion-type:jwt-bearer',
            client_assertion: token,
          },
        })
        return issuedToken(accessToken, clock.now() + (expiresIn ?? leastSecs) * 1000)
      }
      return headersAnswer(id, await issued.get({ config, whom: whomOf(config, ask), make, rejected }))
    },
  }
}
