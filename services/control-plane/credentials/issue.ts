import type { Logger } from '../../../shared/log.ts'
import type { CredentialAnswer, CredentialRequest } from '../../../shared/wire/credential.ts'
import type { CredentialProviderConfig } from '../config/schema.ts'
import type { SnapshotSource } from '../fleet/snapshots.ts'
import type { Identity } from '../identity/types.ts'
import { Refused } from './issued.ts'
import type { CredentialProvider } from './providers/provider.ts'
import { reach } from './reach.ts'

/** Who a subject of our tokens is now; undefined for who never signed in here or is no longer known. */
export interface People {
  find(subject: string): Identity | undefined
}

export interface IssuerDeps {
  readonly snapshots: SnapshotSource
  readonly people: People
  readonly provider: (config: CredentialProviderConfig) => CredentialProvider
  readonly log: Logger
}

/**
 * A credential for a person at a server, or why not. The gateway decided before it asked, on the token's claims; this
 * decides again, on what we know of the person ourselves, and denies who we do not know (README, "Two decisions").
 */
export function createCredentialIssuer({ snapshots, people, provider, log }: IssuerDeps) {
  return async (request: CredentialRequest): Promise<CredentialAnswer> => {
    const applied = snapshots.current()
    const { issuer, subject, clientId, serverId, rejected, scope } = request
    const deny = (reason: string): CredentialAnswer => {
      log.warn({ subject, clientId, serverId, reason }, 'credential denied')
      return { kind: 'denied', reason }
    }
    if (issuer !== applied.config.authorizationServer.issuer) return deny('issuer_unknown')
    const person = people.find(subject)
    if (!person) return deny('user_unknown')
    const reached = reach(applied, person, serverId, clientId)
    if (!reached.allow) return deny(reached.reason)
    const { server, claims } = reached
    try {
      return await provider(reached.provider).issue({ issuer, subject, claims, server, rejected, scope })
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
