import { apiAudience } from '../../config/fields.ts'
import type { ProviderConfig } from '../../config/schema.ts'
import { headersAnswer, issuedToken } from './present.ts'
import type { CredentialProvider, ProviderDeps } from './provider.ts'

/** A token for our own administration API, for an MCP server that works on it. */
export function createAembitTokenProvider(
  config: ProviderConfig<'aembit-access-token'>,
  { issued, own, origin }: Pick<ProviderDeps, 'issued' | 'own' | 'origin'>,
): CredentialProvider {
  const { id, roleId, lifetime } = config
  const make = async () => {
    const { token, expiresAt } = await own.make(
      {
        subject: `credential-provider:${id}`,
        subjectType: 'literal',
        audience: apiAudience(origin()),
        algorithmType: 'ES256',
        lifetime,
        customClaims: [{ key: 'role_id', value: roleId, valueType: 'literal' }],
      },
      {},
    )
    return issuedToken(token, expiresAt)
  }
  return {
    issue: async ({ rejected }) => headersAnswer(id, await issued.get({ config, whom: '', make, rejected })),
  }
}
