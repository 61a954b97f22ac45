import type { FastifyInstance } from 'fastify'
import type { Clock } from '../../shared/clock.ts'
import type { Logger } from '../../shared/log.ts'
import type { CredentialAnswer, CredentialRequest } from '../../shared/wire/credential.ts'
import type { SigningKeys } from './authorization/keys.ts'
import { documentUrl, registerClientDocuments } from './credentials/client-documents.ts'
import { registerCompanySignIn } from './credentials/company-sign-in.ts'
import { registerConnections } from './credentials/connect-routes.ts'
import { createConnectStates } from './credentials/connect-states.ts'
import { configuredTarget } from './credentials/connection-list.ts'
import { createConnections } from './credentials/connections.ts'
import { createEnterpriseTokens } from './credentials/enterprise-tokens.ts'
import { createIdpAssertions } from './credentials/idp-assertions.ts'
import { createCredentialIssuer, type People } from './credentials/issue.ts'
import { createIssuedCredentials } from './credentials/issued.ts'
import { createNetworks } from './credentials/networks.ts'
import { createOAuthClients } from './credentials/oauth-clients.ts'
import { createOwnTokens } from './credentials/own-tokens.ts'
import { createProvider } from './credentials/providers/index.ts'
import { createRenewal } from './credentials/renewal.ts'
import { createSharedAccounts } from './credentials/shared-account.ts'
import { registerSharedAccounts, type SharedAdministration } from './credentials/shared-routes.ts'
import { createTickets } from './credentials/tickets.ts'
import { createUserTokens } from './credentials/user-tokens.ts'
import { createVault, type StoredCredential } from './credentials/vault.ts'
import type { AccessEvents } from './events/access.ts'
import type { AuditLog } from './events/audit.ts'
import type { CredentialChanges } from './fleet/credential-changes.ts'
import type { SnapshotSource } from './fleet/snapshots.ts'
import type { BrowserSessions } from './identity/browser-session.ts'
import type { BrowserBinding } from './identity/csrf.ts'
import type { IdpTokenStore } from './identity/idp-tokens.ts'
import type { ExternalProvider } from './identity/types.ts'
import type { CircumstancesOf } from './policy/issuance.ts'
import type { DatabaseSync } from './store/database.ts'
import type { Sealer } from './store/sealer.ts'

export interface CredentialPlaneDeps {
  readonly db: DatabaseSync
  readonly sealer: Sealer
  readonly clock: Clock
  readonly log: Logger
  readonly snapshots: SnapshotSource
  readonly changes: CredentialChanges
  readonly people: People
  readonly sessions: BrowserSessions
  readonly browser: BrowserBinding
  /** What people's sign-ins at external providers gave, and those providers. */
  readonly idpTokens: IdpTokenStore
  readonly externals: () => ReadonlyMap<string, ExternalProvider>
  readonly circumstances: CircumstancesOf
  /** The keys that tokens of our own are signed with. */
  readonly keys: Pick<SigningKeys, 'privateJwks'>
  /** 0 ≤ random() < 1; spreads refreshes. */
  readonly random?: () => number
  /** Where `access.credential` events go. */
  readonly events: Pick<AccessEvents, 'add'>
  readonly audit: Pick<AuditLog, 'add'>
}

export interface CredentialPlane {
  /** POST /gateway/v1/credentials. */
  issue(request: CredentialRequest): Promise<CredentialAnswer>
  /** The pages on which people connect their accounts. */
  register(app: FastifyInstance): void
  /** Shared accounts, for the administration API; undefined before `register`. */
  shared(): SharedAdministration | undefined
  /** The person signed out: gateways drop what their sign-in gave. */
  signedOut(subject: string): void
  /** Renews tokens that end soon and are in use; to be called every few seconds. */
  renew(): Promise<void>
  /** Deletes what has expired. */
  sweep(): void
  close(): Promise<void>
}

/** What agents get in with at servers, and the pages where people give it. Follows the configuration by itself. */
export function createCredentialPlane(deps: CredentialPlaneDeps): CredentialPlane {
  const {
    db,
    sealer,
    clock,
    log,
    snapshots,
    changes,
    people,
    sessions,
    browser,
    idpTokens,
    externals,
    keys,
    circumstances,
    events,
    audit,
    random = Math.random,
  } = deps
  /** Browsers know us by the authorization server's origin: in single-name mode also the gateway's. */
  const origin = (): string => new URL(snapshots.current().config.authorizationServer.issuer).origin
  const clientName = (): string => `MCP Identity Gateway (${snapshots.current().config.tenant.name})`

  const vault = createVault(db, sealer, clock)
  const tickets = createTickets(db, sealer, clock)
  const states = createConnectStates(db, sealer, clock)
  const clients = createOAuthClients(db, sealer, clock, clientName, (id) => {
    const provider = snapshots.current().config.credentialProviders.find((each) => each.id === id)
    return provider && documentUrl(origin(), provider)
  })
  const networks = createNetworks()
  const noted = (activity: string) => (stored: StoredCredential, reason: string) =>
    audit.add({
      category: 'CredentialProvider',
      activity,
      actor: { type: 'User', displayName: stored.subject === '' ? 'everyone' : stored.subject },
      target: stored.serverId === '' ? stored.providerId : stored.serverId,
      outcome: 'Failure',
      severity: 'Warn',
      detail: { credentialProviderId: stored.providerId, reason },
    })
  const tokens = createUserTokens({
    vault,
    changes,
    clock,
    random,
    log,
    ended: noted('Connection ended'),
    failing: noted('Token renewal fails'),
  })
  const issued = createIssuedCredentials(clock, random)
  const issuer = (): string => snapshots.current().config.authorizationServer.issuer
  const own = createOwnTokens({ issuer, keys: () => keys.privateJwks().keys, clock })
  const shared = createSharedAccounts({ vault, states, clients, networks, origin, clock, log })
  const assertions = createIdpAssertions({ store: idpTokens, externals, clock, log })
  const enterprise = createEnterpriseTokens({
    assertions,
    clients,
    networks,
    issued,
    clock,
    origin,
  })
  let administration: SharedAdministration | undefined
  const connections = createConnections({ vault, states, clients, networks, changes, origin, clock, log })
  const renewal = createRenewal({
    vault,
    tokens,
    grantOf: (stored) => {
      if (stored.subject === '') {
        const { credentialProviders } = snapshots.current().config
        const config = credentialProviders.find(({ id }) => id === stored.providerId)
        return config?.type === 'oauth-authorization-code' ? shared.grantOf(config) : undefined
      }
      if (!people.find(stored.subject)) return undefined
      const target = configuredTarget(snapshots, stored.serverId, stored.providerId)
      return target && connections.grantOf(target)
    },
  })
  return {
    issue: createCredentialIssuer({
      snapshots,
      people,
      circumstances,
      provider: (config) =>
        createProvider(config, {
          shared,
          enterprise,
          tokens,
          tickets,
          grantOf: connections.grantOf,
          issued,
          own,
          networks,
          clock,
          origin,
        }),
      events,
      clock,
      log,
    }),
    register: (app) => {
      administration = registerSharedAccounts(app, {
        shared,
        enterprise,
        snapshots,
        browser,
        sessions,
        tickets,
        audit,
        origin,
        log,
      })
      registerClientDocuments(app, { snapshots, origin, clientName })
      const signIns = registerCompanySignIn(app, {
        sessions,
        browser,
        people,
        snapshots,
        assertions,
        tickets,
        circumstances,
      })
      registerConnections(app, {
        signIns,
        sessions,
        browser,
        people,
        snapshots,
        connections,
        tickets,
        circumstances,
        audit,
        log,
      })
    },
    shared: () => administration,
    renew: () => renewal.tick(),
    signedOut: (subject) => {
      const { config } = snapshots.current()
      const opened = config.credentialProviders.filter(
        ({ type }) => type === 'mcp-enterprise-managed-access-token',
      )
      const servers = config.accessPolicies.filter(({ credentialProvider }) =>
        opened.some(({ id }) => id === credentialProvider),
      )
      for (const serverId of new Set(servers.map(({ server }) => server))) {
        changes.publish({ issuer: issuer(), subject, serverId })
      }
    },
    sweep: () => {
      tickets.sweep()
      states.sweep()
    },
    close: () => networks.close(),
  }
}
