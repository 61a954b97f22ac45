import { setTimeout as pause } from 'node:timers/promises'
import PQueue from 'p-queue'
import { createLoad, type Era, type Load } from './client.ts'
import type { ChaosWorld } from './gateway.ts'
import type { Random } from './random.ts'
import { heavy, light, type Outcome, vices } from './vices.ts'
import { type Sample, watch } from './watch.ts'

export interface Plan {
  readonly rounds: number
  /** Calls with a random vice, per round. */
  readonly calls: number
  /** Calls of ten megabytes and more, per round. */
  readonly heavy: number
  /** Streams that are open at once, per round. */
  readonly streams: number
  /** Calls that run when a proxy process is killed. */
  readonly killed: number
}

export interface Phase {
  readonly name: string
  readonly outcomes: ReadonlyMap<Outcome, number>
  readonly slowestMs: number
}

export interface Round {
  readonly phases: readonly Phase[]
  readonly sample: Sample
}

export interface Figures {
  readonly rounds: readonly Round[]
  readonly killed: Phase
  readonly after: Phase
  /** What was not as it has to be, each in one line. */
  readonly findings: readonly string[]
}

/** So many that those which wait for a time-out do not hold up the others. */
const atOnce = 64
const heavyAtOnce = 3
const eras: readonly Era[] = ['legacy', 'modern']
const names = ['legacy', 'modern'] as const
/** While a server restarts, any call to it may end like this besides. */
const whileRestarting: readonly Outcome[] = ['rpc 5020', 'rpc 5021', 'rpc 5022']
const openMs = 60_000
const burst = 50

/** What answers are counted into. */
class Tally {
  readonly outcomes = new Map<Outcome, number>()
  slowestMs = 0
  readonly #name: string
  readonly #findings: string[]

  constructor(name: string, findings: string[]) {
    this.#name = name
    this.#findings = findings
  }

  add({ outcome, ms }: { outcome: Outcome; ms: number }, allowed: readonly Outcome[], what: string): void {
    this.outcomes.set(outcome, (this.outcomes.get(outcome) ?? 0) + 1)
    this.slowestMs = Math.max(this.slowestMs, ms)
    if (!allowed.includes(outcome)) this.#findings.push(`${this.#name}: ${what}: ${outcome}`)
  }

  get phase(): Phase {
    return { name: this.#name, outcomes: this.outcomes, slowestMs: Math.round(this.slowestMs) }
  }
}

/** Runs the plan against the gateway; everything random comes from `random`. */
export async function runChaos(
  { rig, access, servers, heldDir }: ChaosWorld,
  plan: Plan,
  random: Random,
  /** As it goes: a run that is cut short shows how far it came. */
  tell: (round: Round) => void = () => {},
): Promise<Figures> {
  const findings: string[] = []
  const watching = watch(rig, heldDir)
  let lastNonce = 0
  const nonce = (): string => `<${++lastNonce}>`

  /** Random calls; the servers restart meanwhile, twice each. */
  const storm = async (load: Load, name: string, kinds: readonly string[], count: number, width: number) => {
    const tally = new Tally(name, findings)
    const queue = new PQueue({ concurrency: width })
    const restarts = kinds === heavy ? [] : [...names, ...names]
    const every = Math.floor(count / (restarts.length + 1))
    for (let at = 1; at <= count; at++) {
      const [era, server, vice] = [random.pick(eras), random.pick(names), random.pick(kinds)]
      void queue.add(async () => {
        const before = servers[server].restarts
        const answered = await load.call(era, server, { vice, nonce: nonce() })
        const undisturbed = before % 2 === 0 && before === servers[server].restarts
        const also = undisturbed ? [] : whileRestarting
        tally.add(
          answered,
          [...vices[vice]!.allowed, ...also],
          `${era} client, ${server} server that ${vice}`,
        )
      })
      const which = restarts[at / every - 1]
      if (at % every === 0 && which) void queue.add(() => servers[which].restart())
    }
    await queue.onIdle()
    return tally.phase
  }

  /** Opens `count` streams and resolves when each has bytes, with what becomes of them. */
  const open = async (load: Load, count: number, tally: Tally, allowed: readonly Outcome[]) => {
    let opened = 0
    const all: Promise<void>[] = []
    const deadline = Date.now() + openMs
    for (let at = 0; at < count; at++) {
      // In bursts: a thousand handshakes at once would be a test of this process's own time for them.
      while (at - opened >= burst && Date.now() < deadline) await pause(5)
      const [era, server] = [eras[at % 2]!, names[Math.floor(at / 2) % 2]!]
      const call = load.call(era, server, { vice: 'hold', nonce: nonce() }, () => opened++)
      const what = `${era} client, stream of a ${server} server`
      all.push(call.then((answered) => tally.add(answered, allowed, what)))
    }
    while (opened < count && Date.now() < deadline) await pause(20)
    if (opened < count) findings.push(`${tally.phase.name}: ${opened} of ${count} streams were open at once`)
    return { ended: Promise.all(all) }
  }
  const release = (): void => {
    for (const name of names) servers[name].release()
  }

  const streams = async (load: Load) => {
    const tally = new Tally(`${plan.streams} streams at once`, findings)
    const { ended } = await open(load, plan.streams, tally, ['result'])
    release()
    await ended
    return tally.phase
  }

  const rest = async (when: string): Promise<Sample> => {
    const { left, sample } = await watching.rest()
    for (const [name, value] of Object.entries(left)) findings.push(`${when}: ${value} ${name} never ended`)
    for (const name of names) {
      if (servers[name].held > 0) findings.push(`${when}: ${servers[name].held} calls at the ${name} server`)
    }
    return sample
  }

  const rounds: Round[] = []
  for (let round = 1; round <= plan.rounds; round++) {
    const load = await createLoad(access)
    const phases = [
      await storm(load, 'calls of every vice', light, plan.calls, atOnce),
      await storm(load, 'ten megabytes and more', heavy, plan.heavy, heavyAtOnce),
      await streams(load),
    ]
    await load.close()
    for (const name of names) servers[name].drop()
    const done: Round = { phases, sample: await rest(`after round ${round}`) }
    rounds.push(done)
    tell(done)
  }

  const load = await createLoad(access)
  const killed = new Tally('calls while a proxy is killed', findings)
  const dies = ['result', 'http 502', 'connection UND_ERR_SOCKET', 'connection ECONNRESET']
  const { ended } = await open(load, plan.killed, killed, dies)
  const [victim] = rig.pids('proxy')
  if (victim === undefined) throw new Error('there is no proxy process')
  process.kill(victim, 'SIGKILL')
  release()
  await watching.ready()
  release()
  await ended
  if (!killed.outcomes.has('result')) findings.push('calls of the other proxy did not survive')
  await load.close().catch(() => {})

  const again = await createLoad(access)
  const after = new Tally('calls after it', findings)
  await Promise.all(
    Array.from({ length: atOnce }, async (_, at) => {
      const [era, server] = [eras[at % 2]!, names[Math.floor(at / 2) % 2]!]
      after.add(
        await again.call(era, server, { vice: 'none', nonce: nonce() }),
        ['result'],
        `${era}, ${server}`,
      )
    }),
  )
  await again.close()
  await rest('at the end')
  return { rounds, killed: killed.phase, after: after.phase, findings }
}
