import { hash } from 'node:crypto'
import { LRUCache } from 'lru-cache'
import type { Clock } from '../../shared/clock.ts'
import { Fault } from '../../shared/faults.ts'
import type { Logger } from '../../shared/log.ts'
import type { Principal } from '../../shared/policy.ts'
import type { JsonObject, Session } from './mcp/protocol/types.ts'
import type { SessionBox } from './session-box.ts'

export interface SessionsDeps {
  readonly box: SessionBox
  readonly idleTtlMs: number
  readonly clock: Clock
  readonly log: Logger
  /** A new UUID. */
  readonly random: () => string
  readonly maxOpened?: number
  readonly maxTombstones?: number
}

/** `uuid` names the session where its id, which opens it, should not be shown: events, tombstones. */
export interface SealedSession extends Session {
  readonly uuid: string
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
 * Sessions without a store: the id is the session, sealed. What is kept in memory is bounded and only saves work
 * (opened boxes with their last use) or remembers a DELETE (tombstones, for as long as the id could live).
 */
export class Sessions {
  readonly #deps: SessionsDeps
  readonly #opened: LRUCache<string, Opened>
  /** Session's uuid → when its id is dead anyway, ms since the epoch. */
  readonly #tombstones = new Map<string, number>()
  created = 0

  constructor(deps: SessionsDeps) {
    this.#deps = deps
    this.#opened = new LRUCache({ max: deps.maxOpened ?? 10_000 })
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
    return session
  }

  /** The session behind `id`. Throws session.unknown for an unreadable, foreign, ended or idle one: all look the same. */
  resolve(id: string, principal: Principal): SealedSession {
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
    if (now - opened.lastUse > this.#deps.idleTtlMs) {
      this.#opened.delete(id)
      throw new Fault('session.unknown', { detail: 'idle for too long' })
    }
    opened.lastUse = now
    return session
  }

  /** DELETE: the id is refused for the rest of its life. */
  end(session: Session): void {
    const { uuid: ended } = session as SealedSession
    const now = this.#deps.clock.now()
    this.#opened.delete(session.id)
    for (const [uuid, dead] of this.#tombstones) {
      if (dead > now) break
      this.#tombstones.delete(uuid)
    }
    // Without a last use in memory, idle time counts from issue: after that the tombstone has nothing left to do.
    this.#tombstones.set(ended, session.issuedAt + this.#deps.idleTtlMs)
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
      ...(clientInfo === null ? {} : { clientInfo }),
    })
  }
}

const maxCapabilityChars = 1024
const knownCapabilities = ['elicitation', 'sampling', 'roots', 'tasks']

/** The client's capabilities, small enough for a header: what is too large is cut to what the gateway can bridge. */
function boundedCapabilities(capabilities: JsonObject): JsonObject {
  if (JSON.stringify(capabilities).length <= maxCapabilityChars) return capabilities
  const kept: JsonObject = {}
  for (const key of knownCapabilities) {
    if (!Object.hasOwn(capabilities, key)) continue
    kept[key] = JSON.stringify(capabilities[key]).length <= 200 ? capabilities[key] : {}
  }
  return kept
}

/** Name, title and version, 100 characters each. */
function boundedInfo(info: JsonObject | undefined): Record<string, string> | undefined {
  if (!info) return undefined
  const bounded: Record<string, string> = {}
  for (const key of ['name', 'title', 'version']) {
    const value = info[key]
    if (typeof value === 'string') bounded[key] = value.slice(0, 100)
  }
  return bounded
}
