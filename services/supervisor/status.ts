import type { GatewayConfig } from '../../shared/config/gateway.ts'
import { version } from '../../shared/version.ts'
import type { Child, ChildState } from './child.ts'
import type { Fleet } from './fleet.ts'
import { reasonsAgainst, warningsOf } from './readiness.ts'
import { type Summary, summarize } from './summary.ts'

export interface ProcessStatus {
  readonly name: string
  readonly role: string
  readonly pid: number | null
  readonly state: ChildState | 'restarting' | 'crash loop'
  readonly uptimeSecs: number
  readonly restarts: number
  readonly lagMs: number
  readonly rssBytes: number
  readonly lastError: { readonly at: string; readonly text: string } | null
  readonly checks: Readonly<Record<string, string>>
  readonly stats: Readonly<Record<string, string | number>>
}

export interface SpareStatus {
  readonly role: string
  readonly pid: number | null
  readonly rssBytes: number
}

export interface ReloadStatus {
  readonly at: string
  /** Empty: it was accepted. */
  readonly problems: readonly string[]
}

/** What `status` answers; the CLI and monitoring read it. */
export interface GatewayStatus {
  readonly ready: boolean
  readonly reasons: readonly string[]
  /** What runs but wants attention. */
  readonly warnings: readonly string[]
  readonly version: string
  readonly pid: number
  readonly url: string
  readonly uptimeSecs: number
  readonly configDigest: string
  /** The age of the policy from which every request is refused. */
  readonly snapshotMaxAgeSecs: number
  readonly snapshot: {
    readonly version: number
    readonly confirmedAt: string
    readonly ageSecs: number
  } | null
  readonly lastReload: ReloadStatus | null
  readonly summary: Summary
  readonly processes: readonly ProcessStatus[]
  /** Stand by for one that dies; not among `processes`, as nothing waits for them. */
  readonly spares: readonly SpareStatus[]
}

export interface StatusSources {
  readonly fleet: Fleet
  readonly config: GatewayConfig
  readonly startedAt: number
  readonly now: number
  readonly lastReload: ReloadStatus | null
  /** What readiness probes have against it. */
  readonly probes: readonly string[]
}

export function describe({
  fleet,
  config,
  startedAt,
  now,
  lastReload,
  probes,
}: StatusSources): GatewayStatus {
  const reasons = reasonsAgainst(fleet.slots)
  const { snapshot } = fleet.wiring
  const processes = describeProcesses(fleet, now)
  return {
    ready: reasons.length === 0,
    reasons,
    warnings: [...warningsOf(fleet.slots), ...probes],
    version,
    pid: process.pid,
    url: config.gatewayUrl,
    uptimeSecs: seconds(now - startedAt),
    configDigest: config.digest,
    snapshotMaxAgeSecs: seconds(config.snapshotMaxAgeMs),
    snapshot: snapshot
      ? {
          version: snapshot.ref.version,
          confirmedAt: new Date(snapshot.confirmedAt).toISOString(),
          ageSecs: seconds(now - snapshot.confirmedAt),
        }
      : null,
    lastReload,
    summary: summarize(processes),
    processes,
    spares: fleet.spares.all.map(({ role, pid = null, rssBytes }) => ({ role, pid, rssBytes })),
  }
}

function describeProcesses(fleet: Fleet, now: number): ProcessStatus[] {
  return fleet.slots.flatMap((slot) => {
    const about = {
      name: slot.name,
      role: slot.role,
      restarts: slot.restarts,
      lastError: slot.lastError
        ? { at: new Date(slot.lastError.at).toISOString(), text: slot.lastError.text }
        : null,
    }
    const retiring: ReadonlySet<unknown> = slot.retiring
    const rows = slot.children.map((child) => ({
      ...about,
      ...describeChild(child, now),
      // Its drain begins a moment after its successor was announced; for a reader it is over already.
      ...(retiring.has(child) ? { state: 'draining' as const } : {}),
    }))
    if (slot.current && !slot.crashLooping) return rows
    const absent = {
      ...nobody,
      state: slot.crashLooping ? ('crash loop' as const) : ('restarting' as const),
    }
    const [first = { ...about, ...absent }, ...others] = rows
    return [{ ...first, state: absent.state }, ...others]
  })
}

const nobody = { pid: null, uptimeSecs: 0, lagMs: 0, rssBytes: 0, checks: {}, stats: {} }

function describeChild(
  child: Child<'front'> | Child<'proxy'> | Child<'sync'> | Child<'stdio-adapter'>,
  now: number,
) {
  return {
    pid: child.pid ?? null,
    state: child.state,
    uptimeSecs: seconds(now - child.startedAt),
    lagMs: Math.round(child.lagMs * 10) / 10,
    rssBytes: child.rssBytes,
    checks: Object.fromEntries(
      [...child.checks].map(([name, { status, fault }]) => [
        name,
        fault ? `${status}: ${fault.detail ?? fault.text}` : status,
      ]),
    ),
    stats: { ...child.stats },
  }
}

const seconds = (ms: number): number => Math.max(0, Math.floor(ms / 1000))
