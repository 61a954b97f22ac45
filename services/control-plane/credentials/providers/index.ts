import type { CredentialProviderConfig } from '../../config/schema.ts'
import { createAembitTokenProvider } from './aembit-access-token.ts'
import { createApiKeyProvider, createBasicProvider } from './apikey.ts'
import { createAwsProvider } from './aws-sts-oidc.ts'
import { createEntraProvider } from './azure-entra-federation.ts'
import { createGoogleProvider } from './gcp-identity-federation.ts'
import { createEnterpriseProvider } from './mcp-enterprise-managed-access-token.ts'
import { createUserTokenProvider } from './mcp-user-based-access-token.ts'
import { createNoneProvider } from './none.ts'
import { createSharedAccountProvider } from './oauth-authorization-code.ts'
import { createClientCredentialProvider } from './oauth-client-credential.ts'
import { createIdTokenProvider } from './oidc-id-token.ts'
import type { CredentialProvider, ProviderDeps } from './provider.ts'
import { createVaultProvider } from './vault-client-token.ts'

/** A provider of the configuration, ready to issue. They hold nothing, so that a reload has nothing to hand over. */
export function createProvider(config: CredentialProviderConfig, deps: ProviderDeps): CredentialProvider {
  switch (config.type) {
    case 'none':
      return createNoneProvider()
    case 'apikey':
      return createApiKeyProvider(config)
    case 'username-password':
      return createBasicProvider(config)
    case 'mcp-user-based-access-token':
      return createUserTokenProvider(config, deps)
    case 'mcp-enterprise-managed-access-token':
      return createEnterpriseProvider(config, deps)
    case 'oauth-authorization-code':
      return createSharedAccountProvider(config, deps)
    case 'oauth-client-credential':
      return createClientCredentialProvider(config, deps)
    case 'oidc-id-token':
    case 'jwt-svid-token':
      return createIdTokenProvider(config, deps)
    case 'aembit-access-token':
      return createAembitTokenProvider(config, deps)
    case 'vaultClientToken':
      return createVaultProvider(config, deps)
    case 'aws-sts-oidc':
      return createAwsProvider(config, deps)
    case 'gcp-identity-federation':
      return createGoogleProvider(config, deps)
    case 'azure-entra-federation':
      return createEntraProvider(config, deps)
  }
}
