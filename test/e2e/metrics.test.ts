import t from 'tap'
import { labelValues, metrics } from '../../shared/metrics/table.ts'
import { ok, startLegacy } from '../proxy/mcp/legacy-server.ts'
import { proves } from '../requirements.ts'
import { startRedis } from '../rig/redis.ts'
import { type Sample, samplesOf, scrape } from '../rig/scrape.ts'
import { withServers } from '../rig/servers.ts'
import { startRig } from '../rig/world.ts'

/** The documented metrics, held against a scrape after traffic of every kind through the whole appliance. */
const gateway = 'aembit_mcp_gateway'
const upstream = `${gateway}_upstream_mcp_server`
const documented: readonly [name: string, type: string, labels: string][] = [
  ['machine_cpu_cores', 'gauge', 'component, hostname'],
  ['version', 'gauge', 'component, version'],
  ['process_cpu_seconds_total', 'counter', 'component, hostname'],
  ['process_memory_usage_bytes', 'gauge', 'component, hostname'],
  [`${gateway}_sessions_created_total`, 'counter', 'tenant_id'],
  [`${gateway}_sessions_active`, 'gauge', 'tenant_id'],
  [`${gateway}_session_cleanup_last_run_timestamp_seconds`, 'gauge', ''],
  [`${gateway}_mcp_requests_processed_total`, 'counter', 'method, outcome, tenant_id'],
  [`${gateway}_mcp_request_duration_seconds`, 'histogram', 'method, tenant_id'],
  [`${upstream}_http_requests_total`, 'counter', 'method, outcome, tenant_id'],
  [`${upstream}_mcp_responses_total`, 'counter', 'method, outcome, tenant_id'],
  [`${upstream}_response_bytes`, 'histogram', 'method, tenant_id'],
  [`${upstream}_fanout_timeouts_total`, 'counter', 'method, outcome, tenant_id'],
  [`${upstream}_fanout_duration_seconds`, 'histogram', 'method, tenant_id'],
  [`${upstream}_fanout_workloads_total`, 'counter', 'method, tenant_id'],
  [`${upstream}_fanout_workloads_failed_total`, 'counter', 'method, tenant_id'],
  [`${upstream}_sessions_restored_count_total`, 'counter', 'outcome, tenant_id'],
  [`${upstream}_sessions_reinitialized_count_total`, 'counter', 'outcome, tenant_id'],
  [`${gateway}_auth_failures_total`, 'counter', 'reason, tenant_id'],
  [`${gateway}_jwks_refresh_attempts_total`, 'counter', 'outcome, tenant_id'],
  [`${gateway}_aidr_guard_decisions_total`, 'counter', 'outcome, tenant_id'],
  [`${gateway}_http_guard_decisions_total`, 'counter', 'outcome, tenant_id'],
  [`${gateway}_credential_answers_total`, 'counter', 'outcome, tenant_id'],
  [`${gateway}_session_store_operations_total`, 'counter', 'operation, outcome, reason'],
  [`${gateway}_session_store_operation_duration_seconds`, 'histogram', 'operation, outcome, reason'],
  [`${gateway}_readiness_probe_flaps_total`, 'counter', 'probe'],
]

let session = 'first'
const forgetful = await startLegacy(ok, { session: () => session })
const hanging = await startLegacy(ok, { methods: { 'tools/list': () => {} } })
const redis = await startRedis()
const rig = await startRig({
  edit: (yaml) =>
    withServers(yaml, [
      { id: 'forgetful', url: forgetful.url.toString() },
      { id: 'hanging', url: hanging.url.toString() },
    ]),
  adapt: (launch) =>
    launch.name === 'gateway'
      ? {
          ...launch,
          env: {
            ...launch.env,
            AEMBIT_VALKEY_URL: redis.url,
            AEMBIT_MCP_GATEWAY_TIMEOUT: 'tools_list=1s',
          },
        }
      : launch,
})
t.teardown(async () => {
  await rig.end()
  await Promise.all([forgetful.close(), hanging.close(), redis.close()])
})
const agent = rig.agent('ann', { era: 'legacy' })
await agent.connect()
const headers: Record<string, string> = {
  'content-type': 'application/json',
  accept: 'application/json, text/event-stream',
  authorization: `Bearer ${agent.provider.stored?.access_token ?? ''}`,
}
let id = 0
const post = async (method: string, params: object = {}, more: Record<string, string> = {}) => {
  const answer = await agent.fetch(rig.url, {
    method: 'POST',
    headers: { ...headers, ...more },
    body: JSON.stringify({ jsonrpc: '2.0', id: ++id, method, params }),
    signal: AbortSignal.timeout(30_000),
  })
  await answer.text()
  return answer
}
const go = () => post('tools/call', { name: 'forgetful_go', arguments: {} })
/** Increases are reported with the pings: looks until `enough`. */
const until = async (enough: (samples: readonly Sample[]) => boolean): Promise<readonly Sample[]> => {
  const deadline = Date.now() + 30_000
  for (;;) {
    const samples = samplesOf(await scrape(rig.ports.metrics))
    if (enough(samples) || Date.now() > deadline) return samples
    await new Promise((resolve) => setTimeout(resolve, 200))
  }
}
const value = (samples: readonly Sample[], name: string, labels: Record<string, string> = {}): number =>
  samples
    .filter((each) => each.name === name && Object.entries(labels).every(([k, v]) => each.labels[k] === v))
    .reduce((sum, each) => sum + each.value, 0)

await t.test('every documented metric, after traffic of every kind', async (t) => {
  proves(t, 'OPS-METRICS-01')
  const opened = await post('initialize', {
    protocolVersion: '2025-11-25',
    capabilities: {},
    clientInfo: { name: 'test', version: '1' },
  })
  headers['mcp-session-id'] = opened.headers.get('mcp-session-id') ?? ''
  headers['mcp-protocol-version'] = '2025-11-25'
  await post('tools/list')
  t.equal((await go()).status, 200)
  await post('tools/call', { name: 'no_such_tool', arguments: {} })
  t.equal((await post('tools/list', {}, { authorization: '' })).status, 401)
  t.equal((await post('tools/list', {}, { authorization: 'Bearer abc' })).status, 401)
  // The server forgets its session; then the worker that opened the next one dies.
  session = 'second'
  t.equal((await go()).status, 200)
  const restored = `${upstream}_sessions_restored_count_total`
  const reinitialized = `${upstream}_sessions_reinitialized_count_total`
  await until((samples) => value(samples, reinitialized, { outcome: 'success' }) > 0)
  rig.kill('proxy')
  const deadline = Date.now() + 20_000
  while ((await go().catch(() => undefined))?.status !== 200 && Date.now() < deadline);
  const cleaned = `${gateway}_session_cleanup_last_run_timestamp_seconds`
  const samples = await until(
    (now) => value(now, restored, { outcome: 'success' }) > 0 && value(now, cleaned) > 0,
  )
  const text = await scrape(rig.ports.metrics)
  for (const [name, type, labels] of documented) {
    t.match(text, new RegExp(`^# TYPE ${name} ${type}$`, 'm'), `${name} is a ${type}`)
    const series = samples.filter(
      (each) => each.name.replace(/_(bucket|sum|count)$/, '') === name || each.name === name,
    )
    t.not(series.length, 0, `${name} has a series`)
    for (const each of series) {
      const own = Object.keys(each.labels).filter((label) => label !== 'le')
      t.same(own.sort().join(', '), labels, `${name} has its labels`)
    }
  }
  const at = (name: string, labels: Record<string, string> = {}): number => value(samples, name, labels)
  const tenant = { tenant_id: 'quickstart' }
  t.ok(at(`${gateway}_sessions_created_total`, tenant) >= 2)
  t.ok(at(`${gateway}_sessions_active`, tenant) >= 1, 'counted in the store')
  const processed = `${gateway}_mcp_requests_processed_total`
  t.ok(at(processed, { ...tenant, method: 'tools/call', outcome: 'success' }) >= 3)
  t.equal(at(processed, { ...tenant, method: 'tools/call', outcome: 'error' }), 1)
  t.equal(at(processed, { ...tenant, method: 'tools/list', outcome: 'error' }), 0, 'fan-outs are successes')
  t.ok(at(`${gateway}_mcp_request_duration_seconds_count`, { method: 'tools/call' }) >= 4)
  t.ok(at(`${upstream}_fanout_timeouts_total`, { method: 'tools/list', outcome: 'timeout' }) >= 1)
  const failed = at(`${upstream}_fanout_workloads_failed_total`, { method: 'tools/list' })
  t.ok(failed >= 1)
  // Servers that were listed ahead, behind initialize, are not asked again.
  t.ok(at(`${upstream}_fanout_workloads_total`, { method: 'tools/list' }) >= failed)
  t.ok(at(`${upstream}_http_requests_total`, { method: 'tools/call', outcome: 'error' }) >= 1, 'the 404')
  t.ok(at(`${upstream}_mcp_responses_total`, { method: 'tools/call', outcome: 'success' }) >= 3)
  t.ok(at(`${upstream}_response_bytes_sum`, { method: 'tools/call' }) > 100)
  const refused = `${gateway}_auth_failures_total`
  t.ok(at(refused, { ...tenant, reason: 'missing_header' }) >= 1, 'the first of a sign-in among them')
  t.equal(at(refused, { ...tenant, reason: 'invalid_token' }), 1)
  t.equal(at(refused, { ...tenant, reason: 'audience_mismatch' }), 0)
  const stored = `${gateway}_session_store_operations_total`
  for (const operation of ['save', 'get', 'count'])
    t.ok(at(stored, { operation, outcome: 'success', reason: 'none' }) > 0, operation)
  t.ok(at('process_cpu_seconds_total') > 0)
  t.ok(at(`${gateway}_certificate_expiry_timestamp_seconds`) > Date.now() / 1000)
  t.equal(at(`${gateway}_control_plane_connected`), 1)
  t.equal(at(`${gateway}_session_store_up`), 1)
})

await t.test('strangers can not make series', async (t) => {
  proves(t, 'OPS-METRICS-03')
  const before = value(await until(() => true), `${gateway}_mcp_requests_processed_total`, {
    method: 'other',
  })
  for (const method of ['no/such', 'tools/call\n# evil', 'x/y/z']) await post(method)
  const samples = await until(
    (now) => value(now, `${gateway}_mcp_requests_processed_total`, { method: 'other' }) >= before + 3,
  )
  t.equal(value(samples, `${gateway}_mcp_requests_processed_total`, { method: 'other' }), before + 3)
  for (const each of samples) {
    const method = each.labels.method
    if (method !== undefined)
      t.ok(labelValues(`${gateway}_mcp_requests_processed_total`, 'method').includes(method))
    t.ok(
      Object.hasOwn(metrics, each.name.replace(/_(bucket|sum|count)$/, '')) ||
        Object.hasOwn(metrics, each.name),
    )
  }
})

await t.test('counters never go back', async (t) => {
  proves(t, 'OPS-METRICS-02')
  const counters = (samples: readonly Sample[]): Map<string, number> =>
    new Map(
      samples
        .filter(({ name }) => /_total$|_count$|_sum$|_bucket$/.test(name))
        .map((each) => [JSON.stringify([each.name, each.labels]), each.value]),
    )
  let before = counters(await until(() => true))
  for (const role of ['proxy', 'sync', 'front'] as const) {
    const [pid] = rig.kill(role)
    const deadline = Date.now() + 20_000
    while (rig.pids(role).every((now) => now === pid) && Date.now() < deadline)
      await new Promise((resolve) => setTimeout(resolve, 50))
    while ((await go().catch(() => undefined))?.status !== 200 && Date.now() < deadline);
    const after = counters(await until(() => true))
    for (const [series, was] of before) t.ok((after.get(series) ?? -1) >= was, `${role}: ${series}`)
    before = after
  }
})
