import { availableParallelism, hostname } from 'node:os'
import { Counter, Gauge } from 'prom-client'
import { type MetricName, metrics, type Metrics as Table } from '../../shared/metrics/table.ts'
import type { Probes } from './probes.ts'
import type { GatewayStatus, ProcessStatus } from './status.ts'
import { component, type Totals } from './totals.ts'

type GaugeName = {
  [N in MetricName]: Table[N] extends { readonly type: 'gauge' } ? N : never
}[MetricName]

/** The text of `GET /metrics`: the sums of what processes counted, and what the supervisor knows itself. */
export class Metrics {
  readonly #totals: Totals
  readonly #probes: Probes
  readonly #gauges = new Map<string, Gauge>()
  readonly #flaps: Counter
  #cpu = 0

  constructor(totals: Totals, probes: Probes) {
    this.#totals = totals
    this.#probes = probes
    const registers = [totals.registry]
    for (const [name, { type, help, labels }] of Object.entries(metrics)) {
      if (type === 'gauge')
        this.#gauges.set(name, new Gauge({ name, help, labelNames: [...labels], registers }))
    }
    const name = 'aembit_mcp_gateway_readiness_probe_flaps_total'
    this.#flaps = new Counter({ name, help: metrics[name].help, labelNames: ['probe'], registers })
  }

  get contentType(): string {
    return this.#totals.registry.contentType
  }

  render(status: GatewayStatus): Promise<string> {
    for (const gauge of this.#gauges.values()) gauge.reset()
    const { user, system } = process.cpuUsage()
    const cpu = (user + system) / 1e6
    this.#totals.cpu(cpu - this.#cpu)
    this.#cpu = cpu
    this.#set('version', 1, { component, version: status.version })
    this.#set('machine_cpu_cores', availableParallelism(), { component, hostname: hostname() })
    const others = [...status.processes, ...status.spares]
    const resident = others.reduce((sum, { rssBytes }) => sum + rssBytes, process.memoryUsage.rss())
    this.#set('process_memory_usage_bytes', resident, { component, hostname: hostname() })
    this.#set('aembit_mcp_gateway_ready', status.ready && this.#probes.reasons.length === 0 ? 1 : 0)
    this.#flaps.reset()
    for (const { name, up, flaps } of this.#probes.all) {
      this.#set('aembit_mcp_gateway_readiness_probe_up', up ? 1 : 0, { probe: name })
      this.#flaps.inc({ probe: name }, flaps)
    }
    this.#policy(status)
    // While one drains, the figures are those of the process that serves.
    const serving = status.processes.filter(({ state }) => state !== 'draining')
    for (const each of serving) this.#process(each)
    this.#front(serving.find(({ role }) => role === 'front'))
    this.#sync(serving.find(({ role }) => role === 'sync'))
    this.#proxies(serving.filter(({ role }) => role === 'proxy'))
    return this.#totals.registry.metrics()
  }

  #policy({ snapshot, snapshotMaxAgeSecs }: GatewayStatus): void {
    this.#set('aembit_mcp_gateway_policy_max_age_seconds', snapshotMaxAgeSecs)
    if (!snapshot) return
    this.#set('aembit_mcp_gateway_policy_age_seconds', snapshot.ageSecs)
    this.#set('aembit_mcp_gateway_policy_version', snapshot.version)
  }

  #process({ name, state, uptimeSecs, restarts, lagMs, rssBytes, stats }: ProcessStatus): void {
    const of = { process: name }
    this.#set('aembit_mcp_gateway_process_up', state === 'running' ? 1 : 0, of)
    this.#set('aembit_mcp_gateway_process_crash_loop', state === 'crash loop' ? 1 : 0, of)
    this.#set('aembit_mcp_gateway_process_restarts', restarts, of)
    this.#set('aembit_mcp_gateway_process_uptime_seconds', uptimeSecs, of)
    this.#set('aembit_mcp_gateway_process_event_loop_lag_seconds', lagMs / 1000, of)
    this.#set('aembit_mcp_gateway_process_resident_bytes', rssBytes, of)
    for (const [key, value] of Object.entries(stats)) {
      if (typeof value === 'number')
        this.#set('aembit_mcp_gateway_process_figure', value, { ...of, name: key })
    }
    this.#number('aembit_mcp_gateway_requests_active', stats.active, of)
    this.#number('aembit_mcp_gateway_connections', stats.connections, of)
  }

  #front(row: ProcessStatus | undefined): void {
    const { certificateExpires, certificateRenewal, certificateSelfSigned, acmeFailures } = row?.stats ?? {}
    this.#time('aembit_mcp_gateway_certificate_expiry_timestamp_seconds', certificateExpires)
    this.#time('aembit_mcp_gateway_certificate_renewal_timestamp_seconds', certificateRenewal)
    this.#number('aembit_mcp_gateway_certificate_self_signed', certificateSelfSigned)
    this.#number('aembit_mcp_gateway_acme_consecutive_failures', acmeFailures)
  }

  #sync(row: ProcessStatus | undefined): void {
    const stats = row?.stats ?? {}
    if (row) {
      const connected = stats.control_plane === 'connected' ? 1 : 0
      this.#set('aembit_mcp_gateway_control_plane_connected', connected)
    }
    this.#time('aembit_mcp_gateway_enrolment_expiry_timestamp_seconds', stats.enrolment_expires_at)
    if (typeof stats.clock_skew_ms === 'number')
      this.#set('aembit_mcp_gateway_control_plane_clock_skew_seconds', stats.clock_skew_ms / 1000)
    this.#number('aembit_mcp_gateway_event_spool_segments', stats.spool_segments)
    this.#number('aembit_mcp_gateway_event_spool_bytes', stats.spool_bytes)
    this.#number('aembit_mcp_gateway_event_spool_lag_seconds', stats.spool_lag_secs)
  }

  #proxies(rows: readonly ProcessStatus[]): void {
    const stored = rows.filter(({ stats }) => stats.sessionStore === 'valkey')
    const active = rows.map(({ stats }) => Number(stats.sessionsActive ?? 0))
    // All workers count the same store; in memory each has those that it saw.
    const sessions = stored.length > 0 ? Math.max(...active) : active.reduce((sum, each) => sum + each, 0)
    for (const tenant of this.#totals.tenants)
      this.#set('aembit_mcp_gateway_sessions_active', sessions, { tenant_id: tenant })
    const cleaned = Math.max(0, ...rows.map(({ stats }) => Number(stats.sessionCleanupLastRun ?? 0)))
    if (cleaned > 0) this.#set('aembit_mcp_gateway_session_cleanup_last_run_timestamp_seconds', cleaned)
    if (stored.length > 0) {
      const up = stored.every(({ stats }) => stats.sessionStoreUp === 1)
      this.#set('aembit_mcp_gateway_session_store_up', up ? 1 : 0)
    }
  }

  #number(name: GaugeName, value: string | number | undefined, labels?: Record<string, string>): void {
    if (typeof value === 'number') this.#set(name, value, labels)
  }

  #time(name: GaugeName, value: string | number | undefined): void {
    const ms = typeof value === 'string' ? Date.parse(value) : Number.NaN
    if (Number.isFinite(ms)) this.#set(name, ms / 1000)
  }

  #set(name: GaugeName, value: number, labels: Record<string, string> = {}): void {
    this.#gauges.get(name)?.set(labels, value)
  }
}
