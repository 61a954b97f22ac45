import {
  errors,
  type KoaContextWithOIDC,
  type Provider,
  type ResourceServer,
  type ResourceServerInstance,
} from 'oidc-provider'
import type { Logger } from '../../../shared/log.ts'
import { jwtBearerGrant } from '../config/clients.ts'
import type { AuditLog } from '../events/audit.ts'
import type { Accounts } from '../identity/accounts.ts'
import { clientSubject, SignInRefused } from '../identity/types.ts'
import { type IssuancePolicy, judge } from './gate.ts'
import type { Grants } from './grants.ts'
import { AssertionRefused, type IdentityAssertions } from './identity-assertions.ts'
import { newGrant } from './prompts.ts'
import { type AuthorizationSettings, resourceScope, resourceServer } from './settings.ts'

export interface MachineGrantDeps {
  readonly settings: AuthorizationSettings
  readonly accounts: Accounts
  readonly grants: Grants
  readonly assertions: IdentityAssertions
  readonly audit: Pick<AuditLog, 'add'>
  readonly policy: () => IssuancePolicy
  readonly log: Logger
}

/** Not in the library's types. */
type ResourceServerClass = new (identifier: string, info: ResourceServer) => ResourceServerInstance

const refused = (message: string): errors.OIDCProviderError =>
  new errors.CustomOIDCProviderError('invalid_grant', message)

/**
 * RFC 7523 with identity assertions (enterprise-managed authorization): the customer's IdP has decided that this client
 * may act for this person, so nobody is asked; our policy decides all the same. No refresh token: the client asks its
 * IdP again.
 */
export function registerIdentityAssertionGrant(provider: Provider, deps: MachineGrantDeps): void {
  const { settings, accounts, grants, assertions, audit, policy, log } = deps

  const issue = async (ctx: KoaContextWithOIDC): Promise<void> => {
    const client = ctx.oidc.client!
    const params = ctx.oidc.params as Record<string, unknown>
    if (client.clientAuthMethod === 'none')
      throw new errors.InvalidClient('this grant is for clients that prove themselves')
    if (typeof params.assertion !== 'string') throw new errors.InvalidRequest('assertion is missing')
    if (params.resource !== undefined && params.resource !== settings.resource) {
      throw new errors.InvalidTarget('the resource is not one of this server')
    }
    const { identity, idp, scopes, jti } = await assertions.verify(params.assertion, client.clientId)
    accounts.signedIn(identity)
    const verdict = judge(policy(), settings.issuer, {
      identity,
      clientId: client.clientId,
      redirectUri: undefined,
      address: ctx.ip,
    })
    if (!verdict.decision.allow)
      throw new AssertionRefused('no access policy lets this client and user in', verdict.decision.reason)
    const asked = typeof params.scope === 'string' ? params.scope.split(' ') : scopes
    const granted = scopes.filter((scope) => asked.includes(scope))
    if (granted.length === 0)
      throw new errors.InvalidScope('the assertion does not allow this scope', String(params.scope))
    const key = {
      subject: identity.subject,
      clientId: client.clientId,
      redirectUri: '',
      resource: settings.resource,
    }
    const grant = await newGrant(provider, settings, grants, key, [])
    const token = new provider.AccessToken({
      accountId: identity.subject,
      client,
      grantId: grant.jti,
      gty: jwtBearerGrant,
    } as never)
    const { ResourceServer } = provider as unknown as { ResourceServer: ResourceServerClass }
    token.resourceServer = new ResourceServer(settings.resource, resourceServer(settings))
    token.scope = granted.join(' ')
    ctx.oidc.entity('Grant', grant)
    ctx.oidc.entity('AccessToken', token)
    const value = await token.save()
    audit.add({
      category: 'Authentication',
      activity: 'Access token issued for an identity assertion',
      actor: { type: 'User', displayName: identity.subject },
      target: `client ${client.clientId}`,
      outcome: 'Success',
      severity: 'Info',
      client: { ip: ctx.ip },
      detail: { identityProvider: idp.id, assertion: jti },
    })
    ctx.body = { access_token: value, token_type: 'Bearer', expires_in: token.expiration, scope: token.scope }
  }

  provider.registerGrantType(
    jwtBearerGrant,
    async (ctx) => {
      try {
        await issue(ctx)
      } catch (error) {
        if (!(error instanceof AssertionRefused) && !(error instanceof SignInRefused)) throw error
        const clientId = ctx.oidc.client?.clientId
        log.warn(
          { event: 'assertion.refused', clientId, problem: error.message, detail: error.detail },
          'assertion refused',
        )
        throw refused(error.message)
      }
    },
    ['assertion', 'scope', 'resource'],
  )
}

/**
 * The authorization code of a client whose workload does not enforce SSO: nobody signs in and nobody is asked, and the
 * token is the client's own. Answers where the browser goes; null where the client is not such a one or policy says no.
 */
export async function answerWithoutSignIn(
  provider: Provider,
  deps: Pick<MachineGrantDeps, 'settings' | 'grants' | 'policy' | 'log'>,
  details: InstanceType<Provider['Interaction']>,
  address: string,
): Promise<string | null> {
  const { settings, grants, policy, log } = deps
  const { params } = details
  const clientId = String(params.client_id)
  const redirectUri = String(params.redirect_uri)
  const verdict = judge(policy(), settings.issuer, { identity: null, clientId, redirectUri, address })
  if (verdict.workload?.enforceSso !== false) return null
  const client = await provider.Client.find(clientId)
  if (!client) return null
  const answer = new URL(redirectUri)
  const give = (values: Record<string, unknown>): string => {
    for (const [name, value] of Object.entries(values)) {
      if (typeof value === 'string') answer.searchParams.set(name, value)
    }
    return answer.href
  }
  const shared = { state: params.state, iss: settings.issuer }
  await details.destroy()
  const about = { clientId, workload: verdict.workload.id, reason: verdict.decision.reason, address }
  if (!verdict.decision.allow) {
    log.warn({ event: 'authorization.refused', ...about }, 'client without sign-in refused by policy')
    return give({
      ...shared,
      error: 'access_denied',
      error_description: 'no access policy lets this client in',
    })
  }
  const subject = clientSubject(clientId)
  const key = { subject, clientId, redirectUri, resource: settings.resource }
  const grant = await newGrant(provider, settings, grants, key, ['offline_access'])
  const code = new provider.AuthorizationCode({
    accountId: subject,
    client,
    grantId: grant.jti,
    codeChallenge: params.code_challenge,
    codeChallengeMethod: params.code_challenge_method,
    redirectUri,
    resource: settings.resource,
    scope: `${resourceScope} offline_access`,
  } as never)
  log.info({ event: 'authorization.granted', ...about }, 'authorization granted to a client without sign-in')
  return give({ ...shared, code: await code.save() })
}
