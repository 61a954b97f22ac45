import type { Clock } from '../../shared/clock.ts'
import { Fault } from '../../shared/faults.ts'
import type { ChildContext } from '../../shared/ipc/child.ts'
import type { Counter } from '../../shared/metrics/meter.ts'
import type { Enrolment } from './enrolment.ts'
import type { Snapshots } from './snapshots.ts'
import type { Spool } from './spool.ts'
import type { Uploader } from './uploader.ts'

export interface StatusDeps {
  readonly context: Pick<ChildContext<'sync'>, 'check' | 'stats' | 'meter' | 'tenant'>
  readonly enrolment: Enrolment
  readonly snapshots: Snapshots
  readonly uploader: Uploader
  readonly spool: Spool
  readonly maxAgeMs: () => number
  readonly clock: Clock
}

const everyMs = 2_000

/** What the supervisor hears of us: the checks `sync.enrolment` and `sync.snapshot`, and numbers for `status`. */
export class Status {
  readonly #deps: StatusDeps
  readonly #told = new Map<string, string>()
  #enrolment: Fault | null = null
  #enrolled = false
  #stream: Fault | null = null
  #lastError = ''
  readonly #shippedTotal: Counter
  readonly #lostTotal: Counter
  readonly #counted = { shipped: 0, quarantined: 0, dropped: 0 }

  constructor(deps: StatusDeps) {
    this.#deps = deps
    const { meter } = deps.context
    this.#shippedTotal = meter.counter('aembit_mcp_gateway_events_shipped_total')
    this.#lostTotal = meter.counter('aembit_mcp_gateway_events_lost_total')
  }

  enrolment(fault: Fault | null): void {
    this.#enrolment = fault
    if (fault) this.#lastError = describe(fault)
    else this.#enrolled = true
    this.refresh()
  }

  stream(fault: Fault | null): void {
    this.#stream = fault
    if (fault) this.#lastError = describe(fault)
    this.refresh()
  }

  /** Until `signal` aborts. */
  async run(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      this.refresh()
      await this.#deps.clock.sleep(everyMs, signal).catch(() => {})
    }
  }

  /** Judges again and tells what changed; cheap. */
  refresh(): void {
    const { snapshots, maxAgeMs, clock } = this.#deps
    const ageMs = clock.now() - snapshots.confirmedAt
    const tried = this.#enrolled || this.#enrolment !== null
    let usable = false
    if (snapshots.version === 0) {
      const fault = snapshots.refused ?? this.#enrolment ?? this.#stream ?? new Fault('snapshot.none')
      this.#check('sync.snapshot', tried ? 'failing' : 'starting', fault)
    } else if (ageMs > maxAgeMs()) {
      const detail = `not confirmed for ${Math.round(ageMs / 60_000)} min`
      this.#check('sync.snapshot', 'failing', new Fault('snapshot.stale', { detail }))
    } else {
      usable = true
      // Serving goes on with what was good; the fault tells the operator that something newer was refused.
      this.#check('sync.snapshot', 'running', snapshots.refused)
    }
    // A gateway that comes up while the control plane is away has to become ready on its last-good policy: then a
    // failed enrolment is told as a fault of a running check.
    const enrolled = tried ? (this.#enrolment && !usable ? 'failing' : 'running') : 'starting'
    this.#check('sync.enrolment', enrolled, this.#enrolment)
    this.#stats(ageMs)
  }

  #stats(ageMs: number): void {
    const { context, enrolment, snapshots, uploader, spool } = this.#deps
    const { shipped, quarantined, segments, bytes, lagMs } = uploader.stats()
    this.#count(shipped, quarantined, spool.dropped.events)
    context.stats({
      control_plane: this.#stream ? 'away' : this.#enrolled ? 'connected' : 'starting',
      enrolment_expires_at: enrolment.expiresAt === 0 ? '' : new Date(enrolment.expiresAt).toISOString(),
      clock_skew_ms: enrolment.skewMs,
      snapshot_version: snapshots.version,
      snapshot_age_secs: snapshots.version === 0 ? -1 : Math.max(0, Math.round(ageMs / 1000)),
      snapshot_refused: snapshots.refused ? describe(snapshots.refused) : '',
      spool_segments: segments,
      spool_bytes: bytes,
      spool_lag_secs: Math.round(lagMs / 1000),
      events_shipped: shipped,
      events_quarantined: quarantined,
      events_dropped: spool.dropped.events,
      last_error: this.#lastError,
    })
  }

  #count(shipped: number, quarantined: number, dropped: number): void {
    const before = this.#counted
    this.#shippedTotal.add(shipped - before.shipped)
    this.#lostTotal.add(quarantined - before.quarantined, 'quarantined')
    this.#lostTotal.add(dropped - before.dropped, 'dropped')
    Object.assign(before, { shipped, quarantined, dropped })
  }

  #check(
    name: 'sync.enrolment' | 'sync.snapshot',
    status: 'starting' | 'running' | 'failing',
    fault: Fault | null,
  ): void {
    const said = `${status} ${fault?.code ?? ''} ${fault?.detail ?? ''}`
    if (this.#told.get(name) === said) return
    this.#told.set(name, said)
    this.#deps.context.check(name, status, fault ?? undefined)
  }
}

const describe = (fault: Fault): string =>
  `${fault.code}${fault.detail ? `: ${fault.detail}` : ''}`.slice(0, 300)
