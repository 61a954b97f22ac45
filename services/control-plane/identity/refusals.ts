import { randomBytes } from 'node:crypto'
import type { Logger } from '../../../shared/log.ts'
import type { IdentityProviderConfig } from '../config/schema.ts'
import type { AccessEvents } from '../events/access.ts'
import type { AuditLog } from '../events/audit.ts'
import type { SignInRefused } from './types.ts'

export interface RefusalDeps {
  readonly log: Logger
  readonly audit: Pick<AuditLog, 'add'>
  readonly events: Pick<AccessEvents, 'add'>
}

/**
 * Leaves a sign-in that an identity provider's answer did not carry in log, audit log and authorization events, all
 * under one reference that the person sees too. Where nothing ties the answer to a sign-in of ours (anybody can send
 * such), it goes to the log alone.
 */
export function createRefusals({ log, audit, events }: RefusalDeps) {
  return (error: SignInRefused, idp: Pick<IdentityProviderConfig, 'id' | 'name'>, address: string): void => {
    const reference = randomBytes(6).toString('hex')
    error.reference = reference
    const { detail, reason } = error
    log.warn({ event: 'sign_in.failed', idp: idp.id, address, reason: detail, reference }, 'sign-in failed')
    audit.add({
      category: 'Authentication',
      activity: 'Sign-in refused',
      actor: { type: 'User', displayName: 'unknown' },
      target: idp.name,
      outcome: 'Failure',
      severity: 'Warn',
      client: { ip: address },
      detail: { identityProvider: idp.id, reason, detail, reference },
    })
    events.add({
      eventType: 'access.authorization',
      severity: 'Error',
      outcome: { result: 'Unauthorized', reason },
      clientIp: address,
      environment: { userId: null, oauthClientId: null, reference },
      trustProviders: [{ id: idp.id, name: idp.name, result: 'Unauthorized', reason }],
    })
  }
}
