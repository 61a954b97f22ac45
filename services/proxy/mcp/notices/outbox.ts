import type { Clock } from '../../../../shared/clock.ts'
import { taskMethod, updatedMethod } from '../protocol/changes.ts'
import { isObject } from '../protocol/jsonrpc.ts'
import type { JsonObject, JsonRpcNotification } from '../protocol/types.ts'

/** Notices of one moment become one of each; a server that floods is slowed down by it. */
const pauseMs = 50
/** Most that waits for a client; the oldest is dropped for the newest. */
const maxWaiting = 512
/** Larger params of a server are dropped from a notice of change, which says all by its method. */
const maxParamsChars = 4_096
/** A larger line of a log, or a larger task, is not kept for later. */
const maxWholeChars = 16_384

/** Sends one notification; a promise while the client takes no more. Undefined: there is no stream to send it on. */
export type Send = (notification: JsonRpcNotification) => void | Promise<void>

/**
 * What waits to be told to a client: of each change only the last, in the order they came first. Sent as fast as the
 * client takes it.
 */
export class Outbox {
  readonly #clock: Clock
  readonly #sender: () => Send | undefined
  readonly #waiting = new Map<string, JsonRpcNotification>()
  #serial = 0
  #sending = false

  /** `sender`: how to send now, asked before each notification. */
  constructor(clock: Clock, sender: () => Send | undefined) {
    this.#clock = clock
    this.#sender = sender
  }

  get size(): number {
    return this.#waiting.size
  }

  push(notification: JsonRpcNotification): void {
    const { method, params } = notification
    const log = method === 'notifications/message'
    if ((log || method === taskMethod) && JSON.stringify(params ?? {}).length > maxWholeChars) return
    const about = method === taskMethod ? params?.taskId : params?.uri
    const key = log ? `${method}\n${++this.#serial}` : keyOf(method, about)
    this.#waiting.set(key, log ? notification : { jsonrpc: '2.0', method, params: passable(method, params) })
    if (this.#waiting.size > maxWaiting) {
      const [oldest] = this.#waiting.keys()
      this.#waiting.delete(oldest!)
    }
    void this.flush()
  }

  /** The client is about to see for itself what changed. */
  forget(method: string, uri?: unknown): void {
    this.#waiting.delete(keyOf(method, uri))
  }

  /** Everything that waits, for who sends it by themselves. */
  take(): JsonRpcNotification[] {
    const taken = [...this.#waiting.values()]
    this.#waiting.clear()
    return taken
  }

  async flush(): Promise<void> {
    if (this.#sending) return
    this.#sending = true
    let batch = this.#waiting.size
    for (let [next] = this.#waiting; next; [next] = this.#waiting) {
      // Asked for each: the stream may have ended meanwhile, and what was not sent by then goes on waiting.
      const send = this.#sender()
      if (!send) break
      const [key, notification] = next
      const taken = send(notification)
      // Before it is waited for: who takes what waits must not send it again.
      this.#waiting.delete(key)
      await taken
      if (--batch > 0 && this.#waiting.size > 0) continue
      await this.#clock.sleep(pauseMs)
      batch = this.#waiting.size
    }
    this.#sending = false
  }
}

const keyOf = (method: string, about: unknown): string =>
  method === updatedMethod || method === taskMethod ? `${method}\n${String(about)}` : method

/** A server's params without fields of the protocol, which are the gateway's to write. */
function passable(method: string, params: JsonObject | undefined): JsonObject {
  if (!params) return {}
  if (method !== taskMethod && JSON.stringify(params).length > maxParamsChars)
    return method === updatedMethod ? { uri: params.uri } : {}
  const { _meta, ...rest } = params
  const own = Object.entries(isObject(_meta) ? _meta : {}).filter(
    ([key]) => !key.startsWith('io.modelcontextprotocol/'),
  )
  return own.length > 0 ? { ...rest, _meta: Object.fromEntries(own) } : rest
}
