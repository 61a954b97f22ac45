import {
  type Decision,
  decideGateway,
  decideServer,
  type PolicyIndex,
  type Principal,
} from '../../../shared/policy.ts'
import type { ClientWorkload, ServerWorkload } from '../../../shared/wire/snapshot.ts'
import type { Identity } from '../identity/types.ts'

/** The policy that tokens are issued under: the same snapshot and the same functions as at the gateway. */
export interface IssuancePolicy {
  readonly index: PolicyIndex
  identify(client: { redirectUri: string; clientId: string }): ClientWorkload | null
}

export interface GateRequest {
  readonly identity: Identity
  readonly clientId: string
  readonly redirectUri: string
}

export interface Verdict {
  readonly decision: Decision
  readonly workload: ClientWorkload | null
  /** Why not, in words for a person. */
  readonly reason: string
  /** Servers within reach, were this let in. */
  readonly servers: readonly ServerWorkload[]
}

/** The claims of ours in an access token, besides the registered ones. */
export interface TokenClaims {
  [claim: string]: unknown
  client_workload?: string
  idp: string
  email?: string
  name?: string
  groups: string[]
}

export function tokenClaims(identity: Identity, workload: ClientWorkload | null): TokenClaims {
  return {
    ...(workload ? { client_workload: workload.id } : {}),
    idp: identity.idp,
    ...(identity.email === undefined ? {} : { email: identity.email }),
    ...(identity.name === undefined ? {} : { name: identity.name }),
    groups: [...identity.groups],
  }
}

/** May this person use this client with the gateway? Decided at sign-in, at each code and at each refresh. */
export function judge(policy: IssuancePolicy, issuer: string, request: GateRequest): Verdict {
  const { identity, clientId, redirectUri } = request
  const workload = policy.identify({ redirectUri, clientId })
  const resource = policy.index.snapshot.gateway.resource
  const principal: Principal = {
    issuer,
    subject: identity.subject,
    clientId,
    clientWorkload: workload?.id,
    identityProvider: identity.idp,
    claims: {
      ...tokenClaims(identity, workload),
      iss: issuer,
      sub: identity.subject,
      aud: resource,
      client_id: clientId,
    },
  }
  const decision = decideGateway(policy.index, principal)
  return {
    decision,
    workload,
    reason: workload
      ? `${decision.reason === 'trust_provider_mismatch' ? `Policy "${decision.policyName}" is for others. ` : ''}${decision.explanation}`
      : 'No client workload of this gateway has the address that this agent sends you back to.',
    servers: policy.index.snapshot.servers.filter(
      (server) => decideServer(policy.index, principal, server.id).allow,
    ),
  }
}
