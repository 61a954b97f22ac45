import { randomInt } from 'node:crypto'
import { parseArgs } from 'node:util'
import { startChaosWorld } from './gateway.ts'
import { createRandom } from './random.ts'
import { calls, leaks, table, told } from './report.ts'
import { runChaos } from './run.ts'

/**
 * `npm run chaos [-- --seed <n>] [--rounds 6] [--calls 300] [--heavy 12] [--streams 1000]`: everything a server can do wrong,
 * through the whole gateway, and what it leaves behind. Prints its seed, the figures and the findings; exit code 1 with any.
 */
const { values } = parseArgs({
  options: {
    seed: { type: 'string', default: String(randomInt(2 ** 31)) },
    rounds: { type: 'string', default: '6' },
    calls: { type: 'string', default: '300' },
    heavy: { type: 'string', default: '12' },
    streams: { type: 'string', default: '1000' },
  },
})
const number = (text: string, name: string): number => {
  const value = Number(text)
  if (!Number.isSafeInteger(value) || value < 0) throw new Error(`--${name} is a number`)
  return value
}
const seed = number(values.seed, 'seed')
const plan = {
  rounds: number(values.rounds, 'rounds'),
  calls: number(values.calls, 'calls'),
  heavy: number(values.heavy, 'heavy'),
  streams: number(values.streams, 'streams'),
  killed: 100,
}
console.log(`seed ${seed}`)
const world = await startChaosWorld(10)
try {
  const figures = await runChaos(world, plan, createRandom(seed), (round) => console.log(told(round)))
  const findings = [...figures.findings, ...leaks(figures.rounds.map(({ sample }) => sample))]
  console.log(table(figures).join('\n'))
  for (const finding of new Set(findings)) {
    console.log(`! ${findings.filter((other) => other === finding).length} × ${finding}`)
  }
  console.log(`${calls(figures) - findings.length} passed, ${findings.length} failed`)
  process.exitCode = findings.length > 0 ? 1 : 0
} finally {
  await world.end()
}
