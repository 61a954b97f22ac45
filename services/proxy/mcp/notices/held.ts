import { LRUCache } from 'lru-cache'
import { Fault } from '../../../../shared/faults.ts'
import type { Answered, Flight, Flights } from '../flight.ts'
import type { Peers } from '../protocol/peers.ts'
import type { JsonRpcRequest } from '../protocol/types.ts'
import type { Question } from '../rounds/live.ts'
import { Stop } from '../stop.ts'

/** How long a question waits for a request of its session. Servers give up after 60 s, by the SDKs' default. */
const heldMs = 30_000
/** How long the client may take once it was asked. */
const answerMs = 5 * 60_000
const maxPerSession = 8
const maxSessions = 512
/** A larger question is not kept. */
const maxChars = 65_536

const refusal = (message: string): Answered => ({ error: { code: -32603, message } })
const nobodyThere = refusal('The client has no request open on which it could be asked.')

/**
 * Questions of legacy servers that came while no request of their session ran. The next one brings them to the client on
 * its stream, in whichever worker it comes; the answer finds its way back by the question's id.
 */
export class HeldQuestions {
  readonly #flights: Flights
  readonly #peers: Peers | undefined
  /** By session, what any worker holds for it. Those of other workers may go unanswered for ever, hence the age. */
  readonly #waiting = new LRUCache<string, Map<string, JsonRpcRequest>>({ max: maxSessions, ttl: heldMs })
  /** The questions that this worker's servers asked. */
  readonly #own = new Map<string, Stop>()

  constructor(flights: Flights, peers: Peers | undefined) {
    this.#flights = flights
    this.#peers = peers
  }

  /** Of this worker's servers, asked or not. */
  get size(): number {
    return this.#own.size
  }

  /** Resolves with the client's answer, or with an error when none can be had. */
  async ask(owner: string, { method, params = {} }: Question): Promise<Answered> {
    const full = (this.#waiting.get(owner)?.size ?? 0) >= maxPerSession || this.#own.size >= maxSessions
    if (full || JSON.stringify(params).length > maxChars) return nobodyThere
    const { id, answer, forget } = this.#flights.question(owner)
    const question: JsonRpcRequest = { jsonrpc: '2.0', id, method, params }
    const patience = new Stop().limit(heldMs)
    this.#own.set(id, patience)
    this.hold(owner, question)
    this.#peers?.notice({ owner, held: question })
    try {
      const gone = new Promise<never>((_resolve, reject) => patience.on(reject))
      const { result, error } = await Promise.race([answer, gone])
      return error ? { error } : { result: result ?? {} }
    } catch (error) {
      return error instanceof Fault ? nobodyThere : refusal('The session has ended.')
    } finally {
      patience.end()
      forget()
      this.#own.delete(id)
      this.asked(owner, id)
      this.#peers?.notice({ owner, asked: id })
    }
  }

  /** A request of the session begins: what waits goes out on its stream. */
  deliver(owner: string, flight: Flight): void {
    const waiting = this.#waiting.get(owner)
    if (!waiting || !flight.heard) return
    for (const [id, question] of waiting) {
      this.asked(owner, id)
      this.#peers?.notice({ owner, asked: id })
      void flight.say(question)
    }
  }

  /** Of this worker or another. */
  hold(owner: string, question: JsonRpcRequest): void {
    const waiting = this.#waiting.get(owner) ?? new Map<string, JsonRpcRequest>()
    if (waiting.size >= maxPerSession) return
    this.#waiting.set(owner, waiting.set(String(question.id), question))
  }

  /** Some worker asked it, or gave it up. */
  asked(owner: string, id: string): void {
    this.#own.get(id)?.limit(answerMs)
    const waiting = this.#waiting.peek(owner)
    if (waiting?.delete(id) && waiting.size === 0) this.#waiting.delete(owner)
  }

  /** The session is over. */
  end(owner: string): void {
    for (const id of this.#waiting.peek(owner)?.keys() ?? []) this.#own.get(id)?.stop(new Error('ended'))
    this.#waiting.delete(owner)
  }

  close(): void {
    for (const patience of [...this.#own.values()]) patience.stop(new Error('ended'))
  }
}
