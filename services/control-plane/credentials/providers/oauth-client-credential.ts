import type { ProviderConfig } from '../../config/schema.ts'
import { requestOAuthToken } from '../token-endpoint.ts'
import { headersAnswer, issuedToken } from './present.ts'
import type { CredentialProvider, ProviderDeps } from './provider.ts'

/** The gateway's own account at an authorization server (RFC 6749 §4.4), the same for everyone whom policy lets through. */
export function createClientCredentialProvider(
  config: ProviderConfig<'oauth-client-credential'>,
  { issued, networks, clock }: Pick<ProviderDeps, 'issued' | 'networks' | 'clock'>,
): CredentialProvider {
  const { id, tokenUrl, clientId, clientSecret, scopes, credentialStyle, resource, customParameters } = config
  const outbound = networks.only(config.allowedNetworks)

  const make = async () => {
    const inHeader = credentialStyle === 'authHeader'
    const form = {
      ...Object.fromEntries(customParameters.map(({ key, value }) => [key, value])),
      grant_type: 'client_credentials',
      ...(scopes.length > 0 ? { scope: scopes.join(' ') } : {}),
      ...(resource === undefined ? {} : { resource }),
      ...(inHeader ? {} : { client_id: clientId, client_secret: clientSecret.reveal() }),
    }
    const headers: Record<string, string> = inHeader
      ? { authorization: basic(clientId, clientSecret.reveal()) }
      : {}
    const answer = await requestOAuthToken(outbound, { url: tokenUrl, form, headers })
    // RFC 6749 §5.1 only recommends expires_in; without one the server's 401 tells when it is over.
    const expiresAt = answer.expiresIn === null ? null : clock.now() + answer.expiresIn * 1000
    return issuedToken(answer.accessToken, expiresAt, config.header)
  }

  return {
    issue: async ({ rejected }) => headersAnswer(id, await issued.get({ config, whom: '', make, rejected })),
  }
}

/** RFC 6749 §2.3.1: both parts are form-encoded before they are joined. */
function basic(id: string, secret: string): string {
  const encode = (text: string): string => new URLSearchParams([['', text]]).toString().slice(1)
  return `Basic ${Buffer.from(`${encode(id)}:${encode(secret)}`).toString('base64')}`
}
