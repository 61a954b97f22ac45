import type { Clock } from '../../../../shared/clock.ts'
import type { Claims } from '../../../../shared/dynamic-claims.ts'
import type { CredentialAnswer } from '../../../../shared/wire/credential.ts'
import type { ServerWorkloadConfig } from '../../config/schema.ts'
import type { EnterpriseTokens } from '../enterprise-tokens.ts'
import type { Grant, Target } from '../grants.ts'
import type { IssuedCredentials } from '../issued.ts'
import type { Networks } from '../networks.ts'
import type { OwnTokens } from '../own-tokens.ts'
import type { SharedAccounts } from '../shared-account.ts'
import type { Tickets } from '../tickets.ts'
import type { UserTokens } from '../user-tokens.ts'

/** Asked after policy said yes. */
export interface CredentialAsk {
  /** The person, as our tokens name them. */
  readonly issuer: string
  readonly subject: string
  /** What we know of the person, as claims of their tokens. */
  readonly claims: Claims
  readonly server: ServerWorkloadConfig
  /** Digest of a value that the server just refused. */
  readonly rejected?: string | undefined
  /** Scopes that the server just demanded. */
  readonly scope?: string | undefined
}

/** One way to get in at a server. */
export interface CredentialProvider {
  /** Throws `credential.unavailable` where a later try may succeed, Refused where none can. */
  issue(ask: CredentialAsk): Promise<CredentialAnswer>
}

/** What providers are made of; each takes what it needs. */
export interface ProviderDeps {
  readonly tokens: UserTokens
  readonly tickets: Tickets
  readonly grantOf: (target: Target) => Grant
  readonly enterprise: EnterpriseTokens
  readonly shared: SharedAccounts
  readonly issued: IssuedCredentials
  readonly own: OwnTokens
  readonly networks: Networks
  readonly clock: Clock
  /** Origin that the person's browser knows us by. */
  readonly origin: () => string
}
