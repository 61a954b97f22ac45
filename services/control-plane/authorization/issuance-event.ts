import type { Decision } from '../../../shared/policy.ts'
import type { AccessEvent, Named } from '../events/access.ts'

export interface Issuance {
  readonly subject: string | null
  readonly clientId: string | null
  readonly address: string | undefined
  /** The gateway's URL. */
  readonly resource: string
  readonly workload: Named | null
  readonly decision: Decision
}

/** `access.authorization`: who was given an access token for the gateway, through which agent, by which policy. */
export function issuanceEvent(issuance: Issuance): AccessEvent {
  const { subject, clientId, address, resource, workload, decision } = issuance
  const { hostname, port, protocol } = new URL(resource)
  return {
    eventType: 'access.authorization',
    severity: 'Info',
    outcome: { result: 'Authorized' },
    target: { host: hostname, port: Number(port) || (protocol === 'http:' ? 80 : 443) },
    ...(address === undefined ? {} : { clientIp: address }),
    environment: { userId: subject, oauthClientId: clientId },
    ...(workload ? { clientWorkload: { id: workload.id, name: workload.name, result: 'Identified' } } : {}),
    ...(decision.policyId === null
      ? {}
      : {
          accessPolicy: {
            id: decision.policyId,
            name: decision.policyName ?? decision.policyId,
            result: 'Identified',
          },
        }),
  }
}
