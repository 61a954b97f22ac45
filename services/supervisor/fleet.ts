import { rmSync } from 'node:fs'
import type { Clock } from '../../shared/clock.ts'
import type { GatewayConfig } from '../../shared/config/gateway.ts'
import type { FaultJson } from '../../shared/faults.ts'
import type { Command, Measured, Peer, Report, Role, SnapshotRef } from '../../shared/ipc/contract.ts'
import type { Logger } from '../../shared/log.ts'
import type { Child } from './child.ts'
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

/** The last that sync said about policy, for proxies that start later. */
export interface KnownSnapshot {
  readonly ref: SnapshotRef
  readonly confirmedAt: number
}

/**
 * A proxy that has its configuration but no policy yet gets connections after this long, and refuses by itself. Longer
 * than a start takes on a busy machine, sync's included, shorter than front holds a client's bytes.
 */
const graceMs = 10_000
/** Sync holds no connection of a client; its events are on disk. */
const syncDrainMs = 5_000

/** The one setting that holds a secret: in the environment of those who use it, in no message. */
const storeEnvironment = ({ valkey }: GatewayConfig): NodeJS.ProcessEnv =>
  valkey ? { AEMBIT_VALKEY: JSON.stringify(valkey) } : {}

type AnySlot = Slot<'front'> | Slot<'proxy'> | Slot<'sync'> | Slot<'stdio-adapter'>

/** Who runs, in what order; relays sync's word to the proxies and the proxies' sockets to front. */
export class Fleet {
  readonly front: Slot<'front'>
  readonly proxies: readonly Slot<'proxy'>[]
  readonly sync: Slot<'sync'>
  /** Where local servers are configured. */
  readonly stdio: Slot<'stdio-adapter'> | undefined
  snapshot: KnownSnapshot | undefined
  #config: GatewayConfig
  #epoch = 1
  readonly #options: FleetOptions
  readonly #sockets = new WeakMap<Child<'proxy'>, string>()
  readonly #peers = new Map<Child<'proxy'>, Peer>()
  #told: readonly string[] = []
  #ending = false
  /** Process ids of fronts that drain. */
  readonly #retiringFronts = new Set<number>()
  /** Socket names never repeat, also not those of a supervisor before us whose proxies may still drain. */
  #generation: number

  constructor(options: FleetOptions) {
    this.#options = options
    this.#config = options.config
    this.#generation = Math.floor(options.clock.now() / 1000) % 900_000
    const { listeners, scripts, env, confine } = options
    const flags = (role: Role): string[] => confine(role, this.#config)
    const fds = [listeners.https.fd, ...(listeners.http ? [listeners.http.fd] : [])]
    this.front = this.#slot('front', 'front', true, {
      next: () => ({ script: scripts.front, fds, env, flags: flags('front') }),
      config: () => ({ epoch: this.#epoch, config: frontSlice(this.#config) }),
      onStart: (child) => child.send({ type: 'proxies', sockets: [...this.#told] }),
      onRetire: async (child) => this.#retireFront(child),
    })
    this.proxies = Array.from({ length: this.#config.workers }, (_, worker) => this.#proxySlot(worker))
    this.sync = this.#slot('sync', 'sync', false, {
      next: () => {
        rmSync(syncSocketPath(this.#config), { force: true })
        return { script: scripts.sync, fds: [], env, flags: flags('sync') }
      },
      config: () => ({ epoch: this.#epoch, config: syncSlice(this.#config) }),
      onReport: (_child, report) => this.#relay(report),
    })
    if (this.#config.stdioServersPath !== null) {
      // Not beside its predecessor: it owns one socket, and the servers' processes.
      this.stdio = this.#slot('stdio-adapter', 'stdio-adapter', false, {
        next: () => ({ script: scripts['stdio-adapter'], fds: [], env, flags: flags('stdio-adapter') }),
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

  /** Why the gateway is not ready; empty: it is. */
  readiness(): string[] {
    return this.slots.flatMap((slot) => {
      if (slot.ready) return []
      if (slot.crashLooping) return [`${slot.name}: crash loop (${slot.lastError?.text ?? 'unknown'})`]
      const bad = [...(slot.current?.checks ?? [])].filter(([, { status }]) => status !== 'running')
      if (bad.length === 0) return [`${slot.name}: ${slot.current?.state ?? 'restarting'}`]
      return bad.map(
        ([name, { status, fault }]) => `${name}: ${status}${fault ? ` (${fault.detail ?? fault.text})` : ''}`,
      )
    })
  }

  /** What runs but wants attention, e.g. a certificate whose renewal fails. */
  warnings(): string[] {
    return this.slots.flatMap((slot) =>
      [...(slot.current?.checks ?? [])].flatMap(([name, { status, fault }]) =>
        status === 'running' && fault ? [`${name}: ${fault.detail ?? fault.text}`] : [],
      ),
    )
  }

  /** A configuration that a process could never start with, before it ever ran. */
  startFault(): { slot: string; fault: FaultJson } | undefined {
    for (const slot of this.slots) {
      const fault = slot.startFault
      if (fault?.code === 'config.invalid' || fault?.code === 'listen.failed')
        return { slot: slot.name, fault }
    }
    return undefined
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
    return fault
  }

  /** Clients first: front takes no more, proxies finish what they have, then sync. */
  async stop(): Promise<void> {
    this.#ending = true
    const { drainMs } = this.#config
    for (const child of this.front.children) this.#retireFront(child)
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
    this.#ending = true
    const { drainMs } = this.#config
    for (const child of this.front.children) this.#retireFront(child)
    await this.front.release(drainMs)
    await Promise.all([
      ...this.proxies.map((slot) => slot.release(drainMs)),
      this.sync.stop(syncDrainMs),
      this.stdio?.stop(syncDrainMs),
    ])
  }

  killAll(): void {
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
      ...(changed((config) => proxySlice(config, 0, 0)) ? this.proxies : []),
    ])
  }

  /** While it runs; by a successor where it has to reach other files, as what a process may do is said at its start. */
  async #reconfigureFront(before: GatewayConfig, next: GatewayConfig): Promise<FaultJson | null> {
    const flags = (config: GatewayConfig): string => this.#options.confine('front', config).join(' ')
    if (flags(before) !== flags(next)) return this.restart([this.front])
    return (await this.front.current?.configure(this.#epoch, frontSlice(next))) ?? null
  }

  #stdioSlice(config: GatewayConfig) {
    return stdioSlice(config, config.stdioServersPath ?? '')
  }

  #slot<R extends Role>(
    role: R,
    name: string,
    overlap: boolean,
    own: Pick<SlotOptions<R>, 'next' | 'config'> &
      Partial<Pick<SlotOptions<R>, 'onStart' | 'onReport' | 'onRetire'>>,
  ): Slot<R> {
    const { limits, clock, log, random, onMeasured } = this.#options
    return new Slot<R>({
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
      limits,
      clock,
      log,
      random,
      onChange: () => this.#changed(),
    })
  }

  #proxySlot(worker: number): Slot<'proxy'> {
    const { scripts, env, clock, confine } = this.#options
    let generation = 0
    return this.#slot('proxy', `proxy-${worker}`, true, {
      next: () => {
        generation = this.#generation++
        return {
          script: scripts.proxy,
          fds: [],
          env: { ...env, ...storeEnvironment(this.#config) },
          flags: confine('proxy', this.#config),
        }
      },
      config: () => ({ epoch: this.#epoch, config: proxySlice(this.#config, worker, generation) }),
      onStart: (child) => {
        const path = proxySocketPath(this.#config, worker, generation)
        this.#sockets.set(child, path)
        // A killed process leaves its socket file behind.
        const peer = proxyPeer(this.#config, worker, generation)
        this.#peers.set(child, peer)
        this.#tellPeers()
        for (const front of this.#retiringFronts) child.send({ type: 'retire', front })
        void child.exited.then(() => {
          if (!child.clean) for (const each of this.front.children) each.send({ type: 'broke', socket: path })
          rmSync(path, { force: true })
          rmSync(peer.socketPath, { force: true })
          this.#peers.delete(child)
          this.#tellPeers()
        })
        if (this.snapshot) child.send({ type: 'snapshot', ...this.snapshot })
        void clock.sleep(graceMs).then(() => this.#changed())
      },
      // From then on front sends it no new request: it may close what is idle.
      onRetire: async () => void (await Promise.all(this.front.children.map((child) => child.heard()))),
    })
  }

  /** Its clients are to be told, by every proxy there is and will be, to come back to its successor. */
  #retireFront(front: Child<'front'>): void {
    const { pid } = front
    if (pid === undefined) return
    this.#retiringFronts.add(pid)
    void front.exited.then(() => this.#retiringFronts.delete(pid))
    for (const slot of this.proxies)
      for (const child of slot.children) child.send({ type: 'retire', front: pid })
  }

  #relay(report: Report<'sync'>): void {
    if (report.type === 'snapshot') this.snapshot = { ref: report.ref, confirmedAt: report.confirmedAt }
    else if (report.type !== 'confirmed') return
    else if (this.snapshot?.ref.version === report.version) {
      this.snapshot = { ref: this.snapshot.ref, confirmedAt: report.confirmedAt }
    }
    for (const slot of this.proxies)
      for (const child of slot.children) child.send(report satisfies Command<'proxy'>)
  }

  #changed(): void {
    const sockets = this.proxies.flatMap(({ current }) => {
      const socket = current && this.#serves(current) ? this.#sockets.get(current) : undefined
      return socket === undefined ? [] : [socket]
    })
    // Proxies that end together are nobody's successors: front stays with those that it has.
    if (!this.#ending && sockets.join() !== this.#told.join()) {
      this.#told = sockets
      for (const child of this.front?.children ?? []) child.send({ type: 'proxies', sockets })
    }
    this.#options.onChange()
  }

  /** Every proxy learns of every other one, also of one that drains: calls that it holds are finished through it. */
  #tellPeers(): void {
    const peers = [...this.#peers.values()]
    for (const child of this.#peers.keys()) child.send({ type: 'peers', peers })
  }

  #serves(child: Child<'proxy'>): boolean {
    if (child.ready) return true
    // With its own checks failing it still answers, and says why; only a very new one is spared the wait.
    return child.state === 'checking' && this.#options.clock.now() - child.startedAt >= graceMs
  }
}
