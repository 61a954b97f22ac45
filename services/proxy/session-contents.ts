import type { JsonObject, Session } from './mcp/protocol/types.ts'
import type { Watching } from './session-notes.ts'

/** Other workers, as far as sessions concern them; none of them throws. */
export interface SessionPeers {
  readonly size: number
  ended(ending: { id: string; uuid: string; until: number }): Promise<void>
  level(level: { uuid: string; level: string }): Promise<void>
  lastUse(uuid: string): Promise<number | undefined>
  watching(watching: Watching): Promise<void>
}

/** All that the store holds of one session, by the names of fields. */
export type SessionRecord = Readonly<Record<string, string>>

/** What gateways share of sessions. Every method throws where the store does not answer. */
export interface SessionStore {
  created(session: SealedSession): Promise<void>
  /** Notes a use, and says what was known before it. */
  use(session: SealedSession, now: number): Promise<{ ended: boolean; lastUse?: number; level?: string }>
  /** Gives what was there of it. */
  end(session: SealedSession): Promise<SessionRecord>
  level(session: SealedSession, level: string): Promise<void>
  /** One field, and whether the session has ended. */
  field(session: SealedSession, name: string): Promise<{ ended: boolean; value?: string }>
  fields(session: SealedSession): Promise<SessionRecord>
  setField(session: SealedSession, name: string, value: string): Promise<void>
  dropField(session: SealedSession, name: string): Promise<void>
}

/** `uuid` names the session where its id, which opens it, should not be shown: events, tombstones. */
export interface SealedSession extends Session {
  readonly uuid: string
}

const maxCapabilityChars = 1024
const knownCapabilities = ['elicitation', 'sampling', 'roots', 'tasks']

/** The client's capabilities, small enough for a header: what is too large is cut to what the gateway can bridge. */
export function boundedCapabilities(capabilities: JsonObject): JsonObject {
  if (JSON.stringify(capabilities).length <= maxCapabilityChars) return capabilities
  const kept: JsonObject = {}
  for (const key of knownCapabilities) {
    if (!Object.hasOwn(capabilities, key)) continue
    kept[key] = JSON.stringify(capabilities[key]).length <= 200 ? capabilities[key] : {}
  }
  return kept
}

/** Name, title and version, 100 characters each. */
export function boundedInfo(info: JsonObject | undefined): Record<string, string> | undefined {
  if (!info) return undefined
  const bounded: Record<string, string> = {}
  for (const key of ['name', 'title', 'version']) {
    const value = info[key]
    if (typeof value === 'string') bounded[key] = value.slice(0, 100)
  }
  return bounded
}
