import { type ChildProcess, fork } from 'node:child_process'
import type { Clock } from '../../shared/clock.ts'
import { Fault, type FaultJson } from '../../shared/faults.ts'
import {
  type CheckStatus,
  type Command,
  type ConfigOf,
  protocolVersion,
  type Report,
  type Role,
  reportSchemas,
} from '../../shared/ipc/contract.ts'
import type { Logger } from '../../shared/log.ts'

/** Limits of a child's life, milliseconds. */
export interface ChildLimits {
  /** From fork to `hello`. */
  readonly helloMs: number
  /** From `configure` to `applied`, and for a rolling restart until every check runs. */
  readonly startMs: number
  readonly pingEveryMs: number
  /** Pings without an answer in a row, after which the child is taken for dead. */
  readonly missedPings: number
  /** From the end of a drain's deadline to SIGTERM, and from there to SIGKILL. */
  readonly termMs: number
}

export type ChildState = 'starting' | 'checking' | 'running' | 'draining' | 'exited'

export interface ChildOptions<R extends Role> {
  readonly role: R
  readonly name: string
  readonly script: string
  /** Become descriptors 4, 5, … of the child; 3 is IPC. */
  readonly fds: readonly number[]
  readonly env: NodeJS.ProcessEnv
  /** Flags of Node.js. */
  readonly flags: readonly string[]
  readonly limits: ChildLimits
  readonly clock: Clock
  readonly log: Logger
  /** A report that concerns more than this child. */
  readonly onReport: (child: Child<R>, report: Report<R>) => void
  /** State or checks changed. */
  readonly onChange: (child: Child<R>) => void
  readonly onExit: (child: Child<R>) => void
}

export interface Check {
  readonly status: CheckStatus
  readonly fault?: FaultJson
}

/** One process: fork → hello → configure → running → drain → TERM → KILL. It is never restarted; another one is. */
export class Child<R extends Role> {
  readonly name: string
  readonly role: R
  readonly startedAt: number
  readonly checks = new Map<string, Check>()
  readonly stats: Record<string, string | number> = {}
  readonly exited: Promise<void>
  state: ChildState = 'starting'
  lagMs = 0
  rssBytes = 0
  /** Why it had to go or went; undefined while all is well. */
  failure: string | undefined
  /** It has said that nothing was left over when it ended. */
  clean = false
  /** What it rejected its first configuration with. */
  startFault: FaultJson | undefined
  readonly #options: ChildOptions<R>
  readonly #process: ChildProcess
  readonly #over = new AbortController()
  readonly #hello = Promise.withResolvers<void>()
  readonly #applied = new Map<number, (fault: FaultJson | null) => void>()
  readonly #listening = new Map<number, () => void>()
  #unanswered = 0
  #pings = 0

  constructor(options: ChildOptions<R>) {
    this.#options = options
    this.name = options.name
    this.role = options.role
    this.startedAt = options.clock.now()
    this.#process = fork(options.script, [], {
      execArgv: [...options.flags],
      env: options.env,
      stdio: ['ignore', 'inherit', 'inherit', 'ipc', ...options.fds],
    })
    this.#process.on('message', (message) => this.#receive(message))
    this.exited = new Promise((resolve) => {
      const gone = (how: string): void => {
        if (this.state === 'exited') return
        if (this.state !== 'draining') this.failure ??= how
        this.state = 'exited'
        this.#over.abort()
        for (const settle of this.#applied.values()) settle(this.#exitFault())
        options.onExit(this)
        resolve()
      }
      this.#process.on('exit', (code, signal) =>
        gone(signal ? `was ended by ${signal}` : `exited with code ${code}`),
      )
      this.#process.on('error', (error) => {
        if (this.#process.pid === undefined) gone(`could not be started: ${error.message}`)
      })
    })
    this.#hello.promise.catch(() => {})
    void this.#within(options.limits.helloMs, this.#hello.promise, 'did not say hello in time')
  }

  get pid(): number | undefined {
    return this.#process.pid
  }

  /** Serves, with every check that it named running. */
  get ready(): boolean {
    return this.state === 'running'
  }

  /** Pings that it owes an answer to. */
  get unanswered(): number {
    return this.#unanswered
  }

  /** Sends what is not a matter of its life. Lost where the child is gone: its successor is told anew. */
  send(command: Command<R>): void {
    if (this.#process.connected) this.#process.send(command, undefined, undefined, () => {})
  }

  /** The first configuration, or another while it runs. Resolves with null or with why it was rejected. */
  async configure(epoch: number, config: ConfigOf[R]): Promise<FaultJson | null> {
    const first = this.state === 'starting'
    if (first) await Promise.race([this.#hello.promise, this.exited])
    if (this.state === 'exited') return this.#exitFault()
    const answer = new Promise<FaultJson | null>((resolve) => this.#applied.set(epoch, resolve))
    // The compiler can not see that each role's `configure` takes that role's configuration.
    this.send({ type: 'configure', epoch, config } as unknown as Command<R>)
    await this.#within(this.#options.limits.startMs, answer, 'did not apply its configuration in time')
    const fault = await answer
    this.#applied.delete(epoch)
    if (first && fault) {
      this.startFault = fault
      this.kill(`could not start: ${fault.detail ?? fault.text}`)
    } else if (first) {
      this.#become('checking')
      this.#judge()
    }
    return fault
  }

  /** Resolves when everything that was sent so far has been taken up, or the process is gone. */
  async heard(): Promise<void> {
    const answered = new Promise<void>((resolve) => this.#listening.set(this.#pings, resolve))
    this.send({ type: 'ping', n: this.#pings++ } as unknown as Command<R>)
    await Promise.race([answered, this.exited])
  }

  /** Asks it to drain and to end by itself; nobody waits for it. Resolves when the words are on their way. */
  release(deadlineMs: number): Promise<void> {
    if (!this.#process.connected) return Promise.resolve()
    return new Promise((resolve) => {
      this.#process.send({ type: 'drain', deadlineMs }, undefined, undefined, () => resolve())
    })
  }

  /** drain → TERM → KILL. Resolves when the process is gone. */
  async stop(deadlineMs: number): Promise<void> {
    if (this.state === 'exited') return
    const { termMs, clock } = { ...this.#options.limits, ...this.#options }
    this.#become('draining')
    this.send({ type: 'drain', deadlineMs } as unknown as Command<R>)
    const signal = this.#over.signal
    for (const [wait, next] of [
      [deadlineMs + termMs, 'SIGTERM'],
      [termMs, 'SIGKILL'],
    ] as const) {
      await Promise.race([this.exited, clock.sleep(wait, signal).catch(() => {})])
      if (signal.aborted) return
      this.#options.log.warn(
        { process: this.name, pid: this.pid, signal: next },
        'still there after its drain',
      )
      this.#process.kill(next)
    }
    await this.exited
  }

  /** Ends it at once: it broke the contract or does not answer. SIGKILL, because a stopped process takes no other. */
  kill(reason: string): void {
    if (this.state === 'exited') return
    this.failure ??= reason
    this.#process.kill('SIGKILL')
  }

  #exitFault(): FaultJson {
    return (
      this.startFault ??
      new Fault('child.exited', { detail: `${this.name} ${this.failure ?? 'ended'}` }).toJSON()
    )
  }

  #become(state: ChildState): void {
    if (this.state === state || this.state === 'exited' || this.state === 'draining') return
    this.state = state
    this.#options.onChange(this)
  }

  #receive(raw: unknown): void {
    const parsed = reportSchemas[this.role].safeParse(raw)
    if (!parsed.success) {
      this.#breach('sent a message that does not fit the contract')
      return
    }
    const report = parsed.data as Report<R>
    switch (report.type) {
      case 'hello':
        if (report.protocol !== protocolVersion) this.#breach(`speaks protocol ${report.protocol}`)
        else {
          this.#hello.resolve()
          void this.#ping()
        }
        break
      case 'pong':
        this.#unanswered = 0
        this.lagMs = report.lagMs
        this.rssBytes = report.rssBytes
        this.#listening.get(report.n)?.()
        this.#listening.delete(report.n)
        break
      case 'check':
        if (this.checks.size >= 64 && !this.checks.has(report.check)) break
        this.checks.set(report.check, {
          status: report.status,
          ...(report.fault ? { fault: report.fault as FaultJson } : {}),
        })
        this.#judge()
        break
      case 'stats':
        this.#remember(report.values)
        break
      case 'applied':
        this.#applied.get(report.epoch)?.(null)
        break
      case 'rejected':
        this.#applied.get(report.epoch)?.(report.fault as FaultJson)
        break
      case 'drained':
        this.clean = report.left === 0
        if (report.left !== 0) {
          this.#options.log.warn({ process: this.name, left: report.left }, 'drained with work left over')
        }
        break
      default:
        this.#options.onReport(this, report)
    }
  }

  /** A child that floods us with names must not grow this process. */
  #remember(values: Record<string, string | number>): void {
    for (const [name, value] of Object.entries(values).slice(0, 64)) this.stats[name] = value
    const names = Object.keys(this.stats)
    for (const name of names.slice(0, Math.max(0, names.length - 256))) delete this.stats[name]
  }

  #judge(): void {
    if (this.state !== 'checking' && this.state !== 'running') return
    const all = [...this.checks.values()]
    const fine = all.length > 0 && all.every(({ status }) => status === 'running')
    if ((this.state === 'running') === fine) this.#options.onChange(this)
    else this.#become(fine ? 'running' : 'checking')
  }

  #breach(what: string): void {
    this.#options.log.error({ process: this.name, pid: this.pid }, `child ${what}`)
    this.kill(what)
  }

  async #within(ms: number, promise: Promise<unknown>, failure: string): Promise<void> {
    const done = new AbortController()
    const late = this.#options.clock
      .sleep(ms, AbortSignal.any([done.signal, this.#over.signal]))
      .then(() => this.#breach(failure))
      .catch(() => {})
    await Promise.race([promise, this.exited, late])
    done.abort()
  }

  /** Counts answers, not time: a supervisor that was itself suspended must not kill children for it. */
  async #ping(): Promise<void> {
    const { pingEveryMs, missedPings } = this.#options.limits
    const signal = this.#over.signal
    while (!signal.aborted) {
      if (this.#unanswered >= missedPings) return this.#breach('does not answer')
      this.send({ type: 'ping', n: this.#pings++ } as unknown as Command<R>)
      this.#unanswered++
      await this.#options.clock.sleep(pingEveryMs, signal).catch(() => {})
    }
  }
}
