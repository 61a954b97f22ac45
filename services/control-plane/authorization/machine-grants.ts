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
import type { Refuse } from '../events/refusals.ts'
import type { Accounts } from '../identity/accounts.ts'
import { clientSubject, SignInRefused } from '../identity/types.ts'
import { type IssuancePolicy, judge } from './gate.ts'
import type { Grants } from './grants.ts'
import { AssertionRefused, type IdentityAssertions } from './identity-assertions.ts'
import { grantableScopes, newGrant } from './prompts.ts'
import { PolicyRefused, TrustRefused } from './refused.ts'
import { type AuthorizationSettings, resourceServer } from './settings.ts'

export interface MachineGrantDeps {
  readonly settings: AuthorizationSettings
  readonly accounts: Accounts
  readonly grants: Grants
  readonly assertions: IdentityAssertions
  readonly audit: Pick<AuditLog, 'add'>
  readonly refuse: Refuse
  readonly policy: () => IssuancePolicy
  readonly log: Logger
}

/** Not in the library's types. */
type ResourceServerClass = new (identifier: string, info: ResourceServer) => ResourceServerInstance

/**
 * RFC 7523 with identity assertions (enterprise-managed authorization): the customer's IdP has decided that this client
 * may act for this person, so nobody is asked; our policy decides all the same. No refresh token: the client asks its
 * IdP again.
 */
export function registerIdentityAssertionGrant(provider: Provider, deps: MachineGrantDeps): void {
  const { settings, accounts, grants, assertions, audit, policy } = deps

  const issue = async (ctx: KoaContextWithOIDC): Promise<void> => {
    const client = ctx.oidc.client!
    const params = ctx.oidc.params as Record<string, unknown>
    if (client.clientAuthMethod === 'none')
      throw new errors.InvalidClient('this grant is for clients that prove themselves')
    if (typeof params.assertion !== 'string') throw new errors.InvalidRequest('assertion is missing')
    if (params.resource !== undefined && params.resource !== settings.resource) {
      throw new errors.InvalidTarget('the resource is not one of this server')
    }
    const asserted = await assertions.verify(params.assertion, client.clientId)
    const { idp, scopes, jti } = asserted
    const identity = accounts.asserted(asserted.identity, asserted.saysGroups)
    const asked = typeof params.scope === 'string' ? params.scope.split(' ') : scopes
    const granted = scopes.filter((scope) => asked.includes(scope))
    if (granted.length === 0)
      throw new errors.InvalidScope('the assertion does not allow this scope', String(params.scope))
    const verdict = judge(policy(), settings.issuer, {
      identity,
      clientId: client.clientId,
      redirectUri: undefined,
      scopes: granted,
      address: ctx.ip,
    })
    if (!verdict.decision.allow)
      throw new PolicyRefused('invalid_grant', 'no access policy lets this client and user in', verdict)
    const key = {
      subject: identity.subject,
      clientId: client.clientId,
      redirectUri: '',
      resource: settings.resource,
    }
    const grant = await newGrant(provider, settings, grants, key, granted)
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
        throw new TrustRefused(error.message, error.detail, error.reason)
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
  deps: Pick<MachineGrantDeps, 'settings' | 'grants' | 'policy' | 'log' | 'refuse'>,
  details: InstanceType<Provider['Interaction']>,
  address: string,
): Promise<string | null> {
  const { settings, grants, policy, log, refuse } = deps
  const { params } = details
  const clientId = String(params.client_id)
  const redirectUri = String(params.redirect_uri)
  const scopes = grantableScopes(settings, String(params.scope ?? '').split(' '))
  const ask = { identity: null, clientId, redirectUri, scopes, address }
  const verdict = judge(policy(), settings.issuer, ask)
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
    refuse({
      event: 'authorization.refused',
      activity: 'Authorization of a client without sign-in refused',
      eventType: 'access.authorization',
      address,
      clientId,
      redirectUri,
      clientWorkload: verdict.workload,
      decision: verdict.decision,
      reason: verdict.decision.reason,
      detail: verdict.reason,
    })
    return give({
      ...shared,
      error: 'access_denied',
      error_description: 'no access policy lets this client in',
    })
  }
  const subject = clientSubject(clientId)
  const key = { subject, clientId, redirectUri, resource: settings.resource }
  const ofResource = scopes.filter((scope) => settings.resourceScopes.includes(scope))
  const grant = await newGrant(provider, settings, grants, key, [...ofResource, 'offline_access'])
  const code = new provider.AuthorizationCode({
    accountId: subject,
    client,
    grantId: grant.jti,
    codeChallenge: params.code_challenge,
    codeChallengeMethod: params.code_challenge_method,
    redirectUri,
    resource: settings.resource,
    scope: [...ofResource, 'offline_access'].join(' '),
  } as never)
  log.info({ event: 'authorization.granted', ...about }, 'authorization granted to a client without sign-in')
  return give({ ...shared, code: await code.save() })
}
