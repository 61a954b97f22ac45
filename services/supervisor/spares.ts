import type { Clock } from '../../shared/clock.ts'
import type { Measured, Role } from '../../shared/ipc/contract.ts'
import type { Logger } from '../../shared/log.ts'
import { backoffMs } from '../../shared/retry.ts'
import { Forked, type ForkLimits, type Launch } from './forked.ts'

export interface SpareLimits extends ForkLimits {
  /** A role has been whole for this long before a spare is made: its start must not slow that of what serves. */
  readonly spareAfterMs: number
}

export interface SparesOptions {
  readonly enabled: boolean
  /** What a process of this role is started with now. */
  readonly launch: (role: Role) => Launch
  /** Every process of the role serves. */
  readonly whole: (role: Role) => boolean
  readonly limits: SpareLimits
  readonly clock: Clock
  readonly log: Logger
  readonly random: () => number
  readonly onMeasured: (measured: Measured) => void
}

/** Those that a client or a request waits for when they die. */
const roles = ['front', 'proxy', 'sync'] as const
const retry = { baseMs: 1_000, capMs: 60_000, floorMs: 500 }

const same = (a: Launch, b: Launch): boolean => JSON.stringify(a) === JSON.stringify(b)

/**
 * One process of each role that has loaded its code and has no configuration: what takes the place of one that dies is
 * there at once, where a start takes most of a second of processor time. A spare knows nothing and serves nobody.
 */
export class Spares {
  readonly #options: SparesOptions
  readonly #spares = new Map<Role, Forked<Role>>()
  readonly #stopped = new AbortController()
  #enabled: boolean
  #filling = false
  #failures = 0

  constructor(options: SparesOptions) {
    this.#options = options
    this.#enabled = options.enabled
  }

  get all(): readonly Forked<Role>[] {
    return [...this.#spares.values()]
  }

  /** The spare of the role, where it was started as this launch says; its place is the caller's business from then on. */
  take<R extends Role>(role: R, launch: Launch): Forked<R> | undefined {
    const spare = this.#spares.get(role)
    if (!spare || spare.over.aborted || !same(spare.launch, launch)) return undefined
    this.#spares.delete(role)
    return spare as unknown as Forked<R>
  }

  /** Something in the fleet changed: makes what is missing, in its time, one after the other. */
  look(): void {
    if (!this.#filling && this.#missing() !== undefined) void this.#fill()
  }

  /** What a process finds at its start (files of authorities, resolvers) may be new: so must be the spare. */
  renew(role: Role): void {
    const spare = this.#spares.get(role)
    this.#spares.delete(role)
    spare?.kill('is no longer wanted')
  }

  /** The settings changed: a spare that was started by others is of no use. */
  reconfigure(enabled: boolean): void {
    this.#enabled = enabled
    for (const [role, spare] of this.#spares) {
      if (!enabled || !same(spare.launch, this.#options.launch(role))) this.renew(role)
    }
    this.look()
  }

  stop(): void {
    this.#stopped.abort()
    for (const role of roles) this.renew(role)
  }

  #missing(): Role | undefined {
    if (!this.#enabled || this.#stopped.signal.aborted) return undefined
    return roles.find((role) => !this.#spares.has(role) && this.#options.whole(role))
  }

  async #fill(): Promise<void> {
    const { clock, limits, random } = this.#options
    this.#filling = true
    for (let role = this.#missing(); role; role = this.#missing()) {
      const wait = this.#failures === 0 ? 0 : backoffMs(this.#failures - 1, { ...retry, random })
      await clock.sleep(Math.max(limits.spareAfterMs, wait), this.#stopped.signal).catch(() => {})
      if (this.#missing() !== role) continue
      // A machine that has no room for a spare must not lose what serves.
      await this.#make(role).catch((error: Error) => this.#failed(role, error.message))
    }
    this.#filling = false
  }

  /** Resolves when it has loaded its code, or is gone. */
  async #make(role: Role): Promise<void> {
    const { launch, log, onMeasured } = this.#options
    const name = `${role} (spare)`
    const spare = new Forked<Role>({ ...this.#options, role, name, launch: launch(role) })
    this.#spares.set(role, spare)
    spare.owner = {
      onReport: (report) => {
        if (report.type === 'measured') onMeasured(report as Measured)
        else spare.kill('spoke before it was configured')
      },
      onGone: (end) => {
        if (this.#spares.get(role) !== spare) return
        this.#spares.delete(role)
        this.#failed(role, spare.failure ?? end)
        this.look()
      },
    }
    const greeted = await Promise.race([spare.hello.then(() => true), spare.exited.then(() => false)])
    if (!greeted) return
    this.#failures = 0
    log.debug({ process: spare.name, child: spare.pid }, 'spare is there')
  }

  #failed(role: Role, reason: string): void {
    this.#failures++
    this.#options.log.warn({ process: `${role} (spare)`, reason }, 'spare is gone')
  }
}
