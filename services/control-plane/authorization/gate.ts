import { identifyClient } from '../../../shared/client-match.ts'
import {
  browserIpClaim,
  type Decision,
  decideGateway,
  decideServer,
  type Locate,
  type PolicyIndex,
  type Principal,
} from '../../../shared/policy.ts'
import type { ClientWorkload, ServerWorkload } from '../../../shared/wire/snapshot.ts'
import { claimsFor } from '../identity/claims.ts'
import { clientSubject, type Identity } from '../identity/types.ts'

/** The policy that tokens are issued under: the same snapshot and the same functions as at the gateway. */
export interface IssuancePolicy {
  readonly index: PolicyIndex
  /** Milliseconds since the epoch: conditions on time are decided on it. */
  readonly now: number
  /** Claims of people that rules read: tokens carry these and no more. */
  readonly claims: ReadonlySet<string>
  /** Whether conditions on place are in force: only then tokens say where the browser was. */
  readonly place: boolean
  /** Absent where no GeoIP database is configured here. */
  readonly locate?: Locate | undefined
}

export interface GateRequest {
  /** Null where the client comes alone, without a person. */
  readonly identity: Identity | null
  readonly clientId: string
  /** Undefined where nothing is redirected: client credentials, assertions. */
  readonly redirectUri: string | undefined
  /** What is asked for, or was granted. */
  readonly scopes: readonly string[]
  /** Where the client or browser connects from; undefined where that is not known any more. */
  readonly address: string | undefined
  /** Where the browser was that the person signed in with; the same as `address` while they are there. */
  readonly browserIp?: string | undefined
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
  /** The authorization that it came of: what is revoked as one. */
  grant?: string
  /** `client`: nobody signed in, the client came alone. */
  subject_type?: 'client'
  idp?: string
  email?: string
  name?: string
  groups?: string[]
}

/** `read`: the claims that rules read. `browserIp`: where a condition on place is in force, the browser's address. */
export function tokenClaims(
  identity: Identity | null,
  workload: ClientWorkload | null,
  read: ReadonlySet<string> = new Set(),
  browserIp?: string,
): TokenClaims {
  const named = workload ? { client_workload: workload.id } : {}
  if (identity === null) return { ...named, subject_type: 'client' }
  return {
    ...claimsFor(identity.claims, read),
    ...(browserIp === undefined ? {} : { [browserIpClaim]: browserIp }),
    ...named,
    idp: identity.idp,
    ...(identity.email === undefined ? {} : { email: identity.email }),
    ...(identity.name === undefined ? {} : { name: identity.name }),
    groups: [...identity.groups],
  }
}

/** The client workload that a request comes from; null where none fits. */
export function workloadOf(
  { index }: IssuancePolicy,
  request: Pick<GateRequest, 'clientId' | 'redirectUri' | 'address' | 'scopes'>,
): ClientWorkload | null {
  return identifyClient(index.snapshot.clientWorkloads, request)
}

/** May this person, or this client alone, use the gateway? Decided at sign-in, at each code and at each refresh. */
export function judge(policy: IssuancePolicy, issuer: string, request: GateRequest): Verdict {
  const { identity, clientId, browserIp } = request
  const workload = workloadOf(policy, request)
  const resource = policy.index.snapshot.gateway.resource
  const subject = identity?.subject ?? clientSubject(clientId)
  const principal: Principal = {
    issuer,
    subject,
    clientId,
    kind: identity ? 'person' : 'client',
    clientWorkload: workload?.id,
    identityProvider: identity?.idp,
    claims: {
      ...tokenClaims(identity, workload, policy.claims, browserIp),
      iss: issuer,
      sub: subject,
      aud: resource,
      client_id: clientId,
    },
  }
  const circumstances = { now: policy.now, clientIp: request.address || undefined, locate: policy.locate }
  const decision =
    wrongProvider(workload, identity) ?? issuable(decideGateway(policy.index, principal, circumstances))
  return {
    decision,
    workload,
    reason: workload
      ? `${decision.reason === 'trust_provider_mismatch' && decision.policyName !== null ? `Policy "${decision.policyName}" is for others. ` : ''}${decision.explanation}`
      : 'No client workload of this gateway has the address that this agent sends you back to.',
    servers: policy.index.snapshot.servers.filter(
      (server) => issuable(decideServer(policy.index, principal, server.id, circumstances)).allow,
    ),
  }
}

/** A client workload may be for the people of some identity providers alone. */
function wrongProvider(workload: ClientWorkload | null, identity: Identity | null): Decision | undefined {
  const wanted = workload?.ssoIdentityProviders
  if (!workload || !identity || !wanted || wanted.length === 0 || wanted.includes(identity.idp))
    return undefined
  return {
    allow: false,
    reason: 'trust_provider_mismatch',
    policyId: null,
    policyVersion: null,
    policyName: null,
    rule: null,
    volatile: false,
    explanation: `Client workload "${workload.name}" is for people of another identity provider.`,
  }
}

/**
 * What can not be known here, of a client whose address nobody told, is decided by the gateways at each request: it is
 * no reason to refuse a token.
 */
export function issuable(decision: Decision): Decision {
  return decision.reason === 'geoip_unavailable' ? { ...decision, allow: true } : decision
}
