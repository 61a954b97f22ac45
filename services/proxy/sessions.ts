import { hash } from 'node:crypto'
import { LRUCache } from 'lru-cache'
import type { Clock } from '../../shared/clock.ts'
import { Fault } from '../../shared/faults.ts'
import type { Logger } from '../../shared/log.ts'
import type { Principal } from '../../shared/policy.ts'
import type { KeptUpstream } from './mcp/protocol/kept.ts'
import type { JsonObject, Session, SessionLevels } from './mcp/protocol/types.ts'
import type { Measures } from './measures.ts'
import { maxShared, type SharedSessions } from './peers/protocol.ts'
import type { LocalSessions } from './peers/server.ts'
import type { SessionBox } from './session-box.ts'
import {
  boundedCapabilities,
  boundedInfo,
  type SealedSession,
  type SessionPeers,
  type SessionStore,
} from './session-contents.ts'
import type { KeptNotes, Watching } from './session-notes.ts'

export interface SessionsDeps {
  readonly box: SessionBox
  readonly idleTtlMs: number
  readonly clock: Clock
  readonly log: Logger
  /** A new UUID. */
  readonly random: () => string
  readonly maxOpened?: number
  readonly maxTombstones?: number
  /** The other workers of this gateway; absent: there are none. */
  readonly peers?: SessionPeers
  /** Absent: what is known of sessions is in memory, here and at the other workers. */
  readonly store?: SessionStore
  readonly notes?: KeptNotes
  readonly measures?: Measures
}

interface Opened {
  readonly session: SealedSession
  lastUse: number
}

const keys = new WeakMap<Principal, string>()

/** What a session is bound to: issuer and subject, never the bytes of a token. SHA-256, base64url. */
export function principalKey(principal: Principal): string {
  let key = keys.get(principal)
  if (key === undefined) {
    key = hash('sha256', JSON.stringify([principal.issuer, principal.subject]), 'base64url')
    keys.set(principal, key)
  }
  return key
}

/**
 * The id is the session, sealed. What is kept besides is bounded: opened boxes with their last use save work, tombstones
 * remember a DELETE for as long as the id could live, levels what the client wants to be told. All of that is shared with
 * the other workers of this gateway, or kept in a store that several gateways share; then nothing of it counts that the
 * store does not say.
 */
export class Sessions implements SessionLevels, LocalSessions {
  readonly #deps: SessionsDeps
  readonly #opened: LRUCache<string, Opened>
  /** Session's uuid → when its id is dead anyway, ms since the epoch. */
  readonly #tombstones = new Map<string, number>()
  /** Session's uuid → log level. */
  readonly #levels: LRUCache<string, string>
  /** Session's uuid → when other workers last saw it, as they said when this one began. */
  readonly #uses: LRUCache<string, number>
  created = 0

  constructor(deps: SessionsDeps) {
    this.#deps = deps
    this.#opened = new LRUCache({ max: deps.maxOpened ?? 10_000 })
    this.#levels = new LRUCache({ max: maxKept })
    this.#uses = new LRUCache({ max: maxKept })
  }

  get known(): number {
    return this.#opened.size
  }

  /** A new session of `principal`. Throws session.keys_missing while sync has not answered the keys. */
  seal(
    principal: Principal,
    protocolVersion: string,
    capabilities: JsonObject,
    clientInfo?: JsonObject,
  ): SealedSession {
    const contents = {
      uuid: this.#deps.random(),
      principalKey: principalKey(principal),
      protocolVersion,
      clientCapabilities: boundedCapabilities(capabilities),
      clientInfo: boundedInfo(clientInfo),
      issuedAt: this.#deps.clock.now(),
    }
    const { uuid, issuedAt, clientCapabilities, clientInfo: info } = contents
    const plain = JSON.stringify([
      uuid,
      contents.principalKey,
      protocolVersion,
      issuedAt,
      clientCapabilities,
      info,
    ])
    const id = this.#deps.box.seal(Buffer.from(plain))
    if (id === undefined) throw new Fault('session.keys_missing')
    const session: SealedSession = Object.freeze({ id, ...contents })
    this.#opened.set(id, { session, lastUse: issuedAt })
    this.created++
    this.#deps.measures?.sessionsCreated.inc()
    // Not waited for: a store that is down must not keep a client out, and what is missing there is only the last use.
    this.#deps.store?.created(session).catch((error: unknown) => {
      this.#deps.log.warn({ detail: Fault.from(error).detail }, 'a new session is not in the session store')
    })
    return session
  }

  /**
   * The session behind `id`. Throws session.unknown for an unreadable, foreign, ended or idle one: all look the same. A
   * promise only where a store or another worker has to be asked.
   */
  resolve(id: string, principal: Principal): SealedSession | Promise<SealedSession> {
    const now = this.#deps.clock.now()
    let opened = this.#opened.get(id)
    if (!opened) {
      const session = this.#open(id)
      opened = { session, lastUse: session.issuedAt }
      if (session.principalKey === principalKey(principal)) this.#opened.set(id, opened)
    }
    const { session } = opened
    if (session.principalKey !== principalKey(principal)) {
      throw new Fault('session.unknown', { detail: 'the session of another user' })
    }
    if (this.#tombstones.has(session.uuid)) throw new Fault('session.unknown', { detail: 'ended by DELETE' })
    if (this.#deps.store) return this.#stored(this.#deps.store, session, now)
    if (this.#idle(opened.lastUse, now) && this.#idle(this.#uses.get(session.uuid) ?? 0, now)) {
      if (!this.#deps.peers?.size) throw this.#tooIdle(session)
      // Another worker may have seen it since.
      return this.#deps.peers.lastUse(session.uuid).then((lastUse) => {
        if (lastUse === undefined || this.#idle(lastUse, now)) throw this.#tooIdle(session)
        opened.lastUse = now
        return session
      })
    }
    opened.lastUse = now
    return session
  }

  async #stored(store: SessionStore, session: SealedSession, now: number): Promise<SealedSession> {
    const known = await store.use(session, now).catch((error: unknown) => {
      throw new Fault('session.unknown', {
        detail: `the session store does not answer (${Fault.from(error).detail ?? 'unknown error'})`,
        cause: error,
      })
    })
    if (known.ended) throw new Fault('session.unknown', { detail: 'ended by DELETE' })
    if (this.#idle(known.lastUse ?? session.issuedAt, now)) throw this.#tooIdle(session)
    if (known.level === undefined) this.#levels.delete(session.uuid)
    else this.#levels.set(session.uuid, known.level)
    return session
  }

  #idle(lastUse: number, now: number): boolean {
    return now - lastUse > this.#deps.idleTtlMs
  }

  #tooIdle(session: SealedSession): Fault {
    this.#opened.delete(session.id)
    return new Fault('session.unknown', { detail: 'idle for too long' })
  }

  /**
   * DELETE: the id is refused for the rest of its life, by every worker that answers once this resolves. Gives the
   * sessions at servers that any process opened for it, as far as they are kept.
   */
  async end(session: Session): Promise<ReadonlyMap<string, KeptUpstream>> {
    const { id, uuid } = session as SealedSession
    // Without a last use in memory, idle time counts from issue: after that the tombstone has nothing left to do.
    const until = this.#deps.clock.now() + this.#deps.idleTtlMs
    this.#opened.delete(id)
    this.ended(uuid, until)
    const [record] = await Promise.all([
      this.#deps.store?.end(session as SealedSession).catch((error: unknown) => {
        throw new Fault('session.store', { ...detailOf(error), cause: error })
      }),
      this.#deps.peers?.ended({ id, uuid, until }),
    ])
    return this.#deps.notes?.upstreamsOf(session as SealedSession, record ?? {}) ?? new Map()
  }

  /** The level of the session; undefined where it never asked for one. */
  get(session: Session): string | undefined {
    return this.#levels.size === 0 ? undefined : this.#levels.get((session as SealedSession).uuid)
  }

  set(session: Session, level: string): void {
    const { uuid } = session as SealedSession
    this.level(uuid, level)
    if (!this.#deps.store) void this.#deps.peers?.level({ uuid, level })
    this.#deps.store?.level(session as SealedSession, level).catch((error: unknown) => {
      this.#deps.log.warn(detailOf(error), 'a log level is not in the session store')
    })
  }

  level(uuid: string, level: string): void {
    this.#levels.set(uuid, level)
  }

  lastUse(uuid: string): number | undefined {
    const told = this.#uses.get(uuid)
    for (const { session, lastUse } of this.#opened.values())
      if (session.uuid === uuid) return Math.max(lastUse, told ?? 0)
    return told
  }

  watching(watching: Watching): void {
    this.#deps.notes?.learn(watching)
  }

  /** The id that opens the session of this uuid, where it was used here. */
  idOf(uuid: string): string | undefined {
    for (const { session } of this.#opened.values()) if (session.uuid === uuid) return session.id
    return undefined
  }

  shared(): SharedSessions {
    return {
      tombstones: [...this.#tombstones].slice(-maxShared),
      levels: [...this.#levels.entries()].slice(0, maxShared),
      watching: this.#deps.notes?.remembered() ?? [],
      uses: this.#lastUses(),
    }
  }

  /** Of sessions that were used since they were issued: idle time of the others counts from issue anyway. */
  #lastUses(): [uuid: string, lastUse: number][] {
    const uses = new Map(this.#uses.entries())
    for (const { session, lastUse } of this.#opened.values())
      if (lastUse > session.issuedAt) uses.set(session.uuid, Math.max(lastUse, uses.get(session.uuid) ?? 0))
    return [...uses].slice(-maxShared)
  }

  /** What other workers knew when this one began. */
  learn({ tombstones, levels, watching = [], uses = [] }: SharedSessions): void {
    for (const [uuid, until] of tombstones) this.ended(uuid, until)
    for (const [uuid, level] of levels) if (!this.#levels.has(uuid)) this.#levels.set(uuid, level)
    for (const each of watching) this.watching(each)
    for (const [uuid, lastUse] of uses) this.#uses.set(uuid, Math.max(lastUse, this.#uses.get(uuid) ?? 0))
  }

  /** The session of this uuid is refused until its id is dead anyway, ms since the epoch. */
  ended(ended: string, until: number): void {
    const now = this.#deps.clock.now()
    this.#levels.delete(ended)
    this.#uses.delete(ended)
    this.#deps.notes?.forget(ended)
    for (const [uuid, dead] of this.#tombstones) {
      if (dead > now) break
      this.#tombstones.delete(uuid)
    }
    this.#tombstones.set(ended, until)
    if (this.#tombstones.size > (this.#deps.maxTombstones ?? 100_000)) {
      const [oldest] = this.#tombstones.keys()
      this.#tombstones.delete(oldest!)
      this.#deps.log.warn(
        { limit: this.#tombstones.size },
        'too many ended sessions; the oldest is forgotten',
      )
    }
  }

  #open(id: string): SealedSession {
    if (!this.#deps.box.ready) throw new Fault('session.keys_missing')
    const plain = this.#deps.box.open(id)
    if (!plain) throw new Fault('session.unknown', { detail: 'not a session id of this gateway' })
    // Authenticated by the box, so the shape is the one that `seal` wrote.
    const [uuid, key, protocolVersion, issuedAt, clientCapabilities, clientInfo] = JSON.parse(
      plain.toString('utf8'),
    )
    return Object.freeze({
      id,
      uuid,
      principalKey: key,
      protocolVersion,
      issuedAt,
      clientCapabilities,
      restored: true,
      ...(clientInfo === null ? {} : { clientInfo }),
    })
  }
}

const maxKept = 50_000

const detailOf = (error: unknown): { detail?: string } => {
  const { detail } = Fault.from(error)
  return detail === undefined ? {} : { detail }
}
