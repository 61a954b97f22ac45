import { hostname } from 'node:os'
import { Counter, type MetricObject, type MetricObjectWithValues, Registry } from 'prom-client'
import type { Measured } from '../../shared/ipc/contract.ts'
import { addedLabels, labelValues, type MetricName, metrics, ownLabels } from '../../shared/metrics/table.ts'

export const component = 'aembit_mcp_gateway'

type Labels = Record<string, string>

/**
 * What the processes counted, summed up over all that ever ran: they report increases, so a total survives the process
 * that it was counted in.
 */
export class Totals {
  readonly registry = new Registry()
  readonly #counters = new Map<string, Counter>()
  readonly #histograms = new Map<string, SummedHistogram>()
  readonly #tenants = new Set<string>()

  constructor() {
    for (const [name, spec] of Object.entries(metrics)) {
      if (spec.by !== 'processes') continue
      if (spec.type === 'counter') {
        const { help, labels } = spec
        const counter = new Counter({ name, help, labelNames: [...labels], registers: [this.registry] })
        this.#counters.set(name, counter)
        if (!spec.labels.some((label) => label === 'tenant_id')) this.#zero(name as MetricName, '')
      } else if (spec.type === 'histogram') {
        const histogram = new SummedHistogram(name, spec.help, spec.buckets)
        this.#histograms.set(name, histogram)
        // Its own sums, in the shape that the registry asks metrics for.
        this.registry.registerMetric(histogram as unknown as Counter)
      }
    }
  }

  /** A process's report. What the table does not know is left out: no process can invent a series. */
  add({ tenant, counts, histograms }: Measured): void {
    if (tenant !== '' && !this.#tenants.has(tenant) && this.#tenants.size < maxTenants) {
      this.#tenants.add(tenant)
      for (const [name] of this.#counters) this.#zero(name as MetricName, tenant)
    }
    for (const [name, values, by] of counts) {
      const counter = this.#counters.get(name)
      const labels = counter && labelsOf(name as MetricName, values, tenant)
      if (labels) counter.inc(labels, by)
    }
    for (const [name, values, buckets, sum] of histograms) {
      const histogram = this.#histograms.get(name)
      const labels = histogram && labelsOf(name as MetricName, values, tenant)
      if (labels) histogram.add(labels, buckets, sum)
    }
  }

  /** The supervisor's own. */
  cpu(seconds: number): void {
    this.#counters.get('process_cpu_seconds_total')?.inc({ component, hostname: hostname() }, seconds)
  }

  get tenants(): ReadonlySet<string> {
    return this.#tenants
  }

  /** Series that are there from the start: the first failure is an increase, where it would else be a first value. */
  #zero(name: MetricName, tenant: string): void {
    const own = ownLabels(name)
    if (own.includes('method') || own.includes('operation')) return
    const combinations = own.reduce<string[][]>(
      (all, label) => all.flatMap((some) => labelValues(name, label).map((value) => [...some, value])),
      [[]],
    )
    for (const values of combinations) {
      const labels = labelsOf(name, values, tenant)
      if (labels) this.#counters.get(name)?.inc(labels, 0)
    }
  }
}

/** A gateway has one tenant; after a move to another one there are two. */
const maxTenants = 4

function labelsOf(name: MetricName, values: readonly string[], tenant: string): Labels | undefined {
  const own = ownLabels(name)
  if (own.length !== values.length) return undefined
  const labels: Labels = {}
  for (const label of metrics[name].labels) {
    if (addedLabels.has(label)) {
      labels[label] = label === 'tenant_id' ? tenant : label === 'component' ? component : hostname()
      continue
    }
    const value = values[own.indexOf(label)] ?? ''
    if (!labelValues(name, label).includes(value)) return undefined
    labels[label] = value
  }
  return labels
}

/** prom-client's own histogram takes observations alone, not sums of them. */
class SummedHistogram implements MetricObject {
  readonly name: string
  readonly help: string
  readonly type = 'histogram' as unknown as MetricObject['type']
  readonly aggregator = 'sum'
  readonly collect = (): void => {}
  readonly #bounds: readonly number[]
  readonly #series = new Map<string, { labels: Labels; buckets: number[]; sum: number }>()

  constructor(name: string, help: string, bounds: readonly number[]) {
    this.name = name
    this.help = help
    this.#bounds = bounds
  }

  add(labels: Labels, buckets: readonly number[], sum: number): void {
    if (buckets.length !== this.#bounds.length + 1) return
    const key = JSON.stringify(labels)
    let series = this.#series.get(key)
    if (!series) {
      series = { labels, buckets: buckets.map(() => 0), sum: 0 }
      this.#series.set(key, series)
    }
    for (const [at, by] of buckets.entries()) series.buckets[at]! += by
    series.sum += sum
  }

  async get(): Promise<MetricObjectWithValues<{ value: number; metricName: string; labels: Labels }>> {
    const values = [...this.#series.values()].flatMap(({ labels, buckets, sum }) => {
      let count = 0
      const rows = buckets.map((by, at) => {
        count += by
        const le = at < this.#bounds.length ? String(this.#bounds[at]) : '+Inf'
        return { value: count, metricName: `${this.name}_bucket`, labels: { ...labels, le } }
      })
      return [
        ...rows,
        { value: sum, metricName: `${this.name}_sum`, labels },
        { value: count, metricName: `${this.name}_count`, labels },
      ]
    })
    const { name, help, type, aggregator, collect } = this
    return { name, help, type, aggregator, collect, values }
  }
}
