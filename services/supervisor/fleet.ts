import { rmSync } from 'node:fs'
import type { Clock } from '../../shared/clock.ts'
import type { GatewayConfig } from '../../shared/config/gateway.ts'
import type { FaultJson } from '../../shared/faults.ts'
import type { Measured, Role } from '../../shared/ipc/contract.ts'
import type { Logger } from '../../shared/log.ts'
import type { Forked, Launch } from './forked.ts'
import type { Listeners } from './listeners.ts'
import {
  frontSlice,
  proxyPeer,
  proxySlice,
  proxySocketPath,
  stdioSlice,
  syncSlice,
  syncSocketPath,
} from './slices.ts'
import { Slot, type SlotLimits, type SlotOptions } from './slot.ts'
import { Spares } from './spares.ts'
import { Wiring } from './wiring.ts'

/** Where each role's main.ts lies; tests put small ones there. */
export type Scripts = Readonly<Record<Role, string>>

export type Confine = (role: Role, config: GatewayConfig) => string[]

export interface FleetOptions {
  readonly config: GatewayConfig
  readonly listeners: Listeners
  readonly scripts: Scripts
  readonly limits: SlotLimits
  readonly clock: Clock
  readonly log: Logger
  readonly random: () => number
  /** Environment of the children. */
  readonly env: NodeJS.ProcessEnv
  /** What a process counted. */
  readonly onMeasured: (measured: Measured) => void
  /** Flags of Node.js for a child. */
  readonly confine: Confine
  /** Something of what `readiness` says may have changed. */
  readonly onChange: () => void
}

/** Sync holds no connection of a client; its events are on disk. */
const syncDrainMs = 5_000

/** The one setting that holds a secret: in the environment of those who use it, in no message. */
const storeEnvironment = ({ valkey }: GatewayConfig): NodeJS.ProcessEnv =>
  valkey ? { AEMBIT_VALKEY: JSON.stringify(valkey) } : {}

export type AnySlot = Slot<'front'> | Slot<'proxy'> | Slot<'sync'> | Slot<'stdio-adapter'>

/** Who runs, in what order, and by which configuration. */
export class Fleet {
  readonly front: Slot<'front'>
  readonly proxies: readonly Slot<'proxy'>[]
  readonly sync: Slot<'sync'>
  /** Where local servers are configured. */
  readonly stdio: Slot<'stdio-adapter'> | undefined
  readonly spares: Spares
  readonly wiring: Wiring
  #config: GatewayConfig
  #epoch = 1
  readonly #options: FleetOptions
  /** Socket names never repeat, also not those of a supervisor before us whose proxies may still drain. */
  #generation: number

  constructor(options: FleetOptions) {
    this.#options = options
    this.#config = options.config
    this.#generation = Math.floor(options.clock.now() / 1000) % 900_000
    this.wiring = new Wiring({
      front: () => this.front,
      proxies: () => this.proxies,
      clock: options.clock,
      onChange: () => this.#changed(),
    })
    this.spares = new Spares({
      ...options,
      enabled: options.config.warmSpares,
      launch: (role) => this.#launch(role),
      whole: (role) => this.slots.every((slot) => slot.role !== role || slot.ready),
    })
    this.front = this.#slot('front', 'front', true, {
      config: () => ({ epoch: this.#epoch, config: this.#frontSlice(this.#config) }),
      onStart: (child) => this.wiring.frontStarted(child),
      onRetire: async (child) => this.wiring.retireFront(child),
    })
    this.proxies = Array.from({ length: this.#config.workers }, (_, worker) => this.#proxySlot(worker))
    this.sync = this.#slot('sync', 'sync', false, {
      next: () => {
        rmSync(syncSocketPath(this.#config), { force: true })
        return this.#launch('sync')
      },
      config: () => ({ epoch: this.#epoch, config: syncSlice(this.#config) }),
      onReport: (_child, report) => this.wiring.relay(report),
    })
    if (this.#config.stdioServersPath !== null) {
      // Not beside its predecessor: it owns one socket, and the servers' processes.
      this.stdio = this.#slot('stdio-adapter', 'stdio-adapter', false, {
        config: () => ({ epoch: this.#epoch, config: this.#stdioSlice(this.#config) }),
      })
    }
  }

  get slots(): AnySlot[] {
    return [this.front, ...this.proxies, this.sync, ...(this.stdio ? [this.stdio] : [])]
  }

  get epoch(): number {
    return this.#epoch
  }

  start(): void {
    this.stdio?.start()
    for (const slot of [this.sync, ...this.proxies, this.front]) slot.start()
  }

  /** No process that we count on owes us more than a few answers. */
  alive(): boolean {
    return this.slots.every(({ current }) => (current?.unanswered ?? 0) < this.#options.limits.missedPings)
  }

  /** `front`, `sync`, `proxy` (every worker, one after the other) or `proxy-1`; undefined where there is none such. */
  find(name: string): AnySlot[] | undefined {
    const found = this.slots.filter((slot) => slot.name === name || slot.role === name)
    return found.length > 0 ? found : undefined
  }

  /** A rolling restart. Resolves with why the first one that failed was left as it was. */
  async restart(slots: readonly AnySlot[]): Promise<FaultJson | null> {
    for (const slot of slots) {
      const fault = await slot.roll(
        slot.role === 'sync' || slot.role === 'stdio-adapter' ? syncDrainMs : this.#config.drainMs,
      )
      if (fault) return fault
      this.spares.renew(slot.role)
    }
    return null
  }

  /**
   * Puts another configuration in force whole, or none of it. Front takes it while it runs (certificates are read
   * again even where no setting changed); proxies and sync are replaced where their slice changed.
   */
  async reconfigure(next: GatewayConfig): Promise<FaultJson | null> {
    const before = this.#config
    const fault = await this.#apply(before, next)
    if (fault) await this.#apply(next, before)
    this.spares.reconfigure(this.#config.warmSpares)
    return fault
  }

  /** Clients first: front takes no more, proxies finish what they have, then sync. */
  async stop(): Promise<void> {
    const { drainMs } = this.#config
    this.spares.stop()
    this.wiring.end()
    const front = this.front.stop(drainMs)
    await this.#options.clock.sleep(this.#options.limits.handoverMs)
    await Promise.all([front, ...this.proxies.map((slot) => slot.stop(drainMs))])
    await Promise.all([this.sync.stop(syncDrainMs), this.stdio?.stop(0)])
  }

  /**
   * Like `stop`, for a supervisor that is about to be followed by another one: front and proxies finish by themselves.
   * Sync and the adapter own sockets that their successors need, so these are waited for.
   */
  async release(): Promise<void> {
    const { drainMs } = this.#config
    this.spares.stop()
    this.wiring.end()
    await this.front.release(drainMs)
    await Promise.all([
      ...this.proxies.map((slot) => slot.release(drainMs)),
      this.sync.stop(syncDrainMs),
      this.stdio?.stop(syncDrainMs),
    ])
  }

  killAll(): void {
    this.spares.stop()
    for (const slot of this.slots) slot.killAll()
  }

  async #apply(before: GatewayConfig, next: GatewayConfig): Promise<FaultJson | null> {
    this.#config = next
    this.#epoch++
    const fault = await this.#reconfigureFront(before, next)
    if (fault) return fault
    // The file of local servers is read again even where no setting changed.
    const refused = (await this.stdio?.current?.configure(this.#epoch, this.#stdioSlice(next))) ?? null
    if (refused) return refused
    const changed = (slice: (config: GatewayConfig) => unknown): boolean =>
      JSON.stringify(slice(before)) !== JSON.stringify(slice(next))
    return this.restart([
      ...(changed(syncSlice) ? [this.sync] : []),
      ...(changed((config) => proxySlice(config, 0, 0, false)) ? this.proxies : []),
    ])
  }

  /** While it runs; by a successor where it has to reach other files, as what a process may do is said at its start. */
  async #reconfigureFront(before: GatewayConfig, next: GatewayConfig): Promise<FaultJson | null> {
    const flags = (config: GatewayConfig): string => this.#options.confine('front', config).join(' ')
    if (flags(before) !== flags(next)) return this.restart([this.front])
    return (await this.front.current?.configure(this.#epoch, this.#frontSlice(next))) ?? null
  }

  #frontSlice(config: GatewayConfig) {
    return frontSlice(config, this.#options.listeners.inherited)
  }

  #stdioSlice(config: GatewayConfig) {
    return stdioSlice(config, config.stdioServersPath ?? '')
  }

  /** What a process of this role is started with by the configuration in force. */
  #launch(role: Role): Launch {
    const { listeners, scripts, env, confine } = this.#options
    const fds = [listeners.https.fd, ...(listeners.http ? [listeners.http.fd] : [])]
    return {
      script: scripts[role],
      fds: role === 'front' ? fds : [],
      env: role === 'proxy' ? { ...env, ...storeEnvironment(this.#config) } : env,
      flags: confine(role, this.#config),
    }
  }

  #slot<R extends Role>(
    role: R,
    name: string,
    overlap: boolean,
    own: Pick<SlotOptions<R>, 'config'> &
      Partial<Pick<SlotOptions<R>, 'next' | 'onStart' | 'onReport' | 'onRetire'>>,
  ): Slot<R> {
    const { onMeasured } = this.#options
    return new Slot<R>({
      ...this.#options,
      next: () => this.#launch(role),
      onStart: () => {},
      onRetire: async () => {},
      ...own,
      onReport: (child, report) => {
        if (report.type === 'measured') onMeasured(report as Measured)
        else own.onReport?.(child, report)
      },
      role,
      name,
      overlap,
      spare: (launch): Forked<R> | undefined => this.spares.take(role, launch),
      onChange: () => this.#changed(),
    })
  }

  #proxySlot(worker: number): Slot<'proxy'> {
    const { listeners } = this.#options
    let generation = 0
    return this.#slot('proxy', `proxy-${worker}`, true, {
      next: () => {
        generation = this.#generation++
        return this.#launch('proxy')
      },
      config: () => ({
        epoch: this.#epoch,
        config: proxySlice(this.#config, worker, generation, listeners.inherited),
      }),
      onStart: (child) => {
        const socketPath = proxySocketPath(this.#config, worker, generation)
        this.wiring.proxyStarted(child, { socketPath, peer: proxyPeer(this.#config, worker, generation) })
      },
      // From then on front sends it no new request: it may close what is idle.
      onRetire: () => this.wiring.frontsHeard(),
    })
  }

  #changed(): void {
    this.wiring.look()
    this.spares.look()
    this.#options.onChange()
  }
}
