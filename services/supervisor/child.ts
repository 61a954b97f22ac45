import type { Clock } from '../../shared/clock.ts'
import { Fault, type FaultJson } from '../../shared/faults.ts'
import type { CheckStatus, Command, ConfigOf, Role } from '../../shared/ipc/contract.ts'
import type { Logger } from '../../shared/log.ts'
import type { Forked, ForkLimits, OwnReport } from './forked.ts'

/** Limits of a child's life, milliseconds. */
export interface ChildLimits extends ForkLimits {
  /** From `configure` to `applied`, and for a rolling restart until every check runs. */
  readonly startMs: number
  /** From the end of a drain's deadline to SIGTERM, and from there to SIGKILL. */
  readonly termMs: number
}

export type ChildState = 'starting' | 'checking' | 'running' | 'draining' | 'exited'

export interface ChildOptions<R extends Role> {
  readonly name: string
  /** New, or a spare. */
  readonly process: Forked<R>
  readonly limits: ChildLimits
  readonly clock: Clock
  readonly log: Logger
  /** A report that concerns more than this child. */
  readonly onReport: (child: Child<R>, report: OwnReport<R>) => void
  /** State or checks changed. */
  readonly onChange: (child: Child<R>) => void
  readonly onExit: (child: Child<R>) => void
}

export interface Check {
  readonly status: CheckStatus
  readonly fault?: FaultJson
}

/** A process with a job: configure → running → drain → TERM → KILL. It is never restarted; another one is. */
export class Child<R extends Role> {
  readonly name: string
  readonly role: R
  /** When it got its place. */
  readonly startedAt: number
  readonly checks = new Map<string, Check>()
  readonly stats: Record<string, string | number> = {}
  state: ChildState = 'starting'
  /** It has said that nothing was left over when it ended. */
  clean = false
  /** What it rejected its first configuration with. */
  startFault: FaultJson | undefined
  readonly #options: ChildOptions<R>
  readonly #process: Forked<R>
  readonly #applied = new Map<number, (fault: FaultJson | null) => void>()

  constructor(options: ChildOptions<R>) {
    this.#options = options
    this.#process = options.process
    this.#process.name = options.name
    this.name = options.name
    this.role = options.process.role
    this.startedAt = options.clock.now()
    this.#process.owner = {
      onReport: (report) => this.#receive(report),
      onGone: (how) => {
        if (this.state !== 'draining') this.#process.failure ??= how
        this.state = 'exited'
        for (const settle of this.#applied.values()) settle(this.#exitFault())
        options.onExit(this)
      },
    }
  }

  get pid(): number | undefined {
    return this.#process.pid
  }

  get exited(): Promise<void> {
    return this.#process.exited
  }

  /** Why it had to go or went; undefined while all is well. */
  get failure(): string | undefined {
    return this.#process.failure
  }

  get lagMs(): number {
    return this.#process.lagMs
  }

  get rssBytes(): number {
    return this.#process.rssBytes
  }

  /** Serves, with every check that it named running. */
  get ready(): boolean {
    return this.state === 'running'
  }

  /** Pings that it owes an answer to. */
  get unanswered(): number {
    return this.#process.unanswered
  }

  /** Sends what is not a matter of its life. Lost where the child is gone: its successor is told anew. */
  send(command: Command<R>): void {
    void this.#process.send(command)
  }

  /** The first configuration, or another while it runs. Resolves with null or with why it was rejected. */
  async configure(epoch: number, config: ConfigOf[R]): Promise<FaultJson | null> {
    const first = this.state === 'starting'
    if (first) await Promise.race([this.#process.hello, this.exited])
    if (this.state === 'exited') return this.#exitFault()
    const answer = new Promise<FaultJson | null>((resolve) => this.#applied.set(epoch, resolve))
    // The compiler can not see that each role's `configure` takes that role's configuration.
    this.send({ type: 'configure', epoch, config } as unknown as Command<R>)
    await this.#process.within(
      this.#options.limits.startMs,
      answer,
      'did not apply its configuration in time',
    )
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
  heard(): Promise<void> {
    return this.#process.heard()
  }

  /** Asks it to drain and to end by itself; nobody waits for it. Resolves when the words are on their way. */
  release(deadlineMs: number): Promise<void> {
    return this.#process.send({ type: 'drain', deadlineMs } as unknown as Command<R>)
  }

  /** drain → TERM → KILL. Resolves when the process is gone. */
  async stop(deadlineMs: number): Promise<void> {
    if (this.state === 'exited') return
    const { termMs, clock } = { ...this.#options.limits, ...this.#options }
    this.#become('draining')
    this.send({ type: 'drain', deadlineMs } as unknown as Command<R>)
    const { over } = this.#process
    for (const [wait, next] of [
      [deadlineMs + termMs, 'SIGTERM'],
      [termMs, 'SIGKILL'],
    ] as const) {
      await Promise.race([this.exited, clock.sleep(wait, over).catch(() => {})])
      if (over.aborted) return
      this.#options.log.warn(
        { process: this.name, pid: this.pid, signal: next },
        'still there after its drain',
      )
      this.#process.signal(next)
    }
    await this.exited
  }

  /** Ends it at once: it broke the contract or does not answer. */
  kill(reason: string): void {
    this.#process.kill(reason)
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

  #receive(report: OwnReport<R>): void {
    switch (report.type) {
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
}
