import type { Logger } from '../../../shared/log.ts'
import type { Circumstances, Decision, Principal } from '../../../shared/policy.ts'
import type { CredentialAnswer, CredentialRequest } from '../../../shared/wire/credential.ts'
import type { CredentialProviderConfig } from '../config/schema.ts'
import type { Applied, SnapshotSource } from '../fleet/snapshots.ts'
import type { Identity } from '../identity/types.ts'
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
  readonly log: Logger
}

/**
 * A credential for a person at a server, or why not. The gateway decided before it asked, on the token's claims; this
 * decides again, on what we know of the person ourselves, and denies who we do not know (README, "Two decisions").
 */
export function createCredentialIssuer({
  snapshots,
  people,
  provider,
  circumstances: circumstancesOf,
  log,
}: IssuerDeps) {
  return async (request: CredentialRequest): Promise<CredentialAnswer> => {
    const applied = snapshots.current()
    const { issuer, subject, clientId, serverId, rejected, scope } = request
    const deny = (reason: string): CredentialAnswer => {
      log.warn({ subject, clientId, serverId, reason }, 'credential denied')
      return { kind: 'denied', reason }
    }
    const circumstances = circumstancesOf(request.clientIp)
    let reached: Reach
    if (issuer === applied.config.authorizationServer.issuer) {
      const person = people.find(subject)
      if (!person) return deny('user_unknown')
      const { browserIp } = request
      reached = reach(applied, person, serverId, circumstances, { clientId, browserIp })
    } else {
      const direct = directPrincipal(applied, request)
      if (!direct) return deny('issuer_unknown')
      reached = reachAs(applied, direct, serverId, circumstances)
    }
    if (!reached.allow) return deny(reached.reason)
    const { server, claims } = reached
    try {
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
      log.warn(
        { subject, serverId, providerId: reached.provider.id, reason: error.reason },
        'credential refused',
      )
      return { kind: 'denied', by: 'provider', reason: error.reason }
    }
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
    claims,
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
