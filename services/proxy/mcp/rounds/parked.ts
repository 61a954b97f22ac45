import { randomUUID } from 'node:crypto'
import { Fault } from '../../../../shared/faults.ts'
import type { Principal } from '../../../../shared/policy.ts'
import type { Answered } from '../flight.ts'
import { isObject } from '../protocol/jsonrpc.ts'
import type { ResumeRequest, Turn, UpstreamAnswer, Waiter } from '../protocol/peers.ts'
import type { JsonObject, Objection, ParkedLimits } from '../protocol/types.ts'
import { Stop } from '../stop.ts'
import type { Party, UpstreamRequest } from '../upstream/request.ts'
import { maxRounds, type Question } from './live.ts'

const usualLimits: ParkedLimits = {
  parkMs: 5 * 60_000,
  lifeMs: 30 * 60_000,
  perPerson: 16,
  total: 512,
}

/** Questions that a server asks at once are put to the client at once: they may come in several pieces. */
const gatherMs = 20
/** Of one round; a server that asks more is answered with an error. */
const maxQuestions = 32

interface Waiting {
  readonly question: Question
  answer(answered: Answered): void
}

/** A call at a legacy server on behalf of a modern client: it stays open there while the client is asked. */
class Conversation {
  readonly id = randomUUID()
  readonly stop = new Stop()
  readonly principal: Principal
  readonly principalKey: string
  readonly serverId: string
  readonly startedAt = performance.now()
  /** Set once the server answered or the call failed. */
  outcome: { answer: UpstreamAnswer } | { error: unknown } | undefined
  waiter: Waiter | undefined
  round = 0
  readonly #waiting = new Map<string, Waiting>()
  #gathering: NodeJS.Timeout | undefined
  #asked = 0
  #wake: (() => void) | undefined

  constructor({ principal, principalKey }: Pick<Party, 'principal' | 'principalKey'>, serverId: string) {
    this.principal = principal
    this.principalKey = principalKey
    this.serverId = serverId
  }

  get questions(): JsonObject {
    return Object.fromEntries([...this.#waiting].map(([key, { question }]) => [key, question]))
  }

  get asks(): boolean {
    return this.#waiting.size > 0 && this.#gathering === undefined
  }

  ask(question: Question): Promise<Answered> {
    if (this.#waiting.size >= maxQuestions) {
      return Promise.resolve({ error: { code: -32603, message: 'Too many questions at once.' } })
    }
    return new Promise((answer) => {
      this.#waiting.set(`q${++this.#asked}`, { question, answer })
      this.#gathering ??= setTimeout(() => {
        this.#gathering = undefined
        this.#wake?.()
      }, gatherMs)
    })
  }

  /** What the client sent; a question that it left out stays open and is asked again. */
  give(responses: JsonObject): void {
    for (const [key, result] of Object.entries(responses)) {
      const waiting = this.#waiting.get(key)
      if (!waiting || !isObject(result)) continue
      this.#waiting.delete(key)
      waiting.answer({ result })
    }
  }

  settle(outcome: { answer: UpstreamAnswer } | { error: unknown }): void {
    this.outcome = outcome
    clearTimeout(this.#gathering)
    this.#waiting.clear()
    this.#wake?.()
  }

  /** Until the server answered, or asks something. */
  async next(): Promise<void> {
    while (!this.outcome && !this.asks) {
      await new Promise<void>((resolve) => {
        this.#wake = resolve
      })
    }
    this.#wake = undefined
  }
}

/**
 * Calls that a legacy server interrupts with questions for a modern client. The server's stream stays open in this
 * worker, the client gets `input_required`, and its retry, through whichever worker, goes on with the same call
 * (MCP 2026-07-28, multi round-trip requests).
 */
export class ParkedCalls {
  readonly #held = new Map<string, Conversation>()
  readonly #limits: ParkedLimits
  #idle: (() => void) | undefined

  constructor(limits: Partial<ParkedLimits> = {}) {
    this.#limits = { ...usualLimits, ...limits }
  }

  /** Calls that wait for their clients. */
  get size(): number {
    return this.#held.size
  }

  /** Sends a call to its server; `send` gets the hooks that carry its questions and its end. */
  start(
    party: Pick<Party, 'principal' | 'principalKey'>,
    serverId: string,
    waiter: Waiter,
    mayAsk: (question: Question) => Answered | undefined,
    send: (
      hooks: Required<Pick<UpstreamRequest, 'stop' | 'onRequest' | 'onNotification'>>,
    ) => Promise<UpstreamAnswer>,
  ): Promise<Turn> {
    const call = new Conversation(party, serverId)
    send({
      stop: call.stop,
      onRequest: async ({ method, params }) => {
        const question = params === undefined ? { method } : { method, params }
        return mayAsk(question) ?? call.ask(question)
      },
      // While the client is away there is nobody to tell.
      onNotification: (message) => call.waiter?.notify(message),
    }).then(
      (answer) => call.settle({ answer }),
      (error: unknown) => call.settle({ error }),
    )
    return this.#turn(call, waiter)
  }

  /** Goes on with a call. Throws `question.expired` for one that is not here, or not of this person and round. */
  async resume(request: ResumeRequest, waiter: Waiter): Promise<Turn> {
    const call = this.#held.get(request.id)
    // A second retry of one round comes too late: the first took the call, and holds it.
    const fits =
      call?.principalKey === request.principalKey &&
      call.serverId === request.serverId &&
      call.round === request.round &&
      !call.waiter
    if (!call || !fits) throw new Fault('question.expired')
    call.give(request.inputResponses)
    return this.#turn(call, waiter)
  }

  /** The policy changed: whatever it does not allow any more ends. */
  recheck(objection: Objection): void {
    for (const call of this.#held.values()) {
      const fault = objection(call, call.serverId)
      if (fault) call.stop.stop(fault)
    }
  }

  /** Resolves when no call waits for a client, or after `ms`, with the number left. */
  async drained(ms: number): Promise<number> {
    if (this.#held.size > 0) {
      await new Promise<void>((resolve) => {
        const timer = setTimeout(resolve, ms)
        this.#idle = () => {
          clearTimeout(timer)
          resolve()
        }
      })
    }
    return this.#held.size
  }

  /** Gives all up; their servers are told. */
  end(): void {
    for (const call of this.#held.values()) call.stop.stop(new Fault('drain.timeout'))
  }

  async #turn(call: Conversation, waiter: Waiter): Promise<Turn> {
    const giveUp = (reason: Error): void => call.stop.stop(reason)
    call.waiter = waiter
    call.stop.hold()
    waiter.stop.on(giveUp)
    try {
      await call.next()
      const { outcome } = call
      if (!outcome && call.stop.reason) throw call.stop.reason
      // An answer that comes while the client is away is kept for it, as long as a question would be.
      if (!outcome) return this.#park(call)
      call.stop.end()
      this.#forget(call)
      if ('error' in outcome) throw outcome.error
      return outcome
    } finally {
      waiter.stop.off(giveUp)
      call.waiter = undefined
    }
  }

  #park(call: Conversation): Turn {
    const refusal = this.#refusal(call)
    if (refusal) {
      call.stop.stop(refusal)
      this.#forget(call)
      throw refusal
    }
    const { parkMs, lifeMs } = this.#limits
    const left = lifeMs - (performance.now() - call.startedAt)
    call.round++
    call.stop.limit(Math.max(0, Math.min(parkMs, left)), 'the client did not answer what the server asked')
    call.stop.on(() => this.#forget(call))
    this.#held.set(call.id, call)
    return { id: call.id, round: call.round, inputRequests: call.questions }
  }

  #refusal(call: Conversation): Fault | undefined {
    if (call.round >= maxRounds)
      return new Fault('upstream.rejected', { detail: 'the server asks without end' })
    if (this.#held.has(call.id)) return undefined
    let own = 0
    for (const { principalKey } of this.#held.values()) if (principalKey === call.principalKey) own++
    const { perPerson, total } = this.#limits
    return own >= perPerson || this.#held.size >= total ? new Fault('question.limit') : undefined
  }

  #forget(call: Conversation): void {
    if (!this.#held.delete(call.id)) return
    if (this.#held.size === 0) this.#idle?.()
  }
}
