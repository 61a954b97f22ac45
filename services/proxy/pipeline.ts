import { Fault } from '../../shared/faults.ts'
import type { Exchange } from './exchange.ts'
import type { Measures } from './measures.ts'
import type { EdgeRecorder } from './record.ts'
import { type RefuseDeps, refuse } from './refuse.ts'
import type { AuthenticateDeps } from './steps/authenticate.ts'
import { authenticate } from './steps/authenticate.ts'
import { classify } from './steps/classify.ts'
import { type CoreDeps, core } from './steps/core.ts'
import { decide } from './steps/decide.ts'
import { end } from './steps/end.ts'
import { type LimitDeps, limit } from './steps/limit.ts'
import { type ReadDeps, read } from './steps/read.ts'
import { type SessionDeps, session } from './steps/session.ts'

/** One decision about one request. Throws a Fault to refuse; gives a promise only where it has to wait. */
export type Run = (x: Exchange) => void | Promise<void>

export interface Step {
  readonly name: string
  /** What the step may cost, µs of our own CPU for a warm, usual request; `stats` shows what it did cost. */
  readonly budgetUs: number
  readonly run: Run
}

export type PipelineDeps = LimitDeps &
  AuthenticateDeps &
  ReadDeps &
  SessionDeps &
  Omit<CoreDeps, 'refuseOne'> &
  RefuseDeps & {
    readonly recorder: EdgeRecorder
    readonly measures: Measures
  }

/** One request in so many is timed step by step. */
const sampleEvery = 64

/** The request path, in the order it happens. POST carries a message, DELETE ends a session. */
export function createPipeline(deps: PipelineDeps): Pipeline {
  const refuseOne = (x: Exchange, fault: Fault): void => {
    deps.recorder.refused(x, fault, refuse(x, fault, deps))
  }
  const post: Step[] = [
    { name: 'limit', budgetUs: 3, run: limit(deps) },
    { name: 'authenticate', budgetUs: 8, run: authenticate(deps) },
    { name: 'read', budgetUs: 40, run: read(deps) },
    { name: 'classify', budgetUs: 3, run: classify },
    { name: 'session', budgetUs: 3, run: session(deps) },
    { name: 'decide', budgetUs: 2, run: decide(deps) },
    // Per server behind us: decide → credential → relay → shape.
    { name: 'core', budgetUs: 150, run: core({ ...deps, refuseOne }) },
  ]
  const remove: Step[] = [
    { name: 'limit', budgetUs: 3, run: limit(deps) },
    { name: 'authenticate', budgetUs: 8, run: authenticate(deps) },
    { name: 'session', budgetUs: 3, run: session(deps) },
    { name: 'end', budgetUs: 10, run: end(deps) },
  ]
  return new Pipeline(post, remove, deps)
}

type Deps = RefuseDeps & { readonly recorder: EdgeRecorder; readonly measures: Measures }

export class Pipeline {
  readonly #post: readonly Step[]
  readonly #delete: readonly Step[]
  readonly #deps: Deps
  /** Moving average of µs per step; waiting for the client or a server counts in `read` and `core`. */
  readonly #costs = new Map<string, number>()
  readonly #authFailures = { missing_header: 0, audience_mismatch: 0, invalid_token: 0 }
  #count = 0

  constructor(post: readonly Step[], remove: readonly Step[], deps: Deps) {
    this.#post = post
    this.#delete = remove
    this.#deps = deps
  }

  get requests(): number {
    return this.#count
  }

  /** Takes a request to its answer. Never rejects. */
  async run(x: Exchange): Promise<void> {
    const steps = x.req.method === 'POST' ? this.#post : x.req.method === 'DELETE' ? this.#delete : []
    const timed = this.#count++ % sampleEvery === 0
    const arrived = performance.now()
    try {
      if (steps.length === 0) throw new Fault('http.method')
      for (const step of steps) {
        const began = timed ? performance.now() : 0
        const waiting = step.run(x)
        if (waiting) await waiting
        if (timed) this.#cost(step.name, (performance.now() - began) * 1000)
      }
    } catch (error) {
      x.outcome = 'error'
      this.#refuse(x, Fault.from(error))
    }
    if (x.parsed) this.#deps.measures.processed(x.message, x.outcome, performance.now() - arrived)
  }

  /** `step.<name>.us`: the measured side of the budgets. */
  stats(): Record<string, number> {
    const costs = [...this.#costs].map(([name, us]) => [`step.${name}.us`, Math.round(us * 10) / 10])
    const failures = Object.entries(this.#authFailures).map(([name, count]) => [
      `authFailures.${name}`,
      count,
    ])
    return Object.fromEntries([...costs, ...failures])
  }

  #refuse(x: Exchange, fault: Fault): void {
    const status = refuse(x, fault, this.#deps)
    if (status === 401) {
      const reason = authReason(fault)
      this.#authFailures[reason]++
      this.#deps.measures.authFailures.inc(reason)
    }
    this.#deps.recorder.refused(x, fault, status)
  }

  #cost(name: string, us: number): void {
    const former = this.#costs.get(name)
    this.#costs.set(name, former === undefined ? us : former + (us - former) / 16)
  }
}

/** The reasons that the product's metric of failed authentication tells apart. */
function authReason(fault: Fault): 'missing_header' | 'audience_mismatch' | 'invalid_token' {
  if (fault.code === 'token.missing') return 'missing_header'
  return fault.code === 'token.audience' ? 'audience_mismatch' : 'invalid_token'
}
