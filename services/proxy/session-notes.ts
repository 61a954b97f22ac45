import { hash } from 'node:crypto'
import { LRUCache } from 'lru-cache'
import { Fault } from '../../shared/faults.ts'
import type { Logger } from '../../shared/log.ts'
import type { KeptUpstream, SessionNotes } from './mcp/protocol/kept.ts'
import type { Session } from './mcp/protocol/types.ts'
import type { SessionBox } from './session-box.ts'
import type { SealedSession, SessionPeers, SessionRecord, SessionStore } from './session-contents.ts'

export interface NotesDeps {
  readonly box: SessionBox
  readonly log: Logger
  readonly peers?: SessionPeers
  readonly store?: SessionStore
}

/** One resource that one session watches; `serverId` null: not any more. */
export interface Watching {
  readonly uuid: string
  readonly uri: string
  readonly serverId: string | null
}

const upstreamPrefix = 'upstream:'
const watchPrefix = 'watch:'
/** Larger sessions at servers are opened anew: a store is no place for what a server makes of its capabilities. */
const maxSealedChars = 32_768
/** Sessions whose watched resources are remembered without a store, and resources of one. */
const maxSessions = 10_000
const maxUris = 256
/** Of URIs, in what a worker hands to a new one. */
const maxSharedChars = 8 << 20

const upstreamField = (serverId: string): string => upstreamPrefix + serverId
const watchField = (uri: string): string => watchPrefix + hash('sha256', uri, 'base64url')
/** A box opens for the session, and the server, that it was sealed for alone: who writes the store can not move it. */
const upstreamPurpose = (uuid: string, serverId: string): string => `mcp-upstream/1\n${uuid}\n${serverId}`
const watchPurpose = (uuid: string): string => `mcp-watch/1\n${uuid}`

/**
 * What is kept of sessions for the worker or gateway that they reach next: sealed in the session store where there is
 * one. Without it every worker of the gateway remembers what sessions watch; sessions at servers are opened anew.
 */
export class KeptNotes implements SessionNotes {
  readonly #deps: NotesDeps
  readonly #watched = new LRUCache<string, Map<string, string>>({ max: maxSessions })

  constructor(deps: NotesDeps) {
    this.#deps = deps
  }

  get shared(): boolean {
    return this.#deps.store !== undefined
  }

  async upstream(session: Session, serverId: string): Promise<KeptUpstream | undefined> {
    const { store } = this.#deps
    if (!store) return undefined
    const { uuid } = session as SealedSession
    const { ended, value } = await store.field(session as SealedSession, upstreamField(serverId))
    if (ended) throw new Fault('session.unknown', { detail: 'ended by DELETE' })
    return value === undefined ? undefined : this.#openUpstream(uuid, serverId, value)
  }

  keepUpstream(session: Session, serverId: string, kept: KeptUpstream): void {
    const { store, box } = this.#deps
    if (!store) return
    const { uuid } = session as SealedSession
    const { url, id, protocolVersion, capabilities } = kept
    const plain = JSON.stringify([url, id ?? null, protocolVersion, capabilities])
    const sealed = box.seal(Buffer.from(plain), upstreamPurpose(uuid, serverId))
    if (sealed === undefined || sealed.length > maxSealedChars) return
    void this.#quietly(store.setField(session as SealedSession, upstreamField(serverId), sealed))
  }

  /** The sessions at servers that the record of an ended session named. */
  upstreamsOf({ uuid }: SealedSession, record: SessionRecord): ReadonlyMap<string, KeptUpstream> {
    const found = new Map<string, KeptUpstream>()
    for (const [name, value] of Object.entries(record)) {
      if (!name.startsWith(upstreamPrefix)) continue
      const serverId = name.slice(upstreamPrefix.length)
      const kept = this.#openUpstream(uuid, serverId, value)
      if (kept) found.set(serverId, kept)
    }
    return found
  }

  async watched(session: Session): Promise<ReadonlyMap<string, string>> {
    const { store, log } = this.#deps
    const { uuid } = session as SealedSession
    if (!store) return new Map(this.#watched.get(uuid))
    const record = await store.fields(session as SealedSession).catch((error: unknown) => {
      log.warn(
        { detail: Fault.from(error).detail },
        'what a session watches can not be read from the session store',
      )
      return {}
    })
    const found = new Map<string, string>()
    for (const [name, value] of Object.entries(record)) {
      if (!name.startsWith(watchPrefix) || found.size >= maxUris) continue
      const plain = this.#deps.box.open(value, watchPurpose(uuid), maxSealedChars)
      if (!plain) continue
      const [uri, serverId] = JSON.parse(plain.toString('utf8'))
      found.set(uri, serverId)
    }
    return found
  }

  watch(session: Session, uri: string, serverId: string): Promise<void> {
    return this.#note(session as SealedSession, uri, serverId)
  }

  unwatch(session: Session, uri: string): Promise<void> {
    return this.#note(session as SealedSession, uri, null)
  }

  /** From another worker, or here. */
  learn({ uuid, uri, serverId }: Watching): void {
    if (serverId === null) {
      this.#watched.get(uuid)?.delete(uri)
      return
    }
    const uris = this.#watched.get(uuid) ?? new Map<string, string>()
    if (uris.size < maxUris) this.#watched.set(uuid, uris.set(uri, serverId))
  }

  /** The session has ended. */
  forget(uuid: string): void {
    this.#watched.delete(uuid)
  }

  /** For a new worker: those used last first, as far as one message carries. */
  remembered(): Watching[] {
    const all: Watching[] = []
    let chars = 0
    for (const [uuid, uris] of this.#watched.entries()) {
      for (const [uri, serverId] of uris) {
        chars += uri.length
        if (chars > maxSharedChars) return all
        all.push({ uuid, uri, serverId })
      }
    }
    return all
  }

  async #note(session: SealedSession, uri: string, serverId: string | null): Promise<void> {
    const { store, peers, box } = this.#deps
    const { uuid } = session
    if (!store) {
      this.learn({ uuid, uri, serverId })
      await peers?.watching({ uuid, uri, serverId })
    } else if (serverId === null) await this.#quietly(store.dropField(session, watchField(uri)))
    else {
      const sealed = box.seal(Buffer.from(JSON.stringify([uri, serverId])), watchPurpose(uuid))
      if (sealed !== undefined) await this.#quietly(store.setField(session, watchField(uri), sealed))
    }
  }

  #openUpstream(uuid: string, serverId: string, sealed: string): KeptUpstream | undefined {
    const plain = this.#deps.box.open(sealed, upstreamPurpose(uuid, serverId), maxSealedChars)
    if (!plain) return undefined
    // Authenticated by the box, so the shape is the one that `keepUpstream` wrote.
    const [url, id, protocolVersion, capabilities] = JSON.parse(plain.toString('utf8'))
    return { url, protocolVersion, capabilities, ...(id === null ? {} : { id }) }
  }

  /** Lost where the store is down: what is not kept is opened or subscribed anew. */
  async #quietly(work: Promise<unknown>): Promise<void> {
    try {
      await work
    } catch (error) {
      this.#deps.log.debug({ detail: Fault.from(error).detail }, 'a note is not in the session store')
    }
  }
}
