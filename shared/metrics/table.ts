/**
 * Every metric of the gateway, once: what processes count, what the supervisor shows, what the documents, the dashboard and
 * the alerts may name. Names, types and labels of the documented ones are part of the public surface.
 */
export interface MetricSpec {
  readonly type: 'counter' | 'gauge' | 'histogram'
  /** One sentence; it is also the row of the operators' table. */
  readonly help: string
  readonly labels: readonly string[]
  /** `processes`: counted there, reported and summed here. `supervisor`: told from what it knows at a scrape. */
  readonly by: 'processes' | 'supervisor'
  /** Upper bounds of a histogram, in its unit. */
  readonly buckets?: readonly number[]
}

const host = ['component', 'hostname'] as const
/** From an answer out of memory to the longest time-out that is usual. */
const seconds = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300] as const
const storeSeconds = [0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5] as const
const bytes = [256, 1_024, 4_096, 16_384, 65_536, 262_144, 1_048_576, 4_194_304, 16_777_216] as const
const storeLabels = ['operation', 'outcome', 'reason'] as const

const counted = <const L extends readonly string[]>(help: string, labels: L) =>
  ({ type: 'counter', help, labels, by: 'processes' }) as const
const measured = <const L extends readonly string[], const B extends readonly number[]>(
  help: string,
  labels: L,
  buckets: B,
) => ({ type: 'histogram', help, labels, buckets, by: 'processes' }) as const
const shown = <const L extends readonly string[]>(help: string, labels: L) =>
  ({ type: 'gauge', help, labels, by: 'supervisor' }) as const

export const metrics = {
  machine_cpu_cores: shown('CPU cores that the gateway may use', host),
  version: shown('Always 1; the label says which version runs', ['component', 'version']),
  process_cpu_seconds_total: counted('CPU seconds that all processes of the gateway used', host),
  process_memory_usage_bytes: shown('Resident memory of all processes of the gateway', host),

  aembit_mcp_gateway_sessions_created_total: counted('Sessions of clients that were opened', ['tenant_id']),
  aembit_mcp_gateway_sessions_active: shown(
    'Sessions that live: counted in the session store once a minute; without one, those that workers hold in memory',
    ['tenant_id'],
  ),
  aembit_mcp_gateway_session_cleanup_last_run_timestamp_seconds: shown(
    'When sessions that are over were last cleaned up, seconds since the epoch',
    [],
  ),
  aembit_mcp_gateway_mcp_requests_processed_total: counted(
    'Messages of clients that were answered; a listing of several servers is a success whatever they said',
    ['tenant_id', 'method', 'outcome'],
  ),
  aembit_mcp_gateway_mcp_request_duration_seconds: measured(
    'From the first byte of a request to the end of its answer being written',
    ['tenant_id', 'method'],
    seconds,
  ),
  aembit_mcp_gateway_upstream_mcp_server_http_requests_total: counted(
    'HTTP requests to MCP servers; success is a 2xx status',
    ['tenant_id', 'method', 'outcome'],
  ),
  aembit_mcp_gateway_upstream_mcp_server_mcp_responses_total: counted(
    'JSON-RPC answers of MCP servers in 2xx responses; error is a JSON-RPC error or no readable answer',
    ['tenant_id', 'method', 'outcome'],
  ),
  aembit_mcp_gateway_upstream_mcp_server_response_bytes: measured(
    'Body bytes that came back from MCP servers, any status',
    ['tenant_id', 'method'],
    bytes,
  ),
  aembit_mcp_gateway_upstream_mcp_server_fanout_timeouts_total: counted(
    'Servers that a listing gave up on for their time',
    ['tenant_id', 'method', 'outcome'],
  ),
  aembit_mcp_gateway_upstream_mcp_server_fanout_duration_seconds: measured(
    'How long a listing waited for the servers that it asked',
    ['tenant_id', 'method'],
    seconds,
  ),
  aembit_mcp_gateway_upstream_mcp_server_fanout_workloads_total: counted('Servers that listings asked', [
    'tenant_id',
    'method',
  ]),
  aembit_mcp_gateway_upstream_mcp_server_fanout_workloads_failed_total: counted(
    'Servers that failed a listing: transport error, time-out, status other than 2xx, or MCP error',
    ['tenant_id', 'method'],
  ),
  aembit_mcp_gateway_upstream_mcp_server_sessions_restored_count_total: counted(
    'Sessions at a server gone on with, or opened, for a client session that another process began',
    ['tenant_id', 'outcome'],
  ),
  aembit_mcp_gateway_upstream_mcp_server_sessions_reinitialized_count_total: counted(
    'Sessions opened again at a server that had forgotten the one before',
    ['tenant_id', 'outcome'],
  ),
  aembit_mcp_gateway_auth_failures_total: counted('Requests refused with 401', ['tenant_id', 'reason']),
  aembit_mcp_gateway_jwks_refresh_attempts_total: counted('Fetches of key documents of trusted issuers', [
    'tenant_id',
    'outcome',
  ]),
  aembit_mcp_gateway_aidr_guard_decisions_total: counted(
    'What CrowdStrike AIDR was asked: answered, or passed (fail_open) or refused (fail_closed) without an answer',
    ['tenant_id', 'outcome'],
  ),
  aembit_mcp_gateway_http_guard_decisions_total: counted(
    'What HTTP guards of content were asked: answered, or passed or refused without an answer',
    ['tenant_id', 'outcome'],
  ),
  aembit_mcp_gateway_credential_answers_total: counted(
    'What the control plane answered when it was asked for a credential: one, a link for the person, no, or nothing (unavailable: a token that could not be renewed, a token service that is away)',
    ['tenant_id', 'outcome'],
  ),
  aembit_mcp_gateway_session_store_operations_total: counted('Operations of the session store', storeLabels),
  aembit_mcp_gateway_session_store_operation_duration_seconds: measured(
    'Time of one operation of the session store, its retries included',
    storeLabels,
    storeSeconds,
  ),
  aembit_mcp_gateway_readiness_probe_flaps_total: {
    type: 'counter',
    help: 'How often a readiness probe changed its verdict',
    labels: ['probe'],
    by: 'supervisor',
  },

  aembit_mcp_gateway_ready: shown('1 while GET /readyz answers 200', []),
  aembit_mcp_gateway_readiness_probe_up: shown('1 while the probe holds', ['probe']),
  aembit_mcp_gateway_policy_age_seconds: shown('Since the control plane last confirmed the policy', []),
  aembit_mcp_gateway_policy_max_age_seconds: shown('The age from which every request is refused', []),
  aembit_mcp_gateway_policy_version: shown('Version of the policy in force', []),
  aembit_mcp_gateway_control_plane_connected: shown('1 while sync follows the control plane', []),
  aembit_mcp_gateway_control_plane_clock_skew_seconds: shown('Clock of the control plane minus ours', []),
  aembit_mcp_gateway_enrolment_expiry_timestamp_seconds: shown(
    'When the enrolment of this gateway ends, seconds since the epoch; it is renewed before',
    [],
  ),
  aembit_mcp_gateway_event_spool_segments: shown('Files of events that wait for the control plane', []),
  aembit_mcp_gateway_event_spool_bytes: shown('Bytes of events that wait for the control plane', []),
  aembit_mcp_gateway_event_spool_lag_seconds: shown('Age of the oldest events that wait', []),
  aembit_mcp_gateway_events_shipped_total: counted('Events that the control plane took', []),
  aembit_mcp_gateway_events_lost_total: counted(
    'Events that will not be stored: dropped at a full spool, or refused by the control plane (quarantined)',
    ['reason'],
  ),
  aembit_mcp_gateway_certificate_expiry_timestamp_seconds: shown(
    'When the certificate that is served expires, seconds since the epoch',
    [],
  ),
  aembit_mcp_gateway_certificate_renewal_timestamp_seconds: shown(
    'When its renewal by ACME is due, seconds since the epoch; only with ACME',
    [],
  ),
  aembit_mcp_gateway_certificate_self_signed: shown(
    '1 while a stopgap is served that no client trusts, until the first certificate is issued; only with ACME',
    [],
  ),
  aembit_mcp_gateway_acme_orders_total: counted('Orders of certificates by ACME', ['outcome']),
  aembit_mcp_gateway_acme_consecutive_failures: shown(
    'Orders that failed since one succeeded; only with ACME',
    [],
  ),
  aembit_mcp_gateway_session_store_up: shown(
    '1 while every worker reaches the session store; only with one',
    [],
  ),
  aembit_mcp_gateway_requests_active: shown('Requests of clients that run', ['process']),
  aembit_mcp_gateway_connections: shown('Open connections of clients', ['process']),
  aembit_mcp_gateway_process_up: shown('1 while the process serves', ['process']),
  aembit_mcp_gateway_process_crash_loop: shown('1 while the process dies again and again', ['process']),
  aembit_mcp_gateway_process_restarts: shown('Processes started again in this place', ['process']),
  aembit_mcp_gateway_process_uptime_seconds: shown('Since the process started', ['process']),
  aembit_mcp_gateway_process_event_loop_lag_seconds: shown('Longest stall since the last ping', ['process']),
  aembit_mcp_gateway_process_resident_bytes: shown('Resident memory of the process', ['process']),
  aembit_mcp_gateway_process_figure: shown('Any other number that the process tells of itself', [
    'process',
    'name',
  ]),
} as const satisfies Record<string, MetricSpec>

export type Metrics = typeof metrics
export type MetricName = keyof Metrics
type Of<T extends MetricSpec['type']> = {
  [N in MetricName]: Metrics[N] extends { readonly type: T; readonly by: 'processes' } ? N : never
}[MetricName]
/** What a process may count. */
export type CounterName = Of<'counter'>
export type HistogramName = Of<'histogram'>

/** Labels that the supervisor adds: they are alike for all that a process counts. */
export const addedLabels: ReadonlySet<string> = new Set(['tenant_id', 'component', 'hostname'])

/** The labels whose values a process gives, in the order of the table. */
export const ownLabels = (name: MetricName): readonly string[] =>
  metrics[name].labels.filter((label) => !addedLabels.has(label))

const outcomes = ['success', 'error'] as const
/** The methods that are told apart; every other is `other`. */
export const knownMethods = [
  'initialize',
  'server/discover',
  'ping',
  'logging/setLevel',
  'tools/list',
  'tools/call',
  'prompts/list',
  'prompts/get',
  'resources/list',
  'resources/templates/list',
  'resources/read',
  'resources/subscribe',
  'resources/unsubscribe',
  'subscriptions/listen',
  'tasks/get',
  'tasks/update',
  'tasks/cancel',
  'completion/complete',
  'notifications/initialized',
  'notifications/cancelled',
  'notifications/progress',
  'notifications/roots/list_changed',
] as const

/** Every value that a label may have where that is a matter of the metric, else of the label. */
const values: Readonly<Record<string, readonly string[]>> = {
  outcome: outcomes,
  /** `response`: an answer to a question of the other side. `DELETE`: the end of a session. */
  method: [...knownMethods, 'response', 'DELETE', 'other'],
  'aembit_mcp_gateway_upstream_mcp_server_fanout_timeouts_total outcome': ['timeout'],
  'aembit_mcp_gateway_aidr_guard_decisions_total outcome': ['scanned', 'fail_open', 'fail_closed'],
  'aembit_mcp_gateway_http_guard_decisions_total outcome': ['scanned', 'fail_open', 'fail_closed'],
  'aembit_mcp_gateway_credential_answers_total outcome': [
    'issued',
    'authorization_required',
    'denied',
    'unavailable',
  ],
  'aembit_mcp_gateway_auth_failures_total reason': ['missing_header', 'audience_mismatch', 'invalid_token'],
  'aembit_mcp_gateway_events_lost_total reason': ['dropped', 'quarantined'],
  operation: ['save', 'get', 'delete', 'count'],
  reason: ['none', 'not_found', 'store_error'],
}

export const labelValues = (name: MetricName, label: string): readonly string[] =>
  values[`${name} ${label}`] ?? values[label] ?? []

const methodSet: ReadonlySet<string> = new Set(knownMethods)

/** What a method is called in a label: strangers must not be able to invent series. */
export const methodLabel = (method: string): string => (methodSet.has(method) ? method : 'other')
