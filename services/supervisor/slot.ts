import type { Clock } from '../../shared/clock.ts'
import { Fault, type FaultJson } from '../../shared/faults.ts'
import type { ConfigOf, Role } from '../../shared/ipc/contract.ts'
import type { Logger } from '../../shared/log.ts'
import { backoffMs } from '../../shared/retry.ts'
import { Child, type ChildLimits } from './child.ts'
import { Forked, type Launch, type OwnReport } from './forked.ts'
import type { SpareLimits } from './spares.ts'

export interface SlotLimits extends ChildLimits, SpareLimits {
  /** Running this long without a fault, a process counts as healthy again. */
  readonly stableMs: number
  /** Exits without such a time between them, after which the slot is a crash loop. */
  readonly crashLoop: number
  readonly backoffBaseMs: number
  readonly backoffCapMs: number
  /** Between telling front of a successor and the drain of the predecessor. */
  readonly handoverMs: number
}

export const defaultLimits: SlotLimits = {
  // A busy machine loads slowly. One that is killed for it starts over and makes the machine busier.
  helloMs: 60_000,
  startMs: 60_000,
  pingEveryMs: 1_000,
  missedPings: 10,
  termMs: 2_000,
  stableMs: 10_000,
  crashLoop: 5,
  backoffBaseMs: 250,
  backoffCapMs: 15_000,
  handoverMs: 200,
  spareAfterMs: 2_000,
}

export interface SlotOptions<R extends Role> {
  readonly role: R
  readonly name: string
  /** Successor beside predecessor; false where two at once would fight over one state. */
  readonly overlap: boolean
  readonly limits: SlotLimits
  readonly clock: Clock
  readonly log: Logger
  readonly random: () => number
  /** What one more process of this slot is started with; called once per process. */
  readonly next: () => Launch
  /** A process that is there already and was started so; for one that died, as there is no time for another start. */
  readonly spare: (launch: Launch) => Forked<R> | undefined
  /** The configuration of the process started last. */
  readonly config: () => { epoch: number; config: ConfigOf[R] }
  /** The process has its configuration on the way: tell it what else it has to know. */
  readonly onStart: (child: Child<R>) => void
  readonly onReport: (child: Child<R>, report: OwnReport<R>) => void
  readonly onChange: () => void
  /** Its successor serves and it is about to drain: tell those who have to know. */
  readonly onRetire: (child: Child<R>) => Promise<void>
}

/** A place in the fleet: one process serves, dead ones are replaced, a living one is replaced without a gap. */
export class Slot<R extends Role> {
  readonly name: string
  readonly role: R
  /** Serves, or is about to. */
  current: Child<R> | undefined
  successor: Child<R> | undefined
  readonly retiring = new Set<Child<R>>()
  restarts = 0
  lastError: { at: number; text: string } | undefined
  /** The start that failed for good, before anything ran. */
  startFault: FaultJson | undefined
  readonly #options: SlotOptions<R>
  readonly #stopped = new AbortController()
  #failures = 0
  #rolling = false

  constructor(options: SlotOptions<R>) {
    this.#options = options
    this.name = options.name
    this.role = options.role
  }

  /** Exits in a row, without a healthy time between. */
  get crashLooping(): boolean {
    return this.#failures >= this.#options.limits.crashLoop
  }

  get ready(): boolean {
    return this.current?.ready === true && !this.crashLooping
  }

  get children(): Child<R>[] {
    return [this.current, this.successor, ...this.retiring].filter((child) => child !== undefined)
  }

  start(): void {
    this.current = this.#fork()
  }

  /**
   * Replaces the process that serves: successor ready first, then the predecessor drains (`overlap`), else one after
   * the other. Resolves with null once the new one serves, or with why the old one stays.
   */
  async roll(drainMs: number): Promise<FaultJson | null> {
    if (this.#rolling) return conflict(`${this.name} is being restarted already`)
    this.#rolling = true
    try {
      return await (this.#options.overlap ? this.#rollBeside(drainMs) : this.#rollAfter(drainMs))
    } finally {
      this.#rolling = false
    }
  }

  /** Ends every process of the slot for good. */
  async stop(drainMs: number): Promise<void> {
    this.#stopped.abort()
    await Promise.all(this.children.map((child) => child.stop(drainMs)))
  }

  /** Lets every process finish by itself, without us. Resolves when they know. */
  async release(drainMs: number): Promise<void> {
    this.#stopped.abort()
    await Promise.all(this.children.map((child) => child.release(drainMs)))
  }

  killAll(): void {
    this.#stopped.abort()
    for (const child of this.children) child.kill('the gateway stops at once')
  }

  async #rollBeside(drainMs: number): Promise<FaultJson | null> {
    const successor = this.#fork()
    this.successor = successor
    const fault = await this.#untilReady(successor)
    if (fault) {
      successor.kill('did not become ready')
      if (this.successor === successor) this.successor = undefined
      return fault
    }
    // Where the predecessor died meanwhile, the successor has taken its place already.
    const predecessor = this.current === successor ? undefined : this.current
    this.successor = undefined
    this.current = successor
    this.restarts++
    this.#options.onChange()
    if (predecessor) void this.#retire(predecessor, drainMs)
    return null
  }

  async #retire(child: Child<R>, drainMs: number): Promise<void> {
    this.retiring.add(child)
    await this.#options.clock.sleep(this.#options.limits.handoverMs, this.#stopped.signal).catch(() => {})
    await this.#options.onRetire(child)
    await child.stop(drainMs)
    this.retiring.delete(child)
    this.#options.onChange()
  }

  async #rollAfter(drainMs: number): Promise<FaultJson | null> {
    const predecessor = this.current
    this.current = undefined
    if (predecessor) {
      this.retiring.add(predecessor)
      await predecessor.stop(drainMs)
      this.retiring.delete(predecessor)
    }
    if (this.#stopped.signal.aborted) return conflict('the gateway is stopping')
    const successor = this.#fork()
    this.current = successor
    this.restarts++
    return this.#untilReady(successor)
  }

  async #untilReady(child: Child<R>): Promise<FaultJson | null> {
    const { clock, limits } = this.#options
    const deadline = clock.now() + limits.startMs
    while (!child.ready) {
      if (child.state === 'exited')
        return child.startFault ?? conflict(`${this.name} ${child.failure ?? 'ended'}`)
      if (clock.now() >= deadline || this.#stopped.signal.aborted) {
        const waiting = [...child.checks]
          .filter(([, { status }]) => status !== 'running')
          .map(([name]) => name)
        return conflict(`${this.name} did not become ready (${waiting.join(', ') || 'no check reported'})`)
      }
      await clock.sleep(10, this.#stopped.signal).catch(() => {})
    }
    return null
  }

  #fork(spare?: (launch: Launch) => Forked<R> | undefined): Child<R> {
    const { role, name, limits, clock, log, next, config, onReport, onStart } = this.#options
    const launch = next()
    const ready = spare?.(launch)
    const child = new Child<R>({
      name,
      process: ready ?? new Forked<R>({ role, name, launch, limits, clock, log }),
      limits,
      clock,
      log,
      onReport,
      onChange: (changed) => {
        if (changed.ready) void this.#trust(changed)
        this.#options.onChange()
      },
      onExit: (gone) => this.#replace(gone),
    })
    const { epoch, config: slice } = config()
    void child.configure(epoch, slice).then((fault) => {
      if (fault) this.startFault ??= fault
    })
    onStart(child)
    log.info({ process: name, child: child.pid }, ready ? 'a spare takes its place' : 'child started')
    return child
  }

  /** Healthy for `stableMs`: what went before is forgotten. */
  async #trust(child: Child<R>): Promise<void> {
    if (this.#failures === 0) return
    await this.#options.clock.sleep(this.#options.limits.stableMs, this.#stopped.signal).catch(() => {})
    if (child !== this.current || !child.ready) return
    this.#failures = 0
    this.#options.onChange()
  }

  #replace(gone: Child<R>): void {
    const { clock, log, limits, random, onChange } = this.#options
    if (gone.failure !== undefined) {
      this.lastError = { at: clock.now(), text: gone.failure }
      log.error({ process: this.name, child: gone.pid, reason: gone.failure }, 'child is gone')
    } else {
      log.info({ process: this.name, child: gone.pid }, 'child ended')
    }
    if (gone !== this.current || this.#stopped.signal.aborted) {
      onChange()
      return
    }
    this.current = this.successor
    this.successor = undefined
    onChange()
    if (this.current) return
    // At once the first time: one accident must cost clients a pause, not an outage.
    const wait =
      this.#failures === 0
        ? 0
        : backoffMs(this.#failures - 1, {
            baseMs: limits.backoffBaseMs,
            capMs: limits.backoffCapMs,
            floorMs: limits.backoffBaseMs / 4,
            random,
          })
    this.#failures++
    void this.#forkAfter(wait)
  }

  async #forkAfter(wait: number): Promise<void> {
    if (wait > 0) await this.#options.clock.sleep(wait, this.#stopped.signal).catch(() => {})
    if (this.#stopped.signal.aborted || this.current) return
    this.restarts++
    this.current = this.#fork(this.#options.spare)
    this.#options.onChange()
  }
}

const conflict = (detail: string): FaultJson => new Fault('child.exited', { detail }).toJSON()
