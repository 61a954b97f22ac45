import type { Claims } from '../../../shared/dynamic-claims.ts'
import { type Circumstances, type Decision, decideServer, type Principal } from '../../../shared/policy.ts'
import { tokenClaims } from '../authorization/gate.ts'
import type { CredentialProviderConfig, ServerWorkloadConfig } from '../config/schema.ts'
import type { Applied } from '../fleet/snapshots.ts'
import type { Identity } from '../identity/types.ts'

export type Reach =
  | {
      readonly allow: true
      readonly server: ServerWorkloadConfig
      readonly provider: CredentialProviderConfig
      readonly decision: Decision
      /** What was decided on. */
      readonly claims: Claims
    }
  | { readonly allow: false; readonly reason: string; readonly decision: Decision | null }

/**
 * May this person reach this server, and with which provider's credential? Decided by the same function and snapshot
 * as at the gateway, on what we know of the person ourselves: their account as of the last sign-in, which is also
 * what their tokens are made of. `clientId` is the agent's; the person's own pages have none.
 */
export function reach(
  applied: Applied,
  person: Identity,
  serverId: string,
  circumstances: Circumstances,
  { clientId = '', browserIp }: { clientId?: string; browserIp?: string | undefined } = {},
): Reach {
  const { config } = applied
  const { issuer } = config.authorizationServer
  const principal: Principal = {
    issuer,
    subject: person.subject,
    clientId,
    clientWorkload: undefined,
    identityProvider: person.idp,
    claims: {
      ...person.claims,
      ...tokenClaims(person, null, undefined, browserIp),
      iss: issuer,
      sub: person.subject,
      aud: config.gateway.url,
      ...(clientId === '' ? {} : { client_id: clientId }),
    },
  }
  return reachAs(applied, principal, serverId, circumstances)
}

/** The same for a principal that is known already. */
export function reachAs(
  { config, index }: Applied,
  principal: Principal,
  serverId: string,
  circumstances: Circumstances,
): Reach {
  const decision = decideServer(index, principal, serverId, circumstances)
  if (!decision.allow) return { allow: false, reason: decision.reason, decision }
  const policy = config.accessPolicies.find(({ id }) => id === decision.policyId)
  const server = config.serverWorkloads.find(({ id }) => id === serverId)
  const provider = config.credentialProviders.find(({ id }) => id === policy?.credentialProvider)
  if (!server || !provider) return { allow: false, reason: 'credential_provider_unknown', decision }
  return { allow: true, server, provider, decision, claims: principal.claims }
}
