import { errors } from 'oidc-provider'
import type { TrustReason } from '../events/refusals.ts'
import type { Verdict } from './gate.ts'

/** What a client reads is `error` and `description`; the rest is for the records of event-log.ts. */
export class PolicyRefused extends errors.CustomOIDCProviderError {
  readonly verdict: Verdict
  constructor(error: string, description: string, verdict: Verdict) {
    super(error, description)
    this.verdict = verdict
  }
}

/** An identity assertion, or the person it names, is not accepted. */
export class TrustRefused extends errors.CustomOIDCProviderError {
  readonly trustDetail: string
  readonly reason: TrustReason
  constructor(description: string, detail: string, reason: TrustReason) {
    super('invalid_grant', description)
    this.trustDetail = detail
    this.reason = reason
  }
}
