import { identifyClient } from '../../../shared/client-match.ts'
import type { Clock } from '../../../shared/clock.ts'
import { directClaims } from '../../../shared/direct-claims.ts'
import { Fault } from '../../../shared/faults.ts'
import type { Logger } from '../../../shared/log.ts'
import type { Circumstances, Decision, Principal } from '../../../shared/policy.ts'
import {
  type CredentialAnswer,
  type CredentialRequest,
  guardCredentialPrefix,
} from '../../../shared/wire/credential.ts'
import { tokenClaims } from '../authorization/gate.ts'
import type { CredentialProviderConfig } from '../config/schema.ts'
import type { AccessEvents } from '../events/access.ts'
import type { Applied, SnapshotSource } from '../fleet/snapshots.ts'
import { clientSubject, type Identity, isClientSubject } from '../identity/types.ts'
import { credentialEvent, type Outcome } from './access-event.ts'
import { Refused } from './issued.ts'
import type { CredentialProvider } from './providers/provider.ts'
import { type Reach, reach, reachAs } from './reach.ts'

/** Who a subject of our tokens is now; undefined for who never signed in here or is no longer known. */
export interface People {
  find(subject: string): Identity | undefined
}

export interface IssuerDeps {
  readonly snapshots: SnapshotSource
  readonly people: People
  readonly provider: (config: CredentialProviderConfig) => CredentialProvider
  readonly circumstances: (address: string | undefined) => Circumstances
  readonly events: Pick<AccessEvents, 'add'>
  readonly clock: Clock
  readonly log: Logger
}

/**
 * A credential for a person, or for a client that comes alone, at a server, or why not. The gateway decided before it asked, on the token's claims; this
 * decides again, on what we know of the person ourselves, and denies who we do not know (README, "Two decisions").
 */
export function createCredentialIssuer(deps: IssuerDeps) {
  const { snapshots, people, provider, circumstances: circumstancesOf, events, clock, log } = deps

  /** What policy says; a text: why it is not even asked. */
  const reachOf = (request: CredentialRequest, applied: Applied, circumstances: Circumstances) => {
    const { issuer, subject, clientId, serverId, browserIp } = request
    if (issuer === applied.config.authorizationServer.issuer) {
      if (isClientSubject(subject)) {
        const client = clientPrincipal(applied, request)
        return client ? reachAs(applied, client, serverId, circumstances) : 'client_unknown'
      }
      const person = people.find(subject)
      if (!person) return 'user_unknown'
      return reach(applied, person, serverId, circumstances, { clientId, browserIp })
    }
    const direct = directPrincipal(applied, request)
    return direct ? reachAs(applied, direct, serverId, circumstances) : 'issuer_unknown'
  }

  const answerOf = async (
    request: CredentialRequest,
    applied: Applied,
    reached: Reach | string,
    circumstances: Circumstances,
  ): Promise<CredentialAnswer> => {
    const { issuer, subject, clientId, serverId, rejected, scope } = request
    if (typeof reached === 'string' || !reached.allow) {
      const reason = typeof reached === 'string' ? reached : reached.reason
      const decision = typeof reached === 'string' ? null : reached.decision
      const by = decision && {
        policyId: decision.policyId,
        policyVersion: decision.policyVersion,
        rule: decision.rule,
      }
      log.warn({ subject, clientId, serverId, reason, ...by }, 'credential denied')
      return { kind: 'denied', reason }
    }
    const { server, claims } = reached
    try {
      if (claims.subject_type === 'client' && ofPeople.has(reached.provider.type)) {
        throw new Refused('person_needed')
      }
      // Kept sign-ins are of people who signed in here: the same subject of another issuer is somebody else.
      if (
        reached.provider.type === 'mcp-enterprise-managed-access-token' &&
        issuer !== applied.config.authorizationServer.issuer
      ) {
        throw new Refused('signed_in_elsewhere')
      }
      const answer = await provider(reached.provider).issue({
        issuer,
        subject,
        claims,
        server,
        rejected,
        scope,
      })
      return hangsOnCircumstances(applied, serverId, reached.decision)
        ? {
            ...answer,
            ...('expiresAt' in answer ? { expiresAt: new Date(circumstances.now).toISOString() } : {}),
          }
        : answer
    } catch (error) {
      if (!(error instanceof Refused)) throw error
      const { reason, cause } = error
      const detail = cause instanceof Fault ? cause.detail : undefined
      log.warn({ subject, serverId, providerId: reached.provider.id, reason, detail }, 'credential refused')
      return { kind: 'denied', by: 'provider', reason }
    }
  }

  return async (request: CredentialRequest): Promise<CredentialAnswer> => {
    const applied = snapshots.current()
    if (request.serverId.startsWith(guardCredentialPrefix)) return guardCredential(applied, request.serverId)
    const circumstances = circumstancesOf(request.clientIp)
    const reached = reachOf(request, applied, circumstances)
    const record = (outcome: Outcome): string =>
      events.add(
        credentialEvent(
          applied,
          request,
          typeof reached === 'string' ? undefined : reached,
          outcome,
          clock.now(),
        ),
      )
    try {
      const answer = await answerOf(request, applied, reached, circumstances)
      const authorizationId = record(answer)
      return answer.kind === 'authorization_required' || answer.kind === 'denied'
        ? answer
        : { ...answer, authorizationId }
    } catch (error) {
      const fault = Fault.from(error)
      record({ kind: 'unavailable', reason: fault.detail ?? fault.code })
      throw error
    }
  }
}

/** Credentials that are somebody's own: nobody is there to connect an account for a client that comes alone. */
const ofPeople: ReadonlySet<CredentialProviderConfig['type']> = new Set([
  'mcp-user-based-access-token',
  'mcp-enterprise-managed-access-token',
])

/**
 * An agent without a person. Policy decides on what the configuration says of the client and on nothing that a gateway
 * says; a client that may not come alone by the configuration in force is unknown, whatever its token says.
 */
function clientPrincipal(
  { config, snapshot }: Applied,
  { issuer, subject, clientId, clientIp }: CredentialRequest,
): Principal | undefined {
  const workload = identifyClient(snapshot.clientWorkloads, { clientId, address: clientIp })
  const registered = config.authorizationServer.clients.some(
    (client) => client.clientId === clientId && client.grantTypes.includes('client_credentials'),
  )
  // Clients that registered themselves are known by their redirect URI, which is not at hand here.
  const withoutSignIn = snapshot.clientWorkloads.some(({ enforceSso }) => enforceSso === false)
  if (subject !== clientSubject(clientId) || !(registered || withoutSignIn)) return undefined
  return {
    issuer,
    subject,
    clientId,
    kind: 'client',
    clientWorkload: workload?.id,
    identityProvider: undefined,
    claims: {
      ...tokenClaims(null, workload),
      iss: issuer,
      sub: subject,
      aud: config.gateway.url,
      client_id: clientId,
    },
  }
}

/** Who a token of a trusted identity provider stands for: its claims, which the gateway verified, and no more. */
function directPrincipal(
  { snapshot }: Applied,
  { issuer, subject, clientId, claims }: CredentialRequest,
): Principal | undefined {
  const trusted = snapshot.issuers.find((each) => each.issuer === issuer && each.kind === 'trust-provider')
  if (!trusted || !claims || claims.sub !== subject || claims.iss !== issuer) return undefined
  return {
    issuer,
    subject,
    clientId,
    direct: true,
    clientWorkload: undefined,
    identityProvider: trusted.id,
    claims: directClaims(claims),
  }
}

/**
 * Whether another time or place would bring another policy with another credential. Such an answer counts for the
 * request that asked and is kept by nobody; every other one is the same whatever the circumstances.
 */
function hangsOnCircumstances({ config }: Applied, serverId: string, { volatile }: Decision): boolean {
  if (!volatile) return false
  const policies = config.accessPolicies.filter(({ server, active }) => active && server === serverId)
  return new Set(policies.map(({ credentialProvider }) => credentialProvider)).size > 1
}

/** The secret of a service that looks at content: the gateway's own, of no person. */
function guardCredential({ config }: Applied, serverId: string): CredentialAnswer {
  const id = serverId.slice(guardCredentialPrefix.length)
  const guard = config.contentSecurity.find((each) => each.id === id)
  if (!guard || guard.type === 'AembitMcpToolAccessControl')
    return { kind: 'denied', reason: 'content_security_unknown' }
  const secret = guard.type === 'CrowdStrikeAIDR' ? guard.encryptedToken : guard.token
  if (!secret) return { kind: 'none' }
  return {
    kind: 'headers',
    headers: [{ name: 'Authorization', value: `Bearer ${secret.reveal()}` }],
    expiresAt: null,
    credentialProviderId: id,
  }
}
