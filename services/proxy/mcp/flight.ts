import { Fault } from '../../../shared/faults.ts'
import { isObject } from './protocol/jsonrpc.ts'
import type {
  JsonObject,
  JsonRpcRequest,
  JsonRpcResponse,
  McpCall,
  RequestId,
  SseWriter,
} from './protocol/types.ts'

/** A question of a server waits at most this long for the client's answer. */
const questionMs = 5 * 60_000
/** A stream is opened after this long without an answer, so that nothing on the way takes the call for dead. */
const openStreamMs = 10_000
/** Progress may extend a call up to this many times its time-out. */
const hardLimitFactor = 10

/** What belongs to one running call of a client: its time, its stream, its questions. */
export interface Flight {
  readonly signal: AbortSignal
  /** Restarts the time-out, up to the hard limit. */
  extend(): void
  /** Sends a notification on the call's stream, opening it where needed. */
  notify(message: { method: string; params?: JsonObject }): Promise<void>
  /** Sends a server's request to the client and waits for the answer that the client POSTs. */
  ask(request: JsonRpcRequest): Promise<{ result: JsonObject } | { error: { code: number; message: string } }>
  /** The answer, on the stream where one is open, else as JSON. */
  answer(message: Omit<JsonRpcResponse, 'jsonrpc' | 'id'>): Promise<void>
  /** Ends without an answer: the client cancelled. */
  abandon(): void
}

/** All running calls of this worker, so that a cancellation or an answer in another POST finds its call. */
export interface Flights {
  open(call: McpCall & { message: JsonRpcRequest }, timeoutMs: number): Flight
  close(call: McpCall & { message: JsonRpcRequest }, flight: Flight): void
  cancel(call: McpCall, requestId: unknown): void
  resolve(call: McpCall, response: JsonRpcResponse): void
  size(): number
}

/** Cancelled by the client: no answer is wanted any more. */
export class Cancelled extends Error {}

interface Entry {
  flight: Flight
  abort(reason: unknown): void
  timers: NodeJS.Timeout[]
}

export function createFlights(): Flights {
  const entries = new Map<string, Entry>()
  const questions = new Map<string, { resolve(response: JsonRpcResponse): void }>()
  let nextQuestion = 1

  /** Two clients may pick the same request id: a session, else the person, keeps them apart. */
  const ownerOf = (call: McpCall): string =>
    call.session?.id ?? `${call.principal.issuer} ${call.principal.subject}`
  const keyOf = (call: McpCall, id: unknown): string => `${ownerOf(call)}\n${typeof id}\n${String(id)}`

  return {
    open(call, timeoutMs) {
      const controller = new AbortController()
      const startedAt = performance.now()
      const expire = (): void => controller.abort(new Fault('upstream.timeout'))
      let timer = setTimeout(expire, timeoutMs)
      let writer: SseWriter | undefined
      let over = false
      const stream = (): SseWriter => {
        writer ??= call.reply.stream()
        return writer
      }
      const opener = setTimeout(() => {
        if (!over) stream()
      }, openStreamMs)
      opener.unref()
      const id: RequestId = call.message.id

      const flight: Flight = {
        signal: controller.signal,
        extend() {
          const left = timeoutMs * hardLimitFactor - (performance.now() - startedAt)
          clearTimeout(timer)
          timer = setTimeout(expire, Math.max(0, Math.min(timeoutMs, left)))
        },
        async notify({ method, params }) {
          if (over) return
          await stream().send(JSON.stringify({ jsonrpc: '2.0', method, ...(params ? { params } : {}) }))
        },
        async ask(request) {
          const question = `gw-${nextQuestion++}`
          const key = keyOf(call, question)
          const params = isObject(request.params) ? request.params : {}
          const answered = new Promise<JsonRpcResponse>((resolve, reject) => {
            questions.set(key, { resolve })
            const limit = setTimeout(
              () => reject(new Fault('upstream.timeout', { detail: 'the client did not answer' })),
              questionMs,
            )
            limit.unref()
            controller.signal.addEventListener('abort', () => reject(controller.signal.reason), {
              once: true,
            })
          })
          clearTimeout(timer)
          try {
            await stream().send(
              JSON.stringify({ jsonrpc: '2.0', id: question, method: request.method, params }),
            )
            const { result, error } = await answered
            return error ? { error } : { result: result ?? {} }
          } catch (error) {
            return { error: { code: -32603, message: Fault.from(error).message } }
          } finally {
            questions.delete(key)
            flight.extend()
          }
        },
        async answer(message) {
          if (over) return
          over = true
          const text = JSON.stringify({ jsonrpc: '2.0', id, ...message })
          if (!writer) return call.reply.json(200, text)
          await writer.send(text)
          writer.end()
        },
        abandon() {
          if (over) return
          over = true
          stream().end()
        },
      }
      entries.set(keyOf(call, id), {
        flight,
        abort: (reason) => controller.abort(reason),
        get timers() {
          return [timer, opener]
        },
      })
      if (call.era === 'modern') {
        if (call.signal.aborted) controller.abort(new Cancelled())
        else call.signal.addEventListener('abort', () => controller.abort(new Cancelled()), { once: true })
      }
      return flight
    },
    close(call, flight) {
      const key = keyOf(call, call.message.id)
      const entry = entries.get(key)
      if (entry?.flight !== flight) return
      for (const timer of entry.timers) clearTimeout(timer)
      entries.delete(key)
    },
    cancel(call, requestId) {
      entries.get(keyOf(call, requestId))?.abort(new Cancelled())
    },
    resolve(call, response) {
      questions.get(keyOf(call, response.id))?.resolve(response)
    },
    size: () => entries.size,
  }
}
