import type { Figures, Phase, Round } from './run.ts'
import type { Sample } from './watch.ts'

/** Growth from round to round that is a leak; the first round fills pools and caches and does not count. */
const growth: Readonly<Partial<Record<keyof Sample, number>>> = {
  handles: 10,
  files: 10,
  frontFiles: 10,
  upstreamSessions: 4,
}
/** What is held after a collection may rise by this much a round, averaged over at least four of them. */
const heldMbPerRound = 2
/**
 * Resident memory is the mark of what was needed at once, which later rounds may still raise: of the later half of the
 * rounds none may need more than this much above the highest one before.
 */
const rssAbove = 1.25
const roundsForMemory = 5

/** Least squares over equally spaced values. */
export function slope(values: readonly number[]): number {
  const mean = (values.length - 1) / 2
  const average = values.reduce((sum, value) => sum + value, 0) / values.length
  const [above, below] = values.reduce(
    ([a, b], value, at) => [a + (at - mean) * (value - average), b + (at - mean) ** 2] as const,
    [0, 0] as readonly [number, number],
  )
  return below === 0 ? 0 : above / below
}

/** What grew that has to stay. */
export function leaks(samples: readonly Sample[]): string[] {
  const [, second, ...later] = samples
  const last = later.at(-1)
  if (!second || !last) return []
  const grown = (Object.entries(growth) as [keyof Sample, number][]).flatMap(([name, limit]) =>
    last[name] - second[name] > limit ? [`${name} grew from ${second[name]} to ${last[name]}`] : [],
  )
  if (samples.length < roundsForMemory) return grown
  const rising = (['heldMb', 'frontHeldMb'] as const).flatMap((name) => {
    const perRound = slope(samples.slice(1).map((sample) => sample[name]))
    return perRound > heldMbPerRound ? [`${name} rises by ${perRound.toFixed(1)} a round`] : []
  })
  const half = Math.ceil(samples.length / 2)
  const swollen = (['rssMb', 'frontRssMb'] as const).flatMap((name) => {
    const highest = (part: readonly Sample[]): number => Math.max(...part.map((sample) => sample[name]))
    const [before, after] = [highest(samples.slice(0, half)), highest(samples.slice(half))]
    return after > before * rssAbove ? [`${name} went from ${before} to ${after} and does not level off`] : []
  })
  return [...grown, ...rising, ...swollen]
}

const count = ({ outcomes }: Phase): number => [...outcomes.values()].reduce((sum, each) => sum + each, 0)

const line = (phase: Phase): string => {
  const outcomes = [...phase.outcomes]
    .sort(([, a], [, b]) => b - a)
    .map(([name, times]) => `${times} ${name}`)
  const slowest = (phase.slowestMs / 1000).toFixed(1)
  return `  ${phase.name.padEnd(32)} ${String(count(phase)).padStart(5)} calls, slowest ${slowest.padStart(5)} s: ${outcomes.join(', ')}`
}

/** What became of one round's calls, and what the gateway holds at rest after it. */
export const told = ({ phases, sample }: Round): string =>
  [...phases.map(line), `  at rest: ${JSON.stringify(sample)}`].join('\n')

/** Every figure, and the totals. */
export function table({ rounds, killed, after }: Figures): string[] {
  const columns = [
    'heldMb',
    'rssMb',
    'handles',
    'files',
    'upstreamSessions',
    'frontHeldMb',
    'frontRssMb',
    'frontFiles',
  ] as const
  const held = slope(rounds.slice(1).map(({ sample }) => sample.heldMb))
  return [
    ...rounds.flatMap(({ phases }, at) => [`round ${at + 1}`, ...phases.map(line)]),
    'a proxy is killed with SIGKILL',
    line(killed),
    line(after),
    '',
    `at rest after round   ${columns.map((name) => name.padStart(18)).join('')}`,
    ...rounds.map(
      ({ sample }, at) =>
        `${String(at + 1).padStart(19)}   ${columns.map((name) => String(sample[name]).padStart(18)).join('')}`,
    ),
    `held by the proxies after a collection: ${held.toFixed(1)} MB a round more, after the first`,
  ]
}

export const calls = ({ rounds, killed, after }: Figures): number =>
  [...rounds.flatMap(({ phases }) => phases), killed, after].reduce((sum, phase) => sum + count(phase), 0)
