import { type Adapter, type Configuration, errors, type KoaContextWithOIDC, Provider } from 'oidc-provider'
import type { Logger } from '../../../shared/log.ts'
import type { RevocationMatch } from '../../../shared/revocations.ts'
import { authorizationChainClaim } from '../../../shared/wire/event.ts'
import type { AccessEvents } from '../events/access.ts'
import type { AuditLog } from '../events/audit.ts'
import type { Refuse } from '../events/refusals.ts'
import type { Accounts } from '../identity/accounts.ts'
import { sessionCookie, sessionTtlSecs } from '../identity/browser-session.ts'
import type { CookieJar } from '../identity/cookies.ts'
import type { GuardedFetch } from '../identity/guarded-fetch.ts'
import { clientSubject, type Identity, isClientSubject } from '../identity/types.ts'
import { pageHeaders, renderPage } from '../pages/layout.ts'
import { expiredPage, messagePage } from '../pages/message.ts'
import type { ArtefactStore } from './adapter.ts'
import { staticClients } from './clients.ts'
import { logEvents } from './event-log.ts'
import { type IssuancePolicy, judge, tokenClaims, type Verdict } from './gate.ts'
import type { Grants } from './grants.ts'
import type { IdentityAssertions } from './identity-assertions.ts'
import { issuanceEvent } from './issuance-event.ts'
import type { SigningKeys } from './keys.ts'
import { registerIdentityAssertionGrant } from './machine-grants.ts'
import type { MetadataDocuments } from './metadata-documents.ts'
import { carriedBy } from './presented.ts'
import { existingGrant, promptPolicy } from './prompts.ts'
import { PolicyRefused } from './refused.ts'
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
  const { settings, keys, store, grants, accounts, cookies } = deps
  const { issuer, resource } = settings
  const cookie = { httpOnly: true, sameSite: 'lax', secure: cookies.secure, signed: false } as const
  // `__Host-` wants the path /, and these two live under one path each, so that several sign-ins can run side by side.
  const scoped = (name: string): string => (cookies.secure ? `__Secure-${name}` : name)

  /** Decides on the grant that a token is asked for. Throws invalid_grant where policy or the account says no. */
  const admit = (
    grantId: string | undefined,
    subject: string | undefined,
    clientId: string | undefined,
    scope: string | undefined,
  ): { verdict: Verdict; identity: Identity | null; browserIp: string | undefined } => {
    const alone = clientId !== undefined && subject === clientSubject(clientId)
    const identity = alone ? null : subject === undefined ? undefined : accounts.find(subject)
    const redirectUri = grantId === undefined ? undefined : grants.redirectUriOf(grantId)
    if (identity === undefined || redirectUri === undefined || clientId === undefined) {
      throw new errors.CustomOIDCProviderError('invalid_grant', 'the account or the authorization is gone')
    }
    const address = Provider.ctx?.ip
    const browserIp = grantId === undefined ? undefined : grants.browserIpOf(grantId)
    const verdict = judge(deps.policy(), issuer, {
      identity,
      clientId,
      redirectUri: redirectUri === '' ? undefined : redirectUri,
      scopes: scope?.split(' ') ?? [],
      address,
      browserIp,
    })
    // What was given to a client alone is over once people have to sign in for it.
    if (alone && verdict.workload?.enforceSso !== false) {
      throw new errors.CustomOIDCProviderError('invalid_grant', 'this client needs a person who signs in')
    }
    // What hangs on time and place is decided at each request to the gateway: outside of office hours a token is of no
    // use, and refusing it would make agents forget that the person ever signed in.
    if (!verdict.decision.allow && !verdict.decision.volatile) {
      throw new PolicyRefused('invalid_grant', 'no access policy lets this client and user in', verdict)
    }
    return { verdict, identity, browserIp }
  }

  /** Decides on a client that asks for a token of its own. Throws unauthorized_client. */
  const admitAlone = (clientId: string, scope: string | undefined): Verdict => {
    const address = Provider.ctx?.ip
    const verdict = judge(deps.policy(), issuer, {
      identity: null,
      clientId,
      redirectUri: undefined,
      scopes: scope?.split(' ') ?? [],
      address,
    })
    if (verdict.decision.allow) return verdict
    throw new PolicyRefused('unauthorized_client', 'no access policy lets this client in', verdict)
  }
  /** Records that a token is given; its id begins the authorization chain of what is done with that token. */
  const issued = (
    token: { clientId?: string | undefined; accountId?: string | undefined },
    { workload, decision }: Verdict,
  ) => ({
    [authorizationChainClaim]: [
      deps.events.add(
        issuanceEvent({
          subject: token.accountId ?? null,
          clientId: token.clientId ?? null,
          address: Provider.ctx?.ip,
          resource,
          workload,
          decision,
        }),
      ),
    ],
  })
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
      const token = ctx.oidc.entities.RefreshToken
      // Before anything is spent, so that a policy that lets the person in again lets this token live on.
      admit(token?.grantId, token?.accountId, token?.clientId, token?.scope)
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
    extraTokenClaims: async (_ctx, token) => {
      if (token.kind === 'ClientCredentials') {
        const verdict = admitAlone(token.clientId!, token.scope)
        return { ...tokenClaims(null, verdict.workload), ...issued(token, verdict) }
      }
      if (token.kind !== 'AccessToken') return undefined
      const { verdict, identity, browserIp } = admit(
        token.grantId,
        token.accountId,
        token.clientId,
        token.scope,
      )
      const { claims, place } = deps.policy()
      const named = tokenClaims(identity, verdict.workload, claims, place ? browserIp : undefined)
      return { ...named, grant: token.grantId, ...issued(token, verdict) }
    },
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
