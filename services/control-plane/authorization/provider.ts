import { type Adapter, type Configuration, errors, type KoaContextWithOIDC, Provider } from 'oidc-provider'
import type { Logger } from '../../../shared/log.ts'
import type { RevocationMatch } from '../../../shared/revocations.ts'
import type { AccessEvents } from '../events/access.ts'
import type { AuditLog } from '../events/audit.ts'
import type { Refuse } from '../events/refusals.ts'
import type { Accounts } from '../identity/accounts.ts'
import { sessionCookie, sessionTtlSecs } from '../identity/browser-session.ts'
import type { CookieJar } from '../identity/cookies.ts'
import type { GuardedFetch } from '../identity/guarded-fetch.ts'
import { clientSubject, isClientSubject } from '../identity/types.ts'
import { pageHeaders, renderPage } from '../pages/layout.ts'
import { expiredPage, messagePage } from '../pages/message.ts'
import type { ArtefactStore } from './adapter.ts'
import { createAdmission } from './admission.ts'
import { staticClients } from './clients.ts'
import { logEvents } from './event-log.ts'
import type { IssuancePolicy } from './gate.ts'
import type { Grants } from './grants.ts'
import type { IdentityAssertions } from './identity-assertions.ts'
import type { SigningKeys } from './keys.ts'
import { registerIdentityAssertionGrant } from './machine-grants.ts'
import type { MetadataDocuments } from './metadata-documents.ts'
import { carriedBy } from './presented.ts'
import { existingGrant, promptPolicy } from './prompts.ts'
import { type AuthorizationSettings, identityScopes, resourceServer } from './settings.ts'

export interface ProviderDeps {
  readonly settings: AuthorizationSettings
  readonly keys: SigningKeys
  readonly store: ArtefactStore
  readonly grants: Grants
  readonly accounts: Accounts
  readonly policy: () => IssuancePolicy
  readonly cookies: CookieJar
  readonly fetch: GuardedFetch
  readonly documents: MetadataDocuments
  readonly assertions: IdentityAssertions
  readonly audit: Pick<AuditLog, 'add'>
  readonly refuse: Refuse
  readonly events: Pick<AccessEvents, 'add'>
  /** Tells every gateway to refuse what matches. */
  readonly revoke: (match: RevocationMatch) => Promise<void>
  readonly log: Logger
}

/** How long a client that someone signed in with is kept after its last use, beside its longest refresh token. */
const usedClientMs = 400 * 86_400_000
const codeSecs = 60
/** How long a sign-in may take from the agent's link to the answer. */
const interactionSecs = 15 * 60

export const routes = {
  authorization: '/connect/authorize',
  token: '/connect/token',
  registration: '/register',
  revocation: '/connect/revocation',
  introspection: '/connect/introspection',
  jwks: '/.well-known/openid-configuration/jwks',
} as const

/** The authorization server: oidc-provider with everything that is not the main job switched off. */
export function createProvider(deps: ProviderDeps): Provider {
  const { settings, keys, store, accounts, cookies } = deps
  const { issuer, resource } = settings
  const admission = createAdmission(deps)
  const cookie = { httpOnly: true, sameSite: 'lax', secure: cookies.secure, signed: false } as const
  // `__Host-` wants the path /, and these two live under one path each, so that several sign-ins can run side by side.
  const scoped = (name: string): string => (cookies.secure ? `__Secure-${name}` : name)

  /** Access tokens are JWTs that nobody stores: what is shown is looked at, what is destroyed is told to gateways. */
  const tokensOf = (model: string, stored: Adapter): Adapter => ({
    ...stored,
    find: async (id) => carriedBy(Provider.ctx?.req, model, id),
    destroy: (id) => deps.revoke({ jti: id }),
    revokeByGrantId: (grant) => deps.revoke({ grant }),
  })

  const configuration: Configuration = {
    adapter: (model: string) => {
      const stored = store.adapter(model)
      if (model === 'AccessToken' || model === 'ClientCredentials') return tokensOf(model, stored)
      if (model !== 'Client') return stored
      return { ...stored, find: async (id) => (await stored.find(id)) ?? deps.documents.find(id) }
    },
    jwks: keys.privateJwks() as Configuration['jwks'],
    clients: staticClients(settings),
    routes,
    scopes: [...settings.resourceScopes, ...identityScopes],
    claims: { openid: ['sub'], profile: ['name', 'groups'], email: ['email'] },
    responseTypes: ['code'],
    clientAuthMethods: ['none', 'client_secret_basic', 'client_secret_post', 'private_key_jwt'],
    clientDefaults: { id_token_signed_response_alg: settings.signingAlgorithm },
    enabledJWA: {
      clientAuthSigningAlgValues: ['RS256', 'PS256', 'ES256', 'EdDSA'],
      idTokenSigningAlgValues: ['RS256', 'ES256'],
    },
    pkce: { required: () => true },
    // Public clients can not keep a secret, and a replay must be seen: every refresh token is used once (OAuth 2.1 §4.3.1).
    rotateRefreshToken: (ctx) => {
      // Before anything is spent, so that a policy that lets the person in again lets this token live on.
      admission.admit(ctx.oidc.entities.RefreshToken ?? {})
      return true
    },
    issueRefreshToken: async (_ctx, client) => client.grantTypeAllowed('refresh_token'),
    expiresWithSession: async () => false,
    findAccount: async (_ctx, subject) => {
      const identity = accounts.find(subject)
      if (isClientSubject(subject)) return { accountId: subject, claims: async () => ({ sub: subject }) }
      return (
        identity && {
          accountId: subject,
          claims: async () => ({
            sub: subject,
            groups: [...identity.groups],
            ...(identity.email === undefined ? {} : { email: identity.email }),
            ...(identity.name === undefined ? {} : { name: identity.name }),
          }),
        }
      )
    },
    extraTokenClaims: async (_ctx, token) => admission.claims(token),
    formats: {
      customizers: {
        jwt: (_ctx, token, parts) => {
          if (token.kind === 'ClientCredentials') parts.payload.sub = clientSubject(token.clientId!)
        },
      },
    },
    loadExistingGrant: async (ctx) => existingGrant(deps, ctx),
    interactions: { policy: promptPolicy(deps), url: (_ctx, { uid }) => `/interaction/${uid}` },
    clientBasedCORS: (_ctx, origin, client) =>
      (client.redirectUris ?? []).some((uri) => URL.parse(uri)?.origin === origin),
    cookies: {
      names: {
        session: cookies.name(sessionCookie),
        interaction: scoped('interaction'),
        resume: scoped('resume'),
      },
      long: cookie,
      short: cookie,
    },
    ttl: {
      AccessToken: (_ctx, token) => token.resourceServer?.accessTokenTTL ?? settings.accessTokenSecs,
      ClientCredentials: settings.accessTokenSecs,
      AuthorizationCode: codeSecs,
      IdToken: settings.accessTokenSecs,
      Interaction: interactionSecs,
      Session: sessionTtlSecs,
      Grant: settings.refreshTokenSecs + settings.accessTokenSecs,
      // Absolute: a rotated token inherits what is left of the first one's life.
      RefreshToken: (ctx) => ctx.oidc.entities.RotatedRefreshToken?.remainingTTL ?? settings.refreshTokenSecs,
    },
    fetch: (url, options) => deps.fetch(String(url), options as unknown as Record<string, unknown>),
    features: {
      devInteractions: { enabled: false },
      dPoP: { enabled: false },
      pushedAuthorizationRequests: { enabled: false },
      rpInitiatedLogout: { enabled: false },
      userinfo: { enabled: false },
      registration: { enabled: settings.dynamicRegistration, issueRegistrationAccessToken: false },
      clientCredentials: { enabled: settings.clientCredentials },
      revocation: {
        enabled: true,
        allowedPolicy: (_ctx, client, token) => token.clientId === client.clientId,
      },
      introspection: {
        enabled: true,
        // RFC 7662 §2.1: who asks has to prove itself, else tokens could be tried out here.
        allowedPolicy: (_ctx, client, token) =>
          client.clientAuthMethod !== 'none' &&
          (token.clientId === client.clientId ||
            settings.clients.some((known) => known.introspection && known.clientId === client.clientId)),
      },
      resourceIndicators: {
        enabled: true,
        defaultResource: () => resource,
        useGrantedResource: () => true,
        getResourceServerInfo: (_ctx, indicator) => {
          if (indicator !== resource) throw new errors.InvalidTarget('the resource is not one of this server')
          return resourceServer(settings)
        },
      },
    },
    renderError: async (ctx, out) => {
      ctx.set(pageHeaders)
      const stale = ctx.oidc?.route === 'resume'
      ctx.body = renderPage(
        stale
          ? expiredPage
          : messagePage({
              title: 'This sign-in can not go on',
              text: 'The agent sent a request that this gateway refuses, so nothing was signed in or shared.',
              advice: `What was wrong: ${out.error_description ?? out.error}.`,
              reference: out.error,
            }),
      )
    },
  }

  const provider = new Provider(issuer, configuration)
  // Only the gateway's own proxy can open our socket, and it replaces what a client says in these headers.
  provider.proxy = true
  if (settings.identityAssertions) registerIdentityAssertionGrant(provider, deps)
  provider.use(async (ctx: KoaContextWithOIDC, next: () => Promise<void>) => {
    await next()
    const route = ctx.oidc?.route
    if (route === 'discovery' && typeof ctx.body === 'object') {
      Object.assign(ctx.body as object, {
        response_modes_supported: ['query'],
        protected_resources: [resource],
        ...(settings.clientDocuments.enabled ? { client_id_metadata_document_supported: true } : {}),
        // Enterprise-managed authorization: which kind of assertion the jwt-bearer grant takes.
        ...(settings.identityAssertions
          ? { authorization_grant_profiles_supported: ['urn:ietf:params:oauth:grant-profile:id-jag'] }
          : {}),
      })
    }
    if (route === 'token' && ctx.status === 200) {
      const rotated = ctx.oidc.entities.RotatedRefreshToken
      const newest = rotated && store.successorOf(rotated.jti)
      if (newest !== undefined) Object.assign(ctx.body as object, { refresh_token: newest })
      if (ctx.oidc.client) store.keepClient(ctx.oidc.client.clientId, usedClientMs)
    }
  })
  logEvents(provider, deps)
  return provider
}
