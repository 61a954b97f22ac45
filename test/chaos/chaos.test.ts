import t from 'tap'
import { proves } from '../requirements.ts'
import { startChaosWorld } from './gateway.ts'
import { createRandom } from './random.ts'
import { leaks, slope, table } from './report.ts'
import { runChaos } from './run.ts'
import { light, vices } from './vices.ts'
import type { Sample } from './watch.ts'

t.test(
  'every vice, restarts, ten megabytes, streams and a killed proxy: each call ends as it has to',
  async (t) => {
    proves(t, 'MCP-HOSTILE-03')
    const world = await startChaosWorld(10)
    t.teardown(world.end)
    const plan = { rounds: 3, calls: 80, heavy: 4, streams: 150, killed: 40 }
    const figures = await runChaos(world, plan, createRandom(20_261_123))
    t.comment(table(figures).join('\n'))
    t.same(figures.findings, [])
    t.same(leaks(figures.rounds.map(({ sample }) => sample)), [])
  },
)

t.test('a seed makes a plan, and a plan meets every vice', async (t) => {
  const names = (seed: number): string[] => {
    const random = createRandom(seed)
    return Array.from({ length: 300 }, () => random.pick(light))
  }
  t.same(names(7), names(7))
  t.notSame(names(7), names(8))
  t.same([...new Set(names(7))].sort(), [...light].sort())
  t.ok(Object.values(vices).every(({ allowed }) => allowed.length > 0))
})

t.test('what counts as a leak', async (t) => {
  const sample: Sample = {
    heldMb: 50,
    rssMb: 200,
    handles: 10,
    files: 40,
    upstreamSessions: 4,
    frontHeldMb: 20,
    frontRssMb: 100,
    frontFiles: 30,
  }
  const rounds = (change: (at: number) => Partial<Sample>): Sample[] =>
    [0, 1, 2, 3, 4, 5].map((at) => ({ ...sample, ...change(at) }))
  t.same(leaks(rounds(() => ({}))), [])
  t.same(leaks(rounds((at) => ({ files: 40 + 4 * at }))), ['files grew from 44 to 60'])
  t.match(leaks(rounds((at) => ({ heldMb: 50 + 3 * at }))), [/^heldMb rises by 3\.0/])
  t.match(leaks(rounds((at) => ({ rssMb: 200 + 40 * at }))), [/^rssMb went from 280 to 400/])
  t.same(leaks(rounds((at) => ({ rssMb: at === 0 ? 100 : 300 + (at % 2) * 30 }))), [], 'it breathes')
  t.equal(slope([1, 2, 3]), 1)
})
