import t from 'tap'
import { median, type Sample, summarize, verdict, type Way } from './report.ts'

const sample = (
  way: Way,
  connections: number,
  cpu: Record<string, number>,
  p50Ms: number,
  round = 0,
): Sample => ({
  way,
  connections,
  round,
  cpu,
  report: { requests: 1000, errors: 0, firstError: null, seconds: 2, p50Ms, p99Ms: p50Ms * 3 },
})

t.test('figures are medians of the rounds, CPU is of a request', async (t) => {
  t.equal(median([3, 1, 2]), 2)
  t.equal(median([4, 1, 2, 3]), 2.5)
  const [line] = summarize(
    [1, 9, 2].map((p50, round) => sample('floor', 1, { floor: 0.1 * p50 }, p50, round)),
  )
  t.match(line, { way: 'floor', connections: 1, rate: 500, p50: 2, cpu: { floor: 200 } })
})

t.test('the verdict names what was met and what was not', async (t) => {
  const floor = sample('floor', 1, { floor: 0.1 }, 0.5)
  const good = verdict(summarize([floor, sample('gateway', 1, { front: 0.05, proxy: 0.14, sync: 9 }, 1.2)]))
  t.match(good, /1\.90x at 1 of the floor's CPU \(target 2x: met\)/)
  t.match(good, /0\.70 ms \(target < 1 ms: met\)/)
  const bad = verdict(summarize([floor, sample('gateway', 1, { front: 0.1, proxy: 0.2 }, 2)]))
  t.match(bad, /3\.00x at 1 .*missed.*1\.50 ms .*missed/)
})
