import { type Grant, interactionPolicy, type KoaContextWithOIDC, type Provider } from 'oidc-provider'
import type { Refuse } from '../events/refusals.ts'
import type { Accounts } from '../identity/accounts.ts'
import { type IssuancePolicy, judge } from './gate.ts'
import type { ConsentKey, Grants } from './grants.ts'
import { type AuthorizationSettings, identityScopes, resourceScope } from './settings.ts'

export interface PromptDeps {
  readonly settings: AuthorizationSettings
  readonly grants: Grants
  readonly accounts: Accounts
  readonly policy: () => IssuancePolicy
  readonly refuse: Refuse
}

/** Of what was asked for, what there is. */
export function grantableScopes(settings: AuthorizationSettings, scopes: Iterable<string>): string[] {
  const known = new Set<string>([...settings.resourceScopes, ...identityScopes])
  return [...new Set(scopes)].filter((scope) => known.has(scope))
}

/** When a person is asked: to sign in, to consent; and when policy stops them. */
export function promptPolicy({ settings, accounts, policy, refuse }: PromptDeps) {
  const prompts = interactionPolicy.base()
  const { Check } = interactionPolicy
  // A session of someone who is no longer configured is no session.
  prompts.get('login')?.checks.add(
    new Check('account_gone', 'End-User authentication is required', 'login_required', (ctx) => {
      const { session, account } = ctx.oidc
      return session?.accountId !== undefined && !account
    }),
  )
  const consent = prompts.get('consent')
  // RFC 8252 §8.6 would have native clients ask each time; here each installation registers itself and is asked
  // once, at a page that says that the answer goes to this computer.
  consent?.checks.remove('native_client_prompt')
  consent?.checks.add(
    new Check('policy_denied', 'no access policy lets this client and user in', 'access_denied', (ctx) => {
      const { account, client, params } = ctx.oidc
      const identity = account && accounts.find(account.accountId)
      if (!identity || !client) return true
      const redirectUri = String(params?.redirect_uri)
      const scopes = [...ctx.oidc.requestParamScopes]
      const ask = {
        identity,
        clientId: client.clientId,
        redirectUri,
        scopes,
        address: ctx.ip,
        browserIp: ctx.ip,
      }
      const { decision, workload, reason } = judge(policy(), settings.issuer, ask)
      // Else the page that the person is shown records it.
      if (!decision.allow && ctx.oidc.prompts.has('none')) {
        refuse({
          event: 'authorization.refused',
          activity: 'Authorization refused',
          eventType: 'access.authorization',
          address: ctx.ip,
          subject: identity.subject,
          clientId: ask.clientId,
          redirectUri,
          clientWorkload: workload,
          decision,
          reason: decision.reason,
          detail: reason,
        })
      }
      return !decision.allow
    }),
    // First: what the client is told is the first reason's error.
    0,
  )
  return prompts
}

/** The grant that an authorization works on: the one just consented to, or a new one where consent is remembered. */
export async function existingGrant(
  { settings, grants, accounts, policy }: PromptDeps,
  { oidc, ip }: KoaContextWithOIDC,
): Promise<Grant | undefined> {
  const { client, account, params, result } = oidc
  const chosen = result?.consent?.grantId
  if (chosen) return oidc.provider.Grant.find(chosen)
  if (!client || !account || !params || oidc.promptPending('consent') || oidc.promptPending('login'))
    return undefined
  const key = {
    subject: account.accountId,
    clientId: client.clientId,
    redirectUri: String(params.redirect_uri),
    resource: settings.resource,
  }
  const scopes = grantableScopes(settings, oidc.requestParamScopes)
  const identity = accounts.find(key.subject)
  if (!identity || !grants.consented(key, scopes)) return undefined
  const ask = { identity, ...key, scopes, address: ip, browserIp: ip }
  if (!judge(policy(), settings.issuer, ask).decision.allow) return undefined
  return newGrant(oidc.provider, settings, grants, key, scopes, ip)
}

/** Saves a grant of `scopes` and where its answers go. */
export async function newGrant(
  provider: Provider,
  settings: AuthorizationSettings,
  grants: Grants,
  key: ConsentKey,
  scopes: readonly string[],
  browserIp?: string,
): Promise<Grant> {
  const grant = new provider.Grant({ accountId: key.subject, clientId: key.clientId })
  if (scopes.length > 0) grant.addOIDCScope(scopes.join(' '))
  const ofResource = settings.resourceScopes.filter(
    (scope) => scope === resourceScope || scopes.includes(scope),
  )
  grant.addResourceScope(key.resource, ofResource.join(' '))
  const id = await grant.save()
  grants.record(id, key, (settings.refreshTokenSecs + settings.accessTokenSecs) * 1000, browserIp)
  return grant
}
