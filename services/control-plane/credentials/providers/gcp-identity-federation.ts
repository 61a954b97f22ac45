import { z } from 'zod'
import type { ProviderConfig } from '../../config/schema.ts'
import { whomOf } from '../own-tokens.ts'
import { parseJson, requestOAuthToken, requestToken } from '../token-endpoint.ts'
import { headersAnswer, issuedToken } from './present.ts'
import type { CredentialProvider, ProviderDeps } from './provider.ts'

const serviceAccountAnswer = z.object({
  accessToken: z.string().regex(/^[\x21-\x7e]{1,16384}$/),
  expireTime: z.iso.datetime({ offset: true }),
})
const assertionSecs = 300
const cloudPlatform = 'https://www.googleapis.com/auth/cloud-platform'

/**
 * Google Cloud workload identity federation: a JWT of our own for a federated token (RFC 8693), and that one for the
 * token of a service account where one is named (iamcredentials generateAccessToken).
 */
export function createGoogleProvider(
  config: ProviderConfig<'gcp-identity-federation'>,
  { issued, own, networks, clock }: Pick<ProviderDeps, 'issued' | 'own' | 'networks' | 'clock'>,
): CredentialProvider {
  const { id, audience, serviceAccount, scopes, lifetime, stsUrl, iamCredentialsUrl } = config
  const outbound = networks.only(config.allowedNetworks)

  return {
    issue: async (ask) => {
      const { claims, rejected } = ask
      const make = async () => {
        // The pool's provider takes its own resource name, with the scheme, as the audience unless told otherwise.
        const assertion = await own.make(
          {
            ...config,
            audience: audience.startsWith('//') ? `https:${audience}` : audience,
            lifetime: assertionSecs,
          },
          claims,
        )
        const federated = await requestOAuthToken(outbound, {
          url: stsUrl,
          form: {
            grant_type: 'urn:ietf:params:oauth:grant-type:token-exchange',
            audience,
            scope: serviceAccount === undefined ? scopes.join(' ') : cloudPlatform,
            requested_token_type: 'urn:ietf:params:oauth:token-type:access_token',
            subject_token_type: 'urn:ietf:params:oauth:token-type:jwt',
            subject_token: assertion.token,
          },
        })
        if (serviceAccount === undefined) {
          const { accessToken, expiresIn } = federated
          return issuedToken(accessToken, clock.now() + (expiresIn ?? assertionSecs) * 1000)
        }
        const url = `${iamCredentialsUrl.replace(/\/$/, '')}/v1/projects/-/serviceAccounts/${encodeURIComponent(serviceAccount)}:generateAccessToken`
        const text = await requestToken(outbound, {
          url,
          json: { scope: scopes, lifetime: `${lifetime}s` },
          headers: { authorization: `Bearer ${federated.accessToken}` },
        })
        const { accessToken, expireTime } = parseJson(text, serviceAccountAnswer, url)
        return issuedToken(accessToken, Date.parse(expireTime))
      }
      return headersAnswer(id, await issued.get({ config, whom: whomOf(config, ask), make, rejected }))
    },
  }
}
