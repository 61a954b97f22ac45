import type { CredentialAnswer } from '../../../../shared/wire/credential.ts'
import type { ServerWorkloadConfig } from '../../config/schema.ts'

/** Asked after policy said yes. */
export interface CredentialAsk {
  /** The person, as our tokens name them. */
  readonly issuer: string
  readonly subject: string
  readonly server: ServerWorkloadConfig
  /** Digest of a value that the server just refused. */
  readonly rejected?: string | undefined
}

/** One way to get in at a server. */
export interface CredentialProvider {
  /** Throws `credential.unavailable` where a later try may succeed. */
  issue(ask: CredentialAsk): Promise<CredentialAnswer>
}
