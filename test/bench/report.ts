import type { Report } from './load.ts'

export type Way = 'direct' | 'floor' | 'gateway'

export interface Sample {
  readonly way: Way
  readonly connections: number
  readonly round: number
  readonly report: Report
  /** CPU seconds by process during the round. */
  readonly cpu: Record<string, number>
}

/** What the gateway is built for: front and proxy within twice the floor's CPU a call; a millisecond at most. */
const targetRatio = 2
const targetAddedMs = 1

export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b)
  const middle = Math.floor(sorted.length / 2)
  return sorted.length % 2 === 1 ? sorted[middle]! : ((sorted[middle - 1] ?? 0) + (sorted[middle] ?? 0)) / 2
}

interface Line {
  readonly way: Way
  readonly connections: number
  readonly rate: number
  readonly p50: number
  readonly p99: number
  /** Microseconds a request, by process. */
  readonly cpu: Record<string, number>
}

/** The median of the rounds, of each figure by itself. */
export function summarize(samples: readonly Sample[]): Line[] {
  const groups = Map.groupBy(samples, ({ way, connections }) => `${connections} ${way}`)
  return [...groups.values()].map((group) => {
    const { way, connections, cpu } = group[0]!
    const of = (figure: (sample: Sample) => number): number => median(group.map(figure))
    return {
      way,
      connections,
      rate: of(({ report }) => report.requests / report.seconds),
      p50: of(({ report }) => report.p50Ms),
      p99: of(({ report }) => report.p99Ms),
      cpu: Object.fromEntries(
        Object.keys(cpu).map((name) => [
          name,
          of((sample) => ((sample.cpu[name] ?? 0) / Math.max(1, sample.report.requests)) * 1e6),
        ]),
      ),
    }
  })
}

const path = (line: Line): number => (line.cpu.front ?? 0) + (line.cpu.proxy ?? 0)

export function verdict(lines: readonly Line[]): string {
  const find = (way: Way, connections: number): Line | undefined =>
    lines.find((line) => line.way === way && line.connections === connections)
  const ratios = lines
    .filter(({ way }) => way === 'gateway')
    .flatMap((line) => {
      const floor = find('floor', line.connections)?.cpu.floor
      return floor ? [{ connections: line.connections, ratio: path(line) / floor }] : []
    })
  const [one, floorOne] = [find('gateway', 1), find('floor', 1)]
  const added = one && floorOne ? one.p50 - floorOne.p50 : undefined
  const worst = ratios.length > 0 ? Math.max(...ratios.map(({ ratio }) => ratio)) : undefined
  const parts = [
    worst === undefined
      ? 'no ratio measured'
      : `front + proxy ${ratios.map(({ connections, ratio }) => `${ratio.toFixed(2)}x at ${connections}`).join(', ')} of the floor's CPU (target ${targetRatio}x: ${worst <= targetRatio ? 'met' : 'missed'})`,
    added === undefined
      ? 'no added p50 measured'
      : `added p50 over the floor at one connection ${added.toFixed(2)} ms (target < ${targetAddedMs} ms: ${added < targetAddedMs ? 'met' : 'missed'})`,
  ]
  return `verdict: ${parts.join('; ')}`
}

export function printReport(samples: readonly Sample[]): void {
  const lines = summarize(samples)
  const head = ['conns', 'way', 'req/s', 'p50 ms', 'p99 ms', 'CPU µs/req', 'x floor', 'by process']
  const rows = lines.map((line) => {
    const floor = lines.find(({ way, connections }) => way === 'floor' && connections === line.connections)
      ?.cpu.floor
    const own = line.way === 'gateway' ? path(line) : (line.cpu.floor ?? 0)
    return [
      String(line.connections),
      line.way,
      line.rate.toFixed(0),
      line.p50.toFixed(2),
      line.p99.toFixed(2),
      own > 0 ? own.toFixed(0) : '',
      own > 0 && floor ? (own / floor).toFixed(2) : '',
      Object.entries(line.cpu)
        .map(([name, value]) => `${name} ${value.toFixed(0)}`)
        .join(', '),
    ]
  })
  const widths = head.map((title, column) =>
    Math.max(title.length, ...rows.map((row) => row[column]?.length ?? 0)),
  )
  const text = (row: readonly string[]): string =>
    row
      .map((cell, column) =>
        column < 2 || column === 7 ? cell.padEnd(widths[column]!) : cell.padStart(widths[column]!),
      )
      .join('  ')
      .trimEnd()
  console.log(`\n${text(head)}`)
  for (const row of rows) console.log(text(row))
  console.log(`\nmedian of the rounds; CPU of the gateway is front + proxy; 10 ms is the clock's resolution`)
  console.log(verdict(lines))
}
