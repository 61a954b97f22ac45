import { spawnSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import t from 'tap'
import { parse, stringify } from 'yaml'
import { metrics } from '../../../shared/metrics/table.ts'
import { proves } from '../../requirements.ts'
import { scrape } from '../../rig/scrape.ts'
import { startGateway } from '../../supervisor/rig.ts'
import { faults, healthy, type Series, shortLived } from './faults.ts'

/** Debian's promtool over what operators load into Prometheus and Grafana. Fails where it is not installed. */
const root = fileURLToPath(new URL('../../../', import.meta.url))
const rulesPath = join(root, 'etc/prometheus/aembit_mcp_gateway.rules.yaml')
const dashboardPath = join(root, 'etc/grafana/aembit_mcp_gateway.json')
const dir = mkdtempSync(join(tmpdir(), 'monitoring-'))
t.teardown(() => rmSync(dir, { recursive: true, force: true }))

function promtool(args: readonly string[], input?: string): string {
  const ran = spawnSync('promtool', args, { encoding: 'utf8', ...(input === undefined ? {} : { input }) })
  if (ran.error) throw new Error(`promtool (Debian package prometheus) does not run: ${ran.error.message}`)
  return ran.status === 0 ? '' : `${ran.stdout}${ran.stderr}` || `exit code ${ran.status}`
}

interface Rule {
  readonly alert: string
  readonly expr: string
  readonly labels: { readonly severity: string }
  readonly annotations: { readonly summary: string; readonly description: string }
}
const rules = (parse(readFileSync(rulesPath, 'utf8')) as { groups: { rules: Rule[] }[] }).groups.flatMap(
  (group) => group.rules,
)

t.test('the rules are rules, and say what to do', async (t) => {
  t.equal(promtool(['check', 'rules', rulesPath]), '')
  for (const { alert, labels, annotations } of rules) {
    t.match(labels.severity, /^(page|ticket)$/, alert)
    t.ok(annotations.summary.length > 0 && annotations.description.length > 0, `${alert} says what to do`)
  }
})

t.test('every alert fires on its fault and is silent on a healthy gateway', async (t) => {
  proves(t, 'OPS-ALERTS-01')
  t.same(Object.keys(faults).sort(), rules.map(({ alert }) => alert).sort(), 'each alert has its fault')
  const test = (name: string, series: Series, firing: string | null) => ({
    name,
    interval: '1m',
    input_series: Object.entries({ ...healthy, ...series }).map(([series, values]) => ({ series, values })),
    promql_expr_test: [
      {
        expr: `count(ALERTS{alertstate="firing"${firing === null ? '' : `,alertname="${firing}"`}}) > bool 0`,
        eval_time: '2h',
        exp_samples: firing === null ? [] : [{ labels: '{}', value: 1 }],
      },
    ],
  })
  const path = join(dir, 'tests.yaml')
  const run = (tests: readonly unknown[]): string => {
    writeFileSync(path, stringify({ rule_files: [rulesPath], evaluation_interval: '1m', tests }))
    return promtool(['test', 'rules', path])
  }
  t.equal(run([test('healthy', {}, null)]), '', 'nothing fires on a healthy gateway')
  t.equal(run([test('six days', shortLived, null)]), '', 'nor where certificates last for days alone')
  for (const [alert, series] of Object.entries(faults))
    t.equal(run([test(alert, series, alert)]), '', `${alert} fires`)
})

t.test('dashboard and alerts name metrics of the table alone', async (t) => {
  proves(t, 'OPS-ALERTS-01')
  const known = new Set(
    Object.entries(metrics).flatMap(([name, { type }]) =>
      type === 'histogram' ? ['_bucket', '_sum', '_count'].map((end) => name + end) : [name],
    ),
  )
  const dashboard = readFileSync(dashboardPath, 'utf8')
  const targets = [...dashboard.matchAll(/"expr":\s*"((?:[^"\\]|\\.)*)"/g)].map(([, expr]) => expr ?? '')
  t.ok(targets.length > 20, 'the dashboard asks for something')
  const own = /\b(aembit_mcp_gateway_\w+|process_\w+|machine_\w+)\b/g
  for (const expr of [...rules.map((rule) => rule.expr), ...targets]) {
    // What stands in quotes is a label's value.
    for (const [name] of expr.replace(/\\?"[^"]*"/g, '').matchAll(own))
      t.ok(known.has(name), `${name} in ${expr}`)
  }
  const queries = targets.map((expr) => JSON.parse(`"${expr}"`) as string)
  const asRules = queries.map((expr, at) => ({
    record: `panel:${at}`,
    expr: expr.replaceAll('$__rate_interval', '5m').replaceAll(/\$\w+/g, '.*'),
  }))
  const path = join(dir, 'panels.yaml')
  writeFileSync(path, stringify({ groups: [{ name: 'panels', rules: asRules }] }))
  t.equal(promtool(['check', 'rules', path]), '', 'every query of the dashboard parses')
})

t.test('a real scrape is what Prometheus wants', async (t) => {
  const gateway = startGateway()
  t.teardown(() => gateway.stop())
  await gateway.ready()
  const problems = promtool(['check', 'metrics'], await scrape(gateway.metricsPort))
  // The names are documented ones: what promtool would rather call otherwise is not ours to change.
  const lint = problems
    .split('\n')
    .filter((line) => line !== '' && !accepted.some((name) => line.startsWith(name)))
  t.same(lint, [])
})
const accepted: readonly string[] = []
