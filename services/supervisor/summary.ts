import type { ProcessStatus } from './status.ts'

/** What an operator wants to know before any figure; null and '' where a process did not tell. */
export interface Summary {
  readonly certificate: {
    readonly expiresAt: string
    /** When ACME renews it; null without ACME or before the first. */
    readonly renewalAt: string | null
    /** A stopgap that no client trusts, until ACME has issued one. */
    readonly selfSigned: boolean
    readonly failures: number
    readonly lastError: string
  } | null
  readonly controlPlane: {
    readonly state: string
    readonly enrolmentExpiresAt: string | null
    readonly clockSkewMs: number
    readonly lastError: string
  } | null
  readonly spool: {
    readonly files: number
    readonly bytes: number
    readonly lagSecs: number
    /** Since sync started. */
    readonly shipped: number
    readonly lost: number
  } | null
  readonly traffic: {
    readonly activeRequests: number
    readonly connections: number
    readonly sessions: number
    readonly sessionStore: string
  }
}

type Stats = ProcessStatus['stats']

const textOf = (value: Stats[string] | undefined): string => (value === undefined ? '' : String(value))
const timeOf = (value: Stats[string] | undefined): string | null => textOf(value) || null
const numberOf = (value: Stats[string] | undefined): number => (typeof value === 'number' ? value : 0)

export function summarize(processes: readonly ProcessStatus[]): Summary {
  const of = (wanted: string): Stats[] =>
    processes.filter(({ role, state }) => role === wanted && state !== 'draining').map(({ stats }) => stats)
  const [front, sync] = [of('front')[0], of('sync')[0]]
  const proxies = of('proxy')
  const sum = (name: string): number => proxies.reduce((all, stats) => all + numberOf(stats[name]), 0)
  const stored = proxies.some(({ sessionStore }) => sessionStore === 'valkey')
  return {
    certificate:
      front?.certificateExpires === undefined
        ? null
        : {
            expiresAt: textOf(front.certificateExpires),
            renewalAt: timeOf(front.certificateRenewal),
            selfSigned: front.certificateSelfSigned === 1,
            failures: numberOf(front.acmeFailures),
            lastError: numberOf(front.acmeFailures) > 0 ? textOf(front.acmeLastError) : '',
          },
    controlPlane:
      sync?.control_plane === undefined
        ? null
        : {
            state: textOf(sync.control_plane),
            enrolmentExpiresAt: timeOf(sync.enrolment_expires_at),
            clockSkewMs: numberOf(sync.clock_skew_ms),
            // While all is well, what once was is for the log.
            lastError: sync.control_plane === 'connected' ? '' : textOf(sync.last_error),
          },
    spool:
      sync?.spool_segments === undefined
        ? null
        : {
            files: numberOf(sync.spool_segments),
            bytes: numberOf(sync.spool_bytes),
            lagSecs: numberOf(sync.spool_lag_secs),
            shipped: numberOf(sync.events_shipped),
            lost: numberOf(sync.events_dropped) + numberOf(sync.events_quarantined) + sum('eventsDropped'),
          },
    traffic: {
      activeRequests: sum('active'),
      connections: sum('connections'),
      sessions: stored
        ? Math.max(0, ...proxies.map(({ sessionsActive }) => numberOf(sessionsActive)))
        : sum('sessionsActive'),
      sessionStore: stored
        ? proxies.every(({ sessionStoreUp }) => sessionStoreUp === 1)
          ? 'valkey'
          : 'valkey, AWAY'
        : 'memory',
    },
  }
}
