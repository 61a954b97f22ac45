import type { Provider } from 'oidc-provider'
import type { Clock } from '../../shared/clock.ts'
import { createIdentityAssertions, type IdentityAssertions } from './authorization/identity-assertions.ts'
import { createMetadataDocuments, documentLimits, hostAllowed } from './authorization/metadata-documents.ts'
import { createProvider, type ProviderDeps } from './authorization/provider.ts'
import type { Callback } from './authorization/routes.ts'
import type { AuthorizationSettings } from './authorization/settings.ts'
import type { Config } from './config/schema.ts'
import { createExternalProviders, type ExternalProviders } from './identity/externals.ts'
import { createGuardedFetch, type GuardedFetch } from './identity/guarded-fetch.ts'
import type { AssertionReplay } from './identity/saml/replay.ts'
import type { DatabaseSync } from './store/database.ts'
import type { Sealer } from './store/sealer.ts'

export interface RunningDeps extends Omit<ProviderDeps, 'settings' | 'documents' | 'assertions'> {
  readonly db: DatabaseSync
  readonly sealer: Sealer
  readonly clock: Clock
  readonly replay: AssertionReplay
  /** How OpenID providers and GitHub are reached; tests stand in for them. */
  readonly idpFetch?: (allowed: readonly string[]) => GuardedFetch
}

/** What the identity plane has of one configuration, and makes anew with the next. */
export interface Running {
  readonly config: Config
  readonly settings: AuthorizationSettings
  readonly provider: Provider
  readonly callback: Callback
  readonly externals: ExternalProviders
  readonly assertions: IdentityAssertions
  /** Everything with connections of its own. */
  readonly outbound: readonly { close(): Promise<void> }[]
}

/** Puts nothing in force. Throws Fault `config.invalid`. */
export async function createRunning(
  deps: RunningDeps,
  config: Config,
  settings: AuthorizationSettings,
): Promise<Running> {
  const { db, clock, log } = deps
  const assertions = createIdentityAssertions({ db, clock, config, ...settings })
  const documentFetch = createGuardedFetch(settings.clientDocuments.allowedNetworks, documentLimits)
  const documents = createMetadataDocuments({
    fetch: documentFetch,
    clock,
    log,
    allowed: (id) =>
      settings.clientDocuments.enabled &&
      (settings.clientDocumentUrls.has(id) || hostAllowed(id, settings.clientDocuments.allowedDomains)),
  })
  const provider = createProvider({ ...deps, settings, documents, assertions })
  const externals = await createExternalProviders(config.identityProviders, {
    db,
    sealer: deps.sealer,
    clock,
    issuer: settings.issuer,
    replay: deps.replay,
    fetch: deps.idpFetch,
  })
  const handler = provider.callback()
  const callback: Callback = async (request, response) => void (await handler(request, response))
  const outbound = [...externals.byId.values(), assertions, documentFetch]
  return { config, settings, provider, callback, externals, assertions, outbound }
}
