import { randomUUID } from 'node:crypto'
import type { Clock } from '../../shared/clock.ts'
import type { ValkeySettings } from '../../shared/config/valkey-url.ts'
import type { Fault } from '../../shared/faults.ts'
import type { Logger } from '../../shared/log.ts'
import type { LocalCalls, PeerNotice, Peers } from './mcp/protocol/peers.ts'
import type { Measures } from './measures.ts'
import type { PeerLink } from './peers/link.ts'
import { SessionBox } from './session-box.ts'
import type { SessionPeers } from './session-contents.ts'
import { KeptNotes } from './session-notes.ts'
import { ValkeyStore } from './session-store.ts'
import { SessionWire } from './session-wire.ts'
import { Sessions } from './sessions.ts'

export interface EdgeSessionsDeps {
  readonly link: PeerLink
  readonly idleTtlMs: number
  readonly clock: Clock
  readonly log: Logger
  readonly measures: Measures
  readonly valkey: ValkeySettings | undefined
  readonly tenantId: () => string | undefined
  readonly onStore: (fault?: Fault) => void
  /** The core's, once there is one. */
  readonly local: () => LocalCalls
}

/** What a worker has of sessions: their box, what it remembers, and what it shares, with a session store or without. */
export class EdgeSessions {
  readonly box = new SessionBox()
  readonly sessions: Sessions
  readonly notes: KeptNotes
  readonly peers: Peers
  readonly store: ValkeyStore | undefined
  readonly #wire: SessionWire | undefined

  constructor(deps: EdgeSessionsDeps) {
    const { link, idleTtlMs, clock, log, measures, valkey, tenantId, onStore, local } = deps
    const { box } = this
    if (valkey) {
      this.store = new ValkeyStore({
        settings: valkey,
        idleTtlMs,
        clock,
        log,
        tenantId,
        onState: onStore,
        measures,
      })
      this.#wire = new SessionWire({
        settings: valkey,
        store: this.store,
        box,
        clock,
        log,
        tenantId,
        onEnded: (uuid) => {
          const id = this.sessions.idOf(uuid)
          this.sessions.ended(uuid, clock.now() + idleTtlMs)
          if (id !== undefined)
            local()
              .endSession(id)
              .catch(() => {})
        },
        onNotice: (notice) => local().noticed(notice),
      })
    }
    const shared = this.store ? { store: this.store } : {}
    this.notes = new KeptNotes({ box, log, peers: link, ...shared })
    this.sessions = new Sessions({
      box,
      idleTtlMs,
      clock,
      log,
      random: randomUUID,
      peers: this.#wire ? alsoFar(link, this.#wire) : link,
      notes: this.notes,
      measures,
      ...shared,
    })
    this.peers = peersOf(link, this.#wire)
  }

  /** Connects behind the scenes. */
  start(): void {
    this.store?.start()
    this.#wire?.start()
  }

  async close(): Promise<void> {
    await Promise.all([this.store?.close(), this.#wire?.close()])
  }
}

/** An ending is told to every process that has the store: sessions at servers that it holds for the client are over. */
const alsoFar = (link: PeerLink, wire: SessionWire): SessionPeers => ({
  get size() {
    return link.size
  },
  async ended(ending) {
    await link.ended(ending)
    wire.ended(ending.uuid)
  },
  level: (level) => link.level(level),
  lastUse: (uuid) => link.lastUse(uuid),
  watching: (watching) => link.watching(watching),
})

/** Notices go to the workers of this gateway, and where sessions at servers are shared to those of the others. */
const peersOf = (link: PeerLink, wire: SessionWire | undefined): Peers => ({
  self: link.self,
  resume: (holder, request, waiter) => link.resume(holder, request, waiter),
  answer: (holder, owner, message) => link.answer(holder, owner, message),
  cancel: (owner, requestId) => link.cancel(owner, requestId),
  notice(notice) {
    if (!('watched' in notice)) link.notice(notice)
    if (wire && concernsAll(notice)) wire.notice(notice)
  },
})

/** Not questions, whose answers find back within one gateway alone, nor what each session at a server is told once. */
const concernsAll = (notice: PeerNotice): boolean =>
  !('held' in notice || 'asked' in notice || 'rootsChanged' in notice)
