import { errors, Provider } from 'oidc-provider'
import { authorizationChainClaim } from '../../../shared/wire/event.ts'
import type { AccessEvents } from '../events/access.ts'
import type { Accounts } from '../identity/accounts.ts'
import { clientSubject, type Identity } from '../identity/types.ts'
import { type IssuancePolicy, judge, type TokenClaims, tokenClaims, type Verdict } from './gate.ts'
import type { Grants } from './grants.ts'
import { issuanceEvent } from './issuance-event.ts'
import { PolicyRefused } from './refused.ts'
import type { AuthorizationSettings } from './settings.ts'

export interface AdmissionDeps {
  readonly settings: Pick<AuthorizationSettings, 'issuer' | 'resource'>
  readonly grants: Grants
  readonly accounts: Accounts
  readonly policy: () => IssuancePolicy
  readonly events: Pick<AccessEvents, 'add'>
}

/** A token that is asked for, or the refresh token that is shown for it. */
export interface Asked {
  readonly kind?: string
  readonly grantId?: string | undefined
  readonly accountId?: string | undefined
  readonly clientId?: string | undefined
  readonly scope?: string | undefined
}

/** Whether a token is given, decided by policy as it is now, and what it then says. */
export function createAdmission({ settings, grants, accounts, policy, events }: AdmissionDeps) {
  const { issuer, resource } = settings

  /** Decides on the grant that a token is asked for. Throws invalid_grant where policy or the account says no. */
  const admit = ({
    grantId,
    accountId: subject,
    clientId,
    scope,
  }: Asked): { verdict: Verdict; identity: Identity | null; browserIp: string | undefined } => {
    const alone = clientId !== undefined && subject === clientSubject(clientId)
    const identity = alone ? null : subject === undefined ? undefined : accounts.find(subject)
    const redirectUri = grantId === undefined ? undefined : grants.redirectUriOf(grantId)
    if (identity === undefined || redirectUri === undefined || clientId === undefined) {
      throw new errors.CustomOIDCProviderError('invalid_grant', 'the account or the authorization is gone')
    }
    const address = Provider.ctx?.ip
    const browserIp = grantId === undefined ? undefined : grants.browserIpOf(grantId)
    const verdict = judge(policy(), issuer, {
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
    const verdict = judge(policy(), issuer, {
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
  const issued = (token: Asked, { workload, decision }: Verdict) => ({
    [authorizationChainClaim]: [
      events.add(
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

  /**
   * Our claims in an access token, whose giving is recorded by this; undefined for tokens of other kinds. Throws
   * invalid_grant or, where a client asks for a token of its own, unauthorized_client.
   */
  const claims = (token: Asked): TokenClaims | undefined => {
    if (token.kind === 'ClientCredentials') {
      const verdict = admitAlone(token.clientId!, token.scope)
      return { ...tokenClaims(null, verdict.workload), ...issued(token, verdict) }
    }
    if (token.kind !== 'AccessToken') return undefined
    const { verdict, identity, browserIp } = admit(token)
    const { claims: read, place } = policy()
    const named = tokenClaims(identity, verdict.workload, read, place ? browserIp : undefined)
    return { ...named, grant: token.grantId, ...issued(token, verdict) }
  }

  return { admit, claims }
}
