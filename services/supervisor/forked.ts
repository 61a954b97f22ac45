import { type ChildProcess, fork } from 'node:child_process'
import type { Clock } from '../../shared/clock.ts'
import {
  type Command,
  protocolVersion,
  type Report,
  type Role,
  reportSchemas,
} from '../../shared/ipc/contract.ts'
import type { Logger } from '../../shared/log.ts'

/** What a process is started with. Processes of equal launches can stand in for each other. */
export interface Launch {
  readonly script: string
  /** Become descriptors 4, 5, … of the process; 3 is IPC. */
  readonly fds: readonly number[]
  readonly env: NodeJS.ProcessEnv
  /** Flags of Node.js. */
  readonly flags: readonly string[]
}

export interface ForkLimits {
  /** From fork to `hello`, milliseconds. */
  readonly helloMs: number
  readonly pingEveryMs: number
  /** Pings without an answer in a row, after which the process is taken for dead. */
  readonly missedPings: number
}

export interface ForkedOptions<R extends Role> {
  readonly role: R
  /** As the log calls it. */
  readonly name: string
  readonly launch: Launch
  readonly limits: ForkLimits
  readonly clock: Clock
  readonly log: Logger
}

/** What a process says beyond being there. */
export type OwnReport<R extends Role> = Exclude<Report<R>, { type: 'hello' | 'pong' }>

/** Whose process it is: a place in the fleet, or the spares until it gets one. */
export interface Owner<R extends Role> {
  onReport(report: OwnReport<R>): void
  /** It has ended; `how` is for a person. */
  onGone(how: string): void
}

/** A process: forked, says hello, answers pings, speaks by the contract or is killed. What for, its owner knows. */
export class Forked<R extends Role> {
  readonly role: R
  readonly launch: Launch
  readonly exited: Promise<void>
  name: string
  owner: Owner<R> | undefined
  lagMs = 0
  rssBytes = 0
  /** Why it had to go or went; undefined while all is well. */
  failure: string | undefined
  /** Aborted when it has ended. */
  readonly over: AbortSignal
  /** Resolves with its hello; one that ends without it leaves this open. */
  readonly hello: Promise<void>
  readonly #limits: ForkLimits
  readonly #clock: Clock
  readonly #log: Logger
  readonly #process: ChildProcess
  readonly #greeted = Promise.withResolvers<void>()
  readonly #listening = new Map<number, () => void>()
  #unanswered = 0
  #pings = 0

  constructor({ role, name, launch, limits, clock, log }: ForkedOptions<R>) {
    this.role = role
    this.name = name
    this.launch = launch
    this.#limits = limits
    this.#clock = clock
    this.#log = log
    this.hello = this.#greeted.promise
    const over = new AbortController()
    this.over = over.signal
    this.#process = fork(launch.script, [], {
      execArgv: [...launch.flags],
      env: launch.env,
      stdio: ['ignore', 'inherit', 'inherit', 'ipc', ...launch.fds],
    })
    this.#process.on('message', (message) => this.#receive(message))
    this.exited = new Promise((resolve) => {
      const gone = (how: string): void => {
        if (over.signal.aborted) return
        over.abort()
        this.owner?.onGone(how)
        resolve()
      }
      this.#process.on('exit', (code, signal) =>
        gone(signal ? `was ended by ${signal}` : `exited with code ${code}`),
      )
      this.#process.on('error', (error) => {
        if (this.#process.pid === undefined) gone(`could not be started: ${error.message}`)
      })
    })
    void this.within(limits.helloMs, this.hello, 'did not say hello in time')
  }

  get pid(): number | undefined {
    return this.#process.pid
  }

  /** Pings that it owes an answer to. */
  get unanswered(): number {
    return this.#unanswered
  }

  /** Resolves when the words are on their way. Lost where the process is gone. */
  send(command: Command<R>): Promise<void> {
    if (!this.#process.connected) return Promise.resolve()
    return new Promise((resolve) => this.#process.send(command, undefined, undefined, () => resolve()))
  }

  /** Resolves when everything that was sent so far has been taken up, or the process is gone. */
  async heard(): Promise<void> {
    const answered = new Promise<void>((resolve) => this.#listening.set(this.#pings, resolve))
    void this.send({ type: 'ping', n: this.#pings++ } as unknown as Command<R>)
    await Promise.race([answered, this.exited])
  }

  signal(signal: NodeJS.Signals): void {
    this.#process.kill(signal)
  }

  /** Ends it at once. SIGKILL, because a stopped process takes no other. */
  kill(reason: string): void {
    if (this.over.aborted) return
    this.failure ??= reason
    this.#process.kill('SIGKILL')
  }

  /** Kills it where `promise` takes longer. Resolves when that is decided, or the process is gone. */
  async within(ms: number, promise: Promise<unknown>, failure: string): Promise<void> {
    const done = new AbortController()
    const late = this.#clock
      .sleep(ms, AbortSignal.any([done.signal, this.over]))
      .then(() => this.#breach(failure))
      .catch(() => {})
    await Promise.race([promise, this.exited, late])
    done.abort()
  }

  #receive(raw: unknown): void {
    const parsed = reportSchemas[this.role].safeParse(raw)
    if (!parsed.success) {
      this.#breach('sent a message that does not fit the contract')
      return
    }
    const report = parsed.data as Report<R>
    if (report.type === 'hello' && report.protocol !== protocolVersion)
      this.#breach(`speaks protocol ${report.protocol}`)
    else if (report.type === 'hello') {
      this.#greeted.resolve()
      void this.#ping()
    } else if (report.type === 'pong') {
      this.#unanswered = 0
      this.lagMs = report.lagMs
      this.rssBytes = report.rssBytes
      this.#listening.get(report.n)?.()
      this.#listening.delete(report.n)
    } else this.owner?.onReport(report as OwnReport<R>)
  }

  #breach(what: string): void {
    this.#log.error({ process: this.name, pid: this.pid }, `child ${what}`)
    this.kill(what)
  }

  /** Counts answers, not time: a supervisor that was itself suspended must not kill children for it. */
  async #ping(): Promise<void> {
    const { pingEveryMs, missedPings } = this.#limits
    while (!this.over.aborted) {
      if (this.#unanswered >= missedPings) return this.#breach('does not answer')
      void this.send({ type: 'ping', n: this.#pings++ } as unknown as Command<R>)
      this.#unanswered++
      await this.#clock.sleep(pingEveryMs, this.over).catch(() => {})
    }
  }
}
