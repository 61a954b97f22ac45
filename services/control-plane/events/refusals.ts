import { randomBytes } from 'node:crypto'
import type { Clock } from '../../../shared/clock.ts'
import type { Logger } from '../../../shared/log.ts'
import type { Decision } from '../../../shared/policy.ts'
import { createRateLimit } from '../../../shared/rate-limit.ts'
import { type AccessEvent, type AccessEvents, decidedOf, type Named } from './access.ts'
import type { AuditLog } from './audit.ts'

/** Why an identity was not accepted, in the words of access authorization events. */
export type TrustReason = 'MatchRuleFailed' | 'InvalidSignature' | 'NoDataFound' | 'ConditionFailed'

/** A sign-in, consent, registration or request for a token that was refused. Holds no secret. */
export interface Refusal {
  /** Of the log line, as in `sign_in.failed`. */
  readonly event: string
  /** Of the audit log, as in `Sign-in refused`. */
  readonly activity: string
  readonly address: string | undefined
  /** A TrustReason, a reason code of policy, or an error code of OAuth. */
  readonly reason: string
  /** For the log and the audit log: what exactly was wrong. */
  readonly detail?: string | undefined
  /** Absent where it concerns no agent and no person, as with a form from elsewhere: audit log alone. */
  readonly eventType?: 'access.request' | 'access.authorization' | undefined
  readonly category?: 'Authentication' | 'Agents'
  readonly subject?: string | undefined
  readonly clientId?: string | undefined
  readonly redirectUri?: string | undefined
  readonly identityProvider?: Named | undefined
  readonly clientWorkload?: Named | null | undefined
  /** Where policy refused; its reason goes before `reason`. */
  readonly decision?: Decision | undefined
}

/** Records it and answers a reference that the person can be shown: log, audit log and event have the same one. */
export type Refuse = (refusal: Refusal) => string

export interface RefusalDeps {
  readonly log: Logger
  readonly audit: Pick<AuditLog, 'add'>
  readonly events: Pick<AccessEvents, 'add'>
  readonly clock: Clock
}

/** Records of one address: so many at once, then one in each interval; and of all addresses together. */
const perAddress = { burst: 60, refillMs: 5_000 }
const together = { burst: 2_000, refillMs: 1_000 }

/**
 * Every refusal is a line of the log. Anybody can make requests that are refused, so that the records that are kept are
 * bounded by rate; the next one says how many were left out.
 */
export function createRefusals({ log, audit, events, clock }: RefusalDeps): Refuse {
  const ofAddress = createRateLimit(clock, perAddress.burst, perAddress.refillMs)
  const all = createRateLimit(clock, together.burst, together.refillMs)
  let leftOut = 0

  return (refusal) => {
    const reference = randomBytes(6).toString('hex')
    const { event, activity, address, detail, subject, clientId, redirectUri, decision } = refusal
    const reason = decision?.reason ?? refusal.reason
    const about = {
      ...(detail === undefined ? {} : { detail }),
      ...(clientId === undefined ? {} : { clientId }),
      ...(redirectUri === undefined ? {} : { redirectUri }),
      ...(decision
        ? { policyId: decision.policyId, policyVersion: decision.policyVersion, rule: decision.rule }
        : {}),
      reference,
    }
    const idp = refusal.identityProvider
    log.warn(
      { event, subject, address, ...(idp ? { idp: idp.id } : {}), reason, ...about },
      activity.toLowerCase(),
    )
    if (ofAddress.take(address ?? '') > 0 || all.take('') > 0) {
      leftOut += 1
      return reference
    }
    audit.add({
      category: refusal.category ?? 'Authentication',
      activity,
      actor: { type: 'User', displayName: subject ?? 'unknown' },
      target: idp?.name ?? (clientId === undefined ? 'authorization server' : `client ${clientId}`),
      outcome: 'Failure',
      severity: 'Warn',
      ...(address === undefined ? {} : { client: { ip: address } }),
      detail: {
        ...(idp ? { identityProvider: idp.id } : {}),
        reason,
        ...about,
        ...(leftOut > 0 ? { leftOutBefore: leftOut } : {}),
      },
    })
    leftOut = 0
    if (refusal.eventType) events.add(accessEvent(refusal, reference))
    return reference
  }
}

/** Policy that names nobody is a discovery that found nothing; everything else is refused where it was asked. */
function accessEvent(refusal: Refusal, reference: string): AccessEvent {
  const { decision, identityProvider, clientWorkload } = refusal
  const undiscovered = decision && (decision.policyId === null || decision.reason === 'policy_inactive')
  const reason = decision?.reason ?? refusal.reason
  return {
    eventType: undiscovered ? 'access.discovery' : (refusal.eventType ?? 'access.request'),
    severity: 'Error',
    outcome: {
      result: !undiscovered && refusal.eventType === 'access.authorization' ? 'Unauthorized' : 'Error',
      reason,
    },
    ...(refusal.address === undefined ? {} : { clientIp: refusal.address }),
    environment: {
      userId: refusal.subject ?? null,
      oauthClientId: refusal.clientId ?? null,
      reference,
    },
    ...(clientWorkload
      ? { clientWorkload: { id: clientWorkload.id, name: clientWorkload.name, result: 'Identified' } }
      : {}),
    ...(decision ? { decision: decidedOf(decision) } : {}),
    ...(decision?.policyId
      ? {
          accessPolicy: {
            id: decision.policyId,
            name: decision.policyName ?? decision.policyId,
            result: 'Identified',
          },
        }
      : {}),
    ...(identityProvider
      ? { trustProviders: [{ ...identityProvider, result: 'Unauthorized', reason }] }
      : {}),
  }
}
