import type { CredentialAnswer, CredentialRequest } from '../../../shared/wire/credential.ts'
import { type AccessEvent, decidedOf } from '../events/access.ts'
import type { Applied } from '../fleet/snapshots.ts'
import type { Reach } from './reach.ts'

/** What came of a question: an answer, or why there is none right now. */
export type Outcome = CredentialAnswer | { readonly kind: 'unavailable'; readonly reason: string }

/** `access.credential`: who asked for what, by which policy and provider, and whether a credential was retrieved. */
export function credentialEvent(
  { config }: Applied,
  { subject, clientId, serverId, clientIp }: CredentialRequest,
  reached: Reach | undefined,
  outcome: Outcome,
  now: number,
): AccessEvent {
  const server = config.serverWorkloads.find(({ id }) => id === serverId)
  const url = server && URL.canParse(server.url) ? new URL(server.url) : undefined
  const policy = config.accessPolicies.find(({ id }) => id === reached?.decision?.policyId)
  const trust = policy ? config.trustProviders.filter(({ id }) => policy.trustProviders.includes(id)) : []
  const retrieved = outcome.kind === 'headers' || outcome.kind === 'aws-sigv4' || outcome.kind === 'none'
  const reason = retrieved ? undefined : reasonOf(outcome)
  const denied = outcome.kind === 'denied' && outcome.by !== 'provider'
  return {
    eventType: 'access.credential',
    severity: retrieved ? 'Info' : outcome.kind === 'authorization_required' ? 'Warning' : 'Error',
    outcome: {
      result: retrieved ? 'Authorized' : denied ? 'Unauthorized' : 'Error',
      ...(reason === undefined ? {} : { reason }),
    },
    ...(url?.hostname ? { target: { host: url.hostname, port: portOf(url) } } : {}),
    ...(clientIp === undefined ? {} : { clientIp }),
    environment: { userId: subject, oauthClientId: clientId },
    ...(reached?.decision ? { decision: decidedOf(reached.decision) } : {}),
    ...(server ? { serverWorkload: { id: server.id, name: server.name, result: 'Identified' } } : {}),
    ...(policy ? { accessPolicy: { id: policy.id, name: policy.name, result: 'Identified' } } : {}),
    ...(reached?.allow
      ? {
          trustProviders: trust.map(({ id, name }) => ({ id, name, result: 'Attested' as const })),
          credentialProvider: {
            id: reached.provider.id,
            name: reached.provider.name,
            type: reached.provider.type,
            result: retrieved ? ('Retrieved' as const) : ('Identified' as const),
            ...maxAge(outcome, now),
            ...(reason === undefined ? {} : { reason }),
          },
        }
      : {}),
  }
}

function reasonOf(outcome: Outcome): string {
  if (outcome.kind === 'authorization_required') return outcome.reason ?? 'authorization_required'
  return 'reason' in outcome ? (outcome.reason ?? 'unknown') : 'unknown'
}

function maxAge(outcome: Outcome, now: number): { maxAge?: number } {
  if (!('expiresAt' in outcome) || outcome.expiresAt === null) return {}
  return { maxAge: Math.max(0, Math.round((Date.parse(outcome.expiresAt) - now) / 1000)) }
}

const portOf = ({ port, protocol }: URL): number => Number(port) || (protocol === 'http:' ? 80 : 443)
