import { type CounterName, type HistogramName, type MetricName, metrics } from './table.ts'

/** What was counted since the last report; the shape of the IPC message. */
export interface Measurements {
  /** Metric, values of its own labels, increase. */
  readonly counts: [name: string, labels: string[], by: number][]
  /** Metric, values of its own labels, increase per bucket (the last one is the rest), increase of the sum. */
  readonly histograms: [name: string, labels: string[], buckets: number[], sum: number][]
}

interface Cell {
  readonly labels: readonly string[]
  /** One number for a counter; for a histogram one per bucket, and the rest. */
  readonly values: Float64Array
  sum: number
  changed: boolean
}

/**
 * Counts in one process. What a call site holds is a Counter or a Histogram; a count finds its cell by one
 * look-up per label and makes nothing. Only increases leave the process, so the total never goes back when a process ends.
 */
export class Meter {
  readonly #families = new Map<MetricName, Family>()

  counter(name: CounterName): Counter {
    return new Counter(this.#family(name, 1))
  }

  histogram(name: HistogramName): Histogram {
    const { buckets } = metrics[name]
    return new Histogram(this.#family(name, buckets.length + 1), buckets)
  }

  /** What was counted since the last time; undefined where nothing was. */
  take(): Measurements | undefined {
    const counts: Measurements['counts'] = []
    const histograms: Measurements['histograms'] = []
    for (const [name, family] of this.#families) {
      for (const cell of family.cells) {
        if (!cell.changed) continue
        cell.changed = false
        if (metrics[name].type === 'counter') counts.push([name, [...cell.labels], cell.values[0] ?? 0])
        else histograms.push([name, [...cell.labels], [...cell.values], cell.sum])
        cell.values.fill(0)
        cell.sum = 0
      }
    }
    return counts.length + histograms.length > 0 ? { counts, histograms } : undefined
  }

  #family(name: MetricName, size: number): Family {
    let family = this.#families.get(name)
    if (!family) {
      family = new Family(size)
      this.#families.set(name, family)
    }
    return family
  }
}

/** Cells by the values of their labels, one level for each: strings of our tables, so a look-up makes and hashes nothing. */
class Family {
  readonly cells: Cell[] = []
  readonly #root: Node = { below: new Map() }
  readonly #size: number

  constructor(size: number) {
    this.#size = size
  }

  cell(a: string, b: string, c: string): Cell {
    let node = this.#root
    if (a !== '') node = below(node, a)
    if (b !== '') node = below(node, b)
    if (c !== '') node = below(node, c)
    return node.cell ?? this.#add(node, [a, b, c])
  }

  #add(node: Node, all: readonly string[]): Cell {
    const labels = all.filter((value) => value !== '')
    const cell = { labels, values: new Float64Array(this.#size), sum: 0, changed: false }
    node.cell = cell
    this.cells.push(cell)
    return cell
  }
}

interface Node {
  cell?: Cell
  readonly below: Map<string, Node>
}

function below(node: Node, value: string): Node {
  let next = node.below.get(value)
  if (!next) {
    next = { below: new Map() }
    node.below.set(value, next)
  }
  return next
}

export class Counter {
  readonly #family: Family

  constructor(family: Family) {
    this.#family = family
  }

  /** One more, for the values of the metric's own labels in the order of the table. */
  inc(a = '', b = '', c = ''): void {
    this.add(1, a, b, c)
  }

  add(by: number, a = '', b = '', c = ''): void {
    const cell = this.#family.cell(a, b, c)
    cell.values[0]! += by
    cell.changed = true
  }
}

export class Histogram {
  readonly #family: Family
  readonly #bounds: readonly number[]

  constructor(family: Family, bounds: readonly number[]) {
    this.#family = family
    this.#bounds = bounds
  }

  observe(value: number, a = '', b = '', c = ''): void {
    const cell = this.#family.cell(a, b, c)
    const bounds = this.#bounds
    let at = 0
    while (at < bounds.length && value > bounds[at]!) at++
    cell.values[at]! += 1
    cell.sum += value
    cell.changed = true
  }
}
