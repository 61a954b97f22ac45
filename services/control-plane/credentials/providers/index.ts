import type { CredentialProviderConfig } from '../../config/schema.ts'
import { createApiKeyProvider } from './apikey.ts'
import { createUserTokenProvider, type UserTokenProviderDeps } from './mcp-user-based-access-token.ts'
import { createNoneProvider } from './none.ts'
import type { CredentialProvider } from './provider.ts'

/** A provider of the configuration, ready to issue. They hold nothing, so that a reload has nothing to hand over. */
export function createProvider(
  config: CredentialProviderConfig,
  deps: UserTokenProviderDeps,
): CredentialProvider {
  switch (config.type) {
    case 'none':
      return createNoneProvider()
    case 'apikey':
      return createApiKeyProvider(config)
    case 'mcp-user-based-access-token':
      return createUserTokenProvider(config, deps)
  }
}
