import { createHash } from 'node:crypto'
import type { ApiKeyConfig } from '../../config/schema.ts'
import type { CredentialProvider } from './provider.ts'

/** One key for everyone whom policy lets through, in a header, with a scheme in front where there is one. */
export function createApiKeyProvider(config: ApiKeyConfig): CredentialProvider {
  return {
    issue: async ({ rejected }) => {
      const { name, value, scheme } = config.header
      const text = scheme === undefined ? value.reveal() : `${scheme} ${value.reveal()}`
      // There is no other key: giving it again would only repeat the refusal.
      if (rejected === createHash('sha256').update(text).digest('base64url')) {
        return { kind: 'denied', reason: 'credential_rejected' }
      }
      return {
        kind: 'headers',
        headers: [{ name, value: text }],
        expiresAt: null,
        credentialProviderId: config.id,
      }
    },
  }
}
