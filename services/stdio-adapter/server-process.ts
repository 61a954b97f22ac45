import { type ChildProcessByStdio, spawn } from 'node:child_process'
import type { Readable, Writable } from 'node:stream'
import type { Clock } from '../../shared/clock.ts'
import type { Logger } from '../../shared/log.ts'
import { Lines } from './lines.ts'
import { stderrLog } from './stderr-log.ts'

export type Message = { [key: string]: unknown }

/** What a running request hears before its answer. */
export interface Listener {
  /** A notification or a question of the server. Returns a promise while the reader can not keep up. */
  onMessage(message: Message): void | Promise<void>
}

export interface ServerProcessOptions {
  /** Program, its arguments and its environment: nothing is added, no shell reads them. */
  readonly argv: readonly [string, ...string[]]
  readonly cwd: string
  readonly env: Readonly<Record<string, string>>
  /** Values that no log line may hold. */
  readonly secrets: readonly string[]
  readonly maxMessageBytes: number
  readonly clock: Clock
  readonly log: Logger
}

/** The process ended, or was ended, before its answer. */
export class ProcessGone extends Error {}

/** What waits to be read by a server that does not read, bytes. */
const maxUnread = 16 * 1024 * 1024
const maxPending = 1_000
/** From the end of stdin to SIGTERM, and from there to SIGKILL (MCP 2025-11-25, lifecycle, shutdown of stdio). */
const stopMs = 2_000

interface Pending {
  readonly id: unknown
  readonly progressToken: unknown
  readonly listener: Listener
  readonly resolve: (response: Message) => void
  readonly reject: (error: Error) => void
}

const isObject = (value: unknown): value is Message =>
  typeof value === 'object' && value !== null && !Array.isArray(value)

/**
 * One MCP server over stdio: a line is a message (MCP 2026-07-28, transports, stdio). Request ids and progress tokens
 * are minted anew, since several clients of ours may speak to one process.
 */
export class ServerProcess {
  readonly exited: Promise<void>
  readonly startedAt: number
  lastUsedAt: number
  /** How it ended; undefined while it runs. */
  ending: string | undefined
  /** Ended by us because nothing was asked of it, not by itself. */
  resting = false
  /** Messages that belong to no running request go here while somebody listens. */
  readonly audience = new Set<Listener>()
  readonly #child: ChildProcessByStdio<Writable, Readable, Readable>
  readonly #clock: Clock
  readonly #log: Logger
  readonly #pending = new Map<number, Pending>()
  #lastId = 0
  #garbage = 0
  #stopping = false

  constructor({ argv, cwd, env, secrets, maxMessageBytes, clock, log }: ServerProcessOptions) {
    const [command, ...args] = argv
    this.#clock = clock
    this.#log = log
    this.startedAt = clock.now()
    this.lastUsedAt = this.startedAt
    this.#child = spawn(command, args, {
      cwd,
      env: { ...env },
      shell: false,
      // A group of its own, so that what it starts ends with it.
      detached: true,
      stdio: ['pipe', 'pipe', 'pipe'],
    })
    const { promise, resolve } = Promise.withResolvers<void>()
    this.exited = promise
    const gone = (how: string): void => {
      if (this.ending !== undefined) return
      this.ending = how
      this.#signal('SIGKILL')
      for (const { reject } of this.#pending.values()) reject(new ProcessGone(how))
      this.#pending.clear()
      resolve()
    }
    this.#child.on('error', (error) => gone(`could not be started: ${error.message}`))
    this.#child.on('exit', (code, signal) =>
      gone(signal ? `was ended by ${signal}` : `exited with code ${code}`),
    )
    this.#child.stdin.on('error', () => {})
    const lines = new Lines(
      maxMessageBytes,
      (line) => this.#line(line),
      () => {
        this.#log.warn({ maxMessageBytes }, 'a message of the server is too long, the server is ended')
        this.#signal('SIGKILL')
      },
    )
    this.#child.stdout.on('data', (chunk: Buffer) => lines.push(chunk))
    this.#child.stderr.on(
      'data',
      stderrLog(log, secrets, () => clock.now()),
    )
  }

  get pid(): number | undefined {
    return this.#child.pid
  }

  get busy(): boolean {
    return this.#pending.size > 0
  }

  /** Resolves with the server's response, under the request's own id. Rejects with ProcessGone. */
  request(message: Message, listener: Listener, signal: AbortSignal): Promise<Message> {
    this.lastUsedAt = this.#clock.now()
    const { promise, resolve, reject } = Promise.withResolvers<Message>()
    if (this.ending !== undefined) throw new ProcessGone(this.ending)
    if (this.#pending.size >= maxPending) throw new ProcessGone(`${maxPending} requests are waiting already`)
    const id = ++this.#lastId
    const params = isObject(message.params) ? message.params : undefined
    const meta = params && isObject(params._meta) ? params._meta : undefined
    const progressToken = meta?.progressToken
    this.#pending.set(id, { id: message.id, progressToken, listener, resolve, reject })
    const cancel = (): void => {
      if (!this.#pending.delete(id)) return
      this.#write({ jsonrpc: '2.0', method: 'notifications/cancelled', params: { requestId: id } })
      reject(new ProcessGone('cancelled'))
    }
    if (signal.aborted) cancel()
    else signal.addEventListener('abort', cancel, { once: true })
    const minted = progressToken === undefined ? params : { ...params, _meta: { ...meta, progressToken: id } }
    this.#write({ ...message, id, ...(minted ? { params: minted } : {}) })
    return promise.finally(() => {
      signal.removeEventListener('abort', cancel)
      this.lastUsedAt = this.#clock.now()
    })
  }

  /** A notification, or an answer to a question of the server. */
  tell(message: Message): void {
    this.lastUsedAt = this.#clock.now()
    if (message.method === 'notifications/cancelled' && isObject(message.params)) {
      const { requestId } = message.params
      for (const [id, pending] of this.#pending) {
        if (pending.id !== requestId) continue
        this.#write({ ...message, params: { ...message.params, requestId: id } })
        return
      }
      return
    }
    this.#write(message)
  }

  /** stdin closed → SIGTERM → SIGKILL, for it and for what it started. Resolves when it is gone. */
  async stop(): Promise<void> {
    if (this.#stopping) return this.exited
    this.#stopping = true
    this.#child.stdin.end()
    for (const signal of ['SIGTERM', 'SIGKILL'] as const) {
      const done = new AbortController()
      await Promise.race([this.exited, this.#clock.sleep(stopMs, done.signal).catch(() => {})])
      done.abort()
      if (this.ending !== undefined) return
      this.#signal(signal)
    }
    await this.exited
  }

  #signal(signal: NodeJS.Signals): void {
    const { pid } = this.#child
    if (pid === undefined) return
    try {
      process.kill(-pid, signal)
    } catch {
      // Nobody of the group is left.
    }
  }

  #write(message: Message): void {
    const { stdin } = this.#child
    if (!stdin.writable) return
    stdin.write(`${JSON.stringify(message)}\n`)
    if (stdin.writableLength <= maxUnread) return
    this.#log.warn({ maxUnread }, 'the server does not read its input, it is ended')
    this.#signal('SIGKILL')
  }

  #line(line: string): void {
    const message = parse(line)
    if (!message) {
      // Servers that print to stdout are common; one line says it, not thousands.
      if (this.#garbage++ === 0) this.#log.warn('the server writes lines to stdout that are no JSON-RPC')
      return
    }
    if (typeof message.method !== 'string') {
      const pending = typeof message.id === 'number' ? this.#pending.get(message.id) : undefined
      if (!pending) return
      this.#pending.delete(message.id as number)
      pending.resolve({ ...message, id: pending.id })
      return
    }
    const owner = this.#ownerOf(message)
    const listener = owner?.listener ?? [...this.audience][0]
    if (listener) {
      this.#hand(listener, owner?.message ?? message)
      return
    }
    if (message.id === undefined) return
    const answer =
      message.method === 'ping'
        ? { result: {} }
        : { error: { code: -32601, message: 'Nobody is there to answer this.' } }
    this.#write({ jsonrpc: '2.0', id: message.id, ...answer })
  }

  /** Whose request a message belongs to, and the message in that one's words. */
  #ownerOf(message: Message): { listener: Listener; message: Message } | undefined {
    const params = isObject(message.params) ? message.params : {}
    if (message.method === 'notifications/progress') {
      const pending = this.#pending.get(params.progressToken as number)
      if (!pending) return undefined
      const { progressToken, listener } = pending
      return { listener, message: { ...message, params: { ...params, progressToken } } }
    }
    const meta = isObject(params._meta) ? params._meta : {}
    const subscription = this.#pending.get(meta[subscriptionKey] as number)
    if (subscription) {
      const tagged = { ...params, _meta: { ...meta, [subscriptionKey]: subscription.id } }
      return { listener: subscription.listener, message: { ...message, params: tagged } }
    }
    // A list that changed concerns the session, not the call that happens to run.
    if (/\/(list_changed|updated)$/.test(String(message.method)) && this.audience.size > 0) return undefined
    const newest = [...this.#pending.values()].at(-1)
    return newest && { listener: newest.listener, message }
  }

  #hand(listener: Listener, message: Message): void {
    const waiting = listener.onMessage(message)
    if (!waiting) return
    this.#child.stdout.pause()
    void waiting.finally(() => this.#child.stdout.resume())
  }
}

const subscriptionKey = 'io.modelcontextprotocol/subscriptionId'

function parse(line: string): Message | undefined {
  try {
    const value: unknown = JSON.parse(line)
    return isObject(value) && value.jsonrpc === '2.0' ? value : undefined
  } catch {
    return undefined
  }
}
