import { rmSync } from 'node:fs'
import type { Clock } from '../../shared/clock.ts'
import type { Command, Peer, SnapshotRef } from '../../shared/ipc/contract.ts'
import type { Child } from './child.ts'
import type { OwnReport } from './forked.ts'
import type { Slot } from './slot.ts'

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

/** Where a proxy is found: by front, and by the other proxies. */
export interface Whereabouts {
  readonly socketPath: string
  readonly peer: Peer
}

export interface WiringOptions {
  readonly front: () => Slot<'front'>
  readonly proxies: () => readonly Slot<'proxy'>[]
  readonly clock: Clock
  /** Time alone may have changed something. */
  readonly onChange: () => void
}

/** What processes have to know of each other: front of proxies, proxies of fronts and proxies and of sync's last word. */
export class Wiring {
  snapshot: KnownSnapshot | undefined
  readonly #options: WiringOptions
  readonly #places = new Map<Child<'proxy'>, Whereabouts>()
  /** Process ids of fronts that drain. */
  readonly #retiring = new Set<number>()
  #told: readonly string[] = []
  #ending = false

  constructor(options: WiringOptions) {
    this.#options = options
  }

  /** A front was started. */
  frontStarted(child: Child<'front'>): void {
    child.send({ type: 'proxies', sockets: [...this.#told] })
  }

  /** A proxy was started. */
  proxyStarted(child: Child<'proxy'>, place: Whereabouts): void {
    const { clock, onChange } = this.#options
    this.#places.set(child, place)
    this.#tellPeers()
    for (const front of this.#retiring) child.send({ type: 'retire', front })
    void child.exited.then(() => {
      const socket = place.socketPath
      if (!child.clean)
        for (const each of this.#options.front().children) each.send({ type: 'broke', socket })
      // A killed process leaves its socket files behind.
      rmSync(socket, { force: true })
      rmSync(place.peer.socketPath, { force: true })
      this.#places.delete(child)
      this.#tellPeers()
    })
    if (this.snapshot) child.send({ type: 'snapshot', ...this.snapshot })
    void clock.sleep(graceMs).then(onChange)
  }

  /** Resolves when every front has taken up what it was told: it sends a proxy that was left out no new request. */
  async frontsHeard(): Promise<void> {
    await Promise.all(this.#options.front().children.map((child) => child.heard()))
  }

  /** Its clients are to be told, by every proxy there is and will be, to come back to its successor. */
  retireFront(front: Child<'front'>): void {
    const { pid } = front
    if (pid === undefined) return
    this.#retiring.add(pid)
    void front.exited.then(() => this.#retiring.delete(pid))
    this.#tellProxies({ type: 'retire', front: pid })
  }

  /** All are about to end: proxies that end together are nobody's successors, front stays with those that it has. */
  end(): void {
    this.#ending = true
    for (const child of this.#options.front().children) this.retireFront(child)
  }

  /** Sync's word, to the proxies. */
  relay(report: OwnReport<'sync'>): void {
    if (report.type === 'snapshot') this.snapshot = { ref: report.ref, confirmedAt: report.confirmedAt }
    else if (report.type !== 'confirmed') return
    else if (this.snapshot?.ref.version === report.version) {
      this.snapshot = { ref: this.snapshot.ref, confirmedAt: report.confirmedAt }
    }
    this.#tellProxies(report satisfies Command<'proxy'>)
  }

  /** States changed: front learns where new connections go. */
  look(): void {
    const sockets = this.#options.proxies().flatMap(({ current }) => {
      const place = current && this.#serves(current) ? this.#places.get(current) : undefined
      return place ? [place.socketPath] : []
    })
    if (this.#ending || sockets.join() === this.#told.join()) return
    this.#told = sockets
    for (const child of this.#options.front().children) child.send({ type: 'proxies', sockets })
  }

  /** Every proxy learns of every other one, also of one that drains: calls that it holds are finished through it. */
  #tellPeers(): void {
    const peers = [...this.#places.values()].map(({ peer }) => peer)
    for (const child of this.#places.keys()) child.send({ type: 'peers', peers })
  }

  #tellProxies(command: Command<'proxy'>): void {
    for (const slot of this.#options.proxies()) for (const child of slot.children) child.send(command)
  }

  #serves(child: Child<'proxy'>): boolean {
    if (child.ready) return true
    // With its own checks failing it still answers, and says why; only a very new one is spared the wait.
    return child.state === 'checking' && this.#options.clock.now() - child.startedAt >= graceMs
  }
}
