import { Fault } from '../../../shared/faults.ts'
import { isObject } from './protocol/jsonrpc.ts'
import { statusOf } from './protocol/shape.ts'
import type {
  JsonObject,
  JsonRpcError,
  JsonRpcMessage,
  JsonRpcNotification,
  JsonRpcRequest,
  JsonRpcResponse,
  McpCall,
  Objection,
  RequestId,
  SseWriter,
} from './protocol/types.ts'
import { Stop } from './stop.ts'

/** A question of a server waits at most this long for the client's answer. */
const questionMs = 5 * 60_000
/** A stream is opened after this long without an answer, so that nothing on the way takes the call for dead. */
const openStreamMs = 10_000
/** Progress may extend a call up to this many times its time-out. */
const hardLimitFactor = 10

/** Cancelled by the client: no answer is wanted any more. */
export class Cancelled extends Error {}

const clientGone = 'The client went away.'
const unanswered = (message: string): Answered => ({ error: { code: -32603, message } })

export type RequestCall = McpCall & { readonly message: JsonRpcRequest }
export type Answered = { result: JsonObject } | { error: JsonRpcError }

/** One running call of a client: its time, its stream, its questions. */
export class Flight {
  readonly stop = new Stop()
  readonly call: RequestCall
  /** The one server that the call is at; undefined while it is at none or many. */
  serverId: string | undefined
  readonly #flights: Flights
  readonly #startedAt = performance.now()
  readonly #limitMs: number
  #writer: SseWriter | undefined
  /** Answered, or given up. */
  #over = false
  /** Questions that are open. */
  #asking = 0
  #askedAt = 0
  /** For so long in all somebody was asked: time of theirs, not of the server. */
  #askedMs = 0

  constructor(flights: Flights, call: RequestCall, limitMs: number) {
    this.#flights = flights
    this.call = call
    this.#limitMs = limitMs
    this.stop.limit(limitMs)
  }

  get streaming(): boolean {
    return this.#writer !== undefined
  }

  /** Its client still waits for it. Makes the call's signal, so it is asked for the few that something is to be said on. */
  get heard(): boolean {
    return !this.#over && !this.call.signal.aborted
  }

  get ageMs(): number {
    return performance.now() - this.#startedAt
  }

  /** Restarts the time-out, up to the hard limit. While a question is open there is none. */
  extend(): void {
    if (this.#asking > 0) return
    const left = this.#limitMs * hardLimitFactor - (this.ageMs - this.#askedMs)
    this.stop.limit(Math.max(0, Math.min(this.#limitMs, left)))
  }

  /** Opens the stream where the answer takes long. */
  tick(): void {
    if (!this.#over && !this.#writer && this.ageMs > openStreamMs) this.stream()
  }

  /** Sends a notification on the call's stream, opening it where needed. */
  notify({ method, params }: Omit<JsonRpcNotification, 'jsonrpc'>): void | Promise<void> {
    if (this.#over) return
    return this.stream().send(JSON.stringify({ jsonrpc: '2.0', method, ...(params ? { params } : {}) }))
  }

  /** A message that is the client's to answer or not. */
  say(message: JsonRpcMessage): void | Promise<void> {
    if (!this.#over) return this.stream().send(JSON.stringify(message))
  }

  /** Sends a server's request to the client and waits for the answer that the client POSTs. */
  async ask({ method, params }: Pick<JsonRpcRequest, 'method' | 'params'>): Promise<Answered> {
    // A signal that has aborted tells nobody any more.
    if (this.call.signal.aborted) return unanswered(clientGone)
    const { id, answer, forget } = this.#flights.question(this.#flights.ownerOf(this.call))
    const waiting = new Stop().limit(questionMs, 'the client did not answer')
    const giveUp = (reason: Error): void => waiting.stop(reason)
    const gone = (): void => waiting.stop(new Cancelled())
    this.stop.on(giveUp)
    this.call.signal.addEventListener('abort', gone, { once: true })
    if (this.#asking++ === 0) this.#askedAt = performance.now()
    this.stop.hold()
    try {
      const givenUp = new Promise<never>((_resolve, reject) => waiting.on(reject))
      const question = { jsonrpc: '2.0', id, method, params: isObject(params) ? params : {} }
      await Promise.race([this.stream().send(JSON.stringify(question)), givenUp])
      const { result, error } = await Promise.race([answer, givenUp])
      return error ? { error } : { result: result ?? {} }
    } catch (error) {
      return unanswered(error instanceof Cancelled ? clientGone : Fault.from(error).message)
    } finally {
      waiting.end()
      this.stop.off(giveUp)
      this.call.signal.removeEventListener('abort', gone)
      forget()
      if (--this.#asking === 0) {
        this.#askedMs += performance.now() - this.#askedAt
        this.extend()
      }
    }
  }

  /** The answer, on the stream where one is open, else as JSON. */
  answer(answered: Answered): void {
    const text = JSON.stringify({ jsonrpc: '2.0', id: this.call.message.id, ...answered })
    this.#end(text, statusOf('error' in answered ? answered.error : undefined, this.call.era))
  }

  /** The answer as one JSON-RPC message that holds the client's id already. */
  answerText(text: string): void {
    this.#end(text, 200)
  }

  #end(text: string, status: number): void {
    if (this.#over) return
    this.#over = true
    if (this.#writer) {
      void this.#writer.send(text)
      this.#writer.end()
    } else {
      this.call.reply.json(status, text)
    }
  }

  /** Ends without an answer. */
  abandon(): void {
    if (this.#over) return
    const stream = this.stream()
    this.#over = true
    stream.end()
  }

  /** The call's stream, opened where it is not. */
  stream(): SseWriter {
    this.#writer ??= this.call.reply.stream()
    return this.#writer
  }
}

/** All running calls of this worker, so that a cancellation or an answer in another POST finds its call. */
export class Flights {
  readonly #all = new Set<Flight>()
  /** By owner and by the client's request id: two clients may pick the same. Modern calls are cancelled otherwise. */
  readonly #legacy = new Map<string, Map<RequestId, Flight>>()
  readonly #questions = new Map<string, { owner: string; resolve(response: JsonRpcResponse): void }>()
  /** The session, else the person. */
  readonly ownerOf: (call: McpCall) => string
  readonly #ticker: NodeJS.Timeout
  #lastQuestion = 0
  #idle: (() => void) | undefined

  readonly #questionPrefix: string

  /** `self`: this worker, in ids of questions. */
  constructor(ownerOf: (call: McpCall) => string, self: string) {
    this.ownerOf = ownerOf
    this.#questionPrefix = `gw-${self}-`
    this.#ticker = setInterval(() => {
      for (const flight of this.#all) flight.tick()
    }, 1_000)
    this.#ticker.unref()
  }

  get size(): number {
    return this.#all.size
  }

  open(call: RequestCall, limitMs: number): Flight {
    const flight = new Flight(this, call, limitMs)
    this.#all.add(flight)
    if (call.era === 'modern') {
      const cancel = (): void => flight.stop.stop(new Cancelled())
      if (call.signal.aborted) cancel()
      else call.signal.addEventListener('abort', cancel, { once: true })
      return flight
    }
    const owner = this.ownerOf(call)
    const own = this.#legacy.get(owner)
    if (own) own.set(call.message.id, flight)
    else this.#legacy.set(owner, new Map([[call.message.id, flight]]))
    return flight
  }

  close(flight: Flight): void {
    const { call } = flight
    flight.stop.end()
    this.#all.delete(flight)
    if (call.era === 'legacy') {
      const owner = this.ownerOf(call)
      const own = this.#legacy.get(owner)
      if (own?.get(call.message.id) === flight) own.delete(call.message.id)
      if (own?.size === 0) this.#legacy.delete(owner)
    }
    if (this.#all.size === 0) this.#idle?.()
  }

  /** notifications/cancelled: the call of this id of the same client. False where none runs here. */
  cancel(owner: string, requestId: RequestId): boolean {
    const flight = this.#legacy.get(owner)?.get(requestId)
    flight?.stop.stop(new Cancelled())
    return flight !== undefined
  }

  /** The client's answer to a question of this worker: only its own questions can be answered by it. */
  resolve(owner: string, response: JsonRpcResponse): void {
    const question = this.#questions.get(String(response.id))
    if (question?.owner === owner) question.resolve(response)
  }

  /** The worker that asked the question of this id, as far as the id says; ours among them. */
  static holderOf(id: RequestId | null): string | undefined {
    return /^gw-([\d.]{1,30})-\d+$/.exec(String(id))?.[1]
  }

  /** A new id, by which the owner's answer in whatever POST finds back to here. */
  question(owner: string): { id: string; answer: Promise<JsonRpcResponse>; forget(): void } {
    const id = `${this.#questionPrefix}${++this.#lastQuestion}`
    const { promise, resolve } = Promise.withResolvers<JsonRpcResponse>()
    this.#questions.set(id, { owner, resolve })
    return { id, answer: promise, forget: () => this.#questions.delete(id) }
  }

  /** A call of the session whose stream is open. */
  streamOf(owner: string): Flight | undefined {
    return [...(this.#legacy.get(owner)?.values() ?? [])].find((flight) => flight.streaming && flight.heard)
  }

  /** A running call of the session, one at this server where there is one. */
  runningOf(owner: string, serverId: string): Flight | undefined {
    const running = [...(this.#legacy.get(owner)?.values() ?? [])].filter(({ heard }) => heard)
    return running.find((flight) => flight.serverId === serverId) ?? running[0]
  }

  /** Everything that a client without a session any more still waits for. */
  cancelAll(owner: string): void {
    for (const flight of this.#legacy.get(owner)?.values() ?? []) flight.stop.stop(new Cancelled())
  }

  /** The policy changed: whatever it does not allow any more ends with its reason. */
  recheck(objection: Objection): void {
    for (const flight of this.#all) {
      const fault = objection(flight.call, flight.serverId)
      if (fault) flight.stop.stop(fault)
    }
  }

  /** Resolves when no call runs, or after `ms`, with the number left. */
  async drained(ms: number): Promise<number> {
    if (this.#all.size > 0) {
      await new Promise<void>((resolve) => {
        const timer = setTimeout(resolve, ms)
        this.#idle = () => {
          clearTimeout(timer)
          resolve()
        }
      })
    }
    return this.#all.size
  }

  end(): void {
    clearInterval(this.#ticker)
    for (const flight of this.#all) flight.stop.stop(new Fault('drain.timeout'))
  }
}
