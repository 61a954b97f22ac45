import type { X509Certificate } from 'node:crypto'
import { backoffMs } from '../../../shared/retry.ts'
import type { AcmeState } from './store.ts'

/** Spread around two thirds of a certificate's life, as a share of that life. */
const spread = 0.04
/** From here on a certificate whose renewal fails is an alarm: half of the last third is gone. */
const alarmShare = 1 / 6

/** No wait that is kept is longer: not the server's Retry-After, not the time between two looks at its information. */
export const longestWaitMs = 86_400_000

export interface Validity {
  /** ms since the epoch. */
  readonly from: number
  readonly to: number
}

export const validity = (leaf: X509Certificate): Validity => ({
  from: Date.parse(leaf.validFrom),
  to: Date.parse(leaf.validTo),
})

/**
 * A number in [0, 1) that belongs to the certificate: every process that serves it comes to the same renewal time, and
 * gateways with certificates of their own do not come to the server at once.
 */
export const shareOf = (leaf: X509Certificate): number =>
  Number.parseInt(leaf.fingerprint256.replaceAll(':', '').slice(0, 8), 16) / 2 ** 32

/** When to renew, ms: at a point of the window that the server suggests, else around two thirds of the life. */
export function renewalTime(
  { from, to }: Validity,
  share: number,
  suggested: { readonly start: number; readonly end: number } | null,
): number {
  if (suggested) return Math.min(suggested.start + share * (suggested.end - suggested.start), to)
  return from + (to - from) * (2 / 3 + (share - 0.5) * spread)
}

/**
 * The wait after `failures` attempts in a row. Without a certificate that counts: seconds at first, an hour at most.
 * With one: never more than an eighth of what is left of it, so that attempts get denser towards its end, but not
 * denser than the servers' limits on failed orders bear.
 */
export function retryWaitMs(failures: number, leftMs: number | null, random: () => number): number {
  const without = leftMs === null || leftMs <= 0
  const capMs = without ? 3_600_000 : Math.min(6 * 3_600_000, Math.max(leftMs / 8, 600_000))
  return backoffMs(failures, { baseMs: 5_000, capMs, floorMs: without ? 2_000 : 30_000, random })
}

/**
 * Whether a failing renewal is an alarm by now: little of the life is left, or the window that the server suggested is over;
 * then it may be about to revoke.
 */
export const isUrgent = (
  { from, to }: Validity,
  now: number,
  suggested: { readonly end: number } | null = null,
): boolean => to - now < (to - from) * alarmShare || (suggested !== null && suggested.end < now)

/** A wait until `at` that is longer than any we make was made by a clock that has been set back since: it is over. */
export const waitUntil = (at: number, now: number, longestMs: number): number =>
  at - now > longestMs ? now : at

/** What an operator reads in `status`; null while all is well. */
export function describeTrouble(
  state: AcmeState,
  certificate: Validity | null,
  due: boolean,
  now: number,
): string | null {
  const last = state.lastError ? `${count(state.failures)} failed, last: ${state.lastError.text}` : null
  if (certificate === null) {
    const until = 'a self-signed certificate is served until the first one is issued'
    return last ? `${until}; ${last}` : until
  }
  if (last === null || state.failures === 0 || !due) return null
  const left = certificate.to - now
  return left > 0
    ? `renewal is due and fails, the certificate ends in ${span(left)}; ${last}`
    : `the certificate ended ${span(-left)} ago and renewal fails; ${last}`
}

const count = (failures: number): string => (failures === 1 ? '1 attempt' : `${failures} attempts`)

function span(ms: number): string {
  const hours = ms / 3_600_000
  if (hours >= 48) return `${Math.floor(hours / 24)} days`
  if (hours >= 2) return `${Math.floor(hours)} hours`
  return `${Math.max(0, Math.floor(ms / 60_000))} minutes`
}
