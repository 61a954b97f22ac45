import { createHash } from 'node:crypto'
import { type CredentialAnswer, credentialText } from '../../../../shared/wire/credential.ts'
import type { ProviderConfig } from '../../config/schema.ts'
import { Refused } from '../issued.ts'
import { headerValue } from './present.ts'
import type { CredentialProvider } from './provider.ts'

/** One key for everyone whom policy lets through, in a header or a query parameter. */
export function createApiKeyProvider({ id, header, query }: ProviderConfig<'apikey'>): CredentialProvider {
  const answer: CredentialAnswer = {
    kind: 'headers',
    headers: header ? [{ name: header.name, value: headerValue(header.value.reveal(), header) }] : [],
    ...(query ? { query: [{ name: query.name, value: query.value.reveal() }] } : {}),
    expiresAt: null,
    credentialProviderId: id,
  }
  return fixed(answer)
}

/** RFC 7617: one account for everyone whom policy lets through. */
export function createBasicProvider(config: ProviderConfig<'username-password'>): CredentialProvider {
  const { id, username, password } = config
  const value = `Basic ${Buffer.from(`${username}:${password.reveal()}`, 'utf8').toString('base64')}`
  return fixed({
    kind: 'headers',
    headers: [{ name: 'Authorization', value }],
    expiresAt: null,
    credentialProviderId: id,
  })
}

/** There is no other: giving it again would only repeat the refusal. */
function fixed(answer: CredentialAnswer): CredentialProvider {
  const digest = createHash('sha256').update(credentialText(answer)).digest('base64url')
  return {
    issue: async ({ rejected }) => {
      if (rejected === digest) throw new Refused('credential_rejected')
      return answer
    },
  }
}
