import type { Clock } from '../../../shared/clock.ts'
import { Fault } from '../../../shared/faults.ts'
import type { IdentityProviderConfig } from '../config/schema.ts'
import type { DatabaseSync } from '../store/database.ts'
import type { Sealer } from '../store/sealer.ts'
import { createGithubProvider } from './github.ts'
import type { GuardedFetch } from './guarded-fetch.ts'
import { checkClientKey, createExternalProvider } from './oidc.ts'
import { type ServiceKey, serviceKey } from './saml/key.ts'
import { createSamlProvider, type SamlProvider } from './saml/provider.ts'
import type { AssertionReplay } from './saml/replay.ts'
import type { ExternalProvider } from './types.ts'

export interface ExternalsDeps {
  readonly db: DatabaseSync
  readonly sealer: Sealer
  readonly clock: Clock
  readonly issuer: string
  readonly replay: AssertionReplay
  readonly fetch: ((allowed: readonly string[]) => GuardedFetch) | undefined
}

export interface ExternalProviders {
  readonly byId: ReadonlyMap<string, ExternalProvider>
  /** Our metadata document for a SAML provider; undefined for any other id. */
  samlMetadata(id: string): Promise<string> | undefined
}

/** Everything of a configuration that people sign in at, besides our directory. Throws Fault `config.invalid`. */
export async function createExternalProviders(
  configs: readonly IdentityProviderConfig[],
  { db, sealer, clock, issuer, replay, fetch }: ExternalsDeps,
): Promise<ExternalProviders> {
  const byId = new Map<string, ExternalProvider>()
  const saml = new Map<string, SamlProvider>()
  let made: Promise<ServiceKey> | undefined
  const key = (): Promise<ServiceKey> => (made ??= serviceKey(db, sealer, clock))
  for (const config of configs) {
    if (config.type === 'oidc') {
      await checkClientKey(config)
      byId.set(config.id, createExternalProvider(config, clock, fetch))
    } else if (config.type === 'oauth2') {
      byId.set(config.id, createGithubProvider(config, fetch))
    } else if (config.type === 'saml') {
      const provider = await createSamlProvider(config, { clock, key, replay, issuer }).catch(
        (error: unknown) => {
          throw new Fault('config.invalid', {
            detail: `identityProviders: metadataXml of ${config.id} ${error instanceof Error ? error.message : String(error)}`,
            cause: error,
          })
        },
      )
      saml.set(config.id, provider)
      byId.set(config.id, provider)
    }
  }
  return { byId, samlMetadata: (id) => saml.get(id)?.serviceMetadata() }
}
