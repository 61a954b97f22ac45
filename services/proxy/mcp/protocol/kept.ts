import type { JsonObject, Session } from './types.ts'

/** A session at a legacy server, as much of it as another process needs to go on with it. */
export interface KeptUpstream {
  /** The server's address when it was opened: elsewhere it is worth nothing. */
  readonly url: string
  /** The server's `Mcp-Session-Id`; absent where it gave none. */
  readonly id?: string
  /** Negotiated by `initialize`. */
  readonly protocolVersion: string
  readonly capabilities: JsonObject
}

/**
 * What is known of a client's session beside its id, for every worker that it may reach. Without a session store nothing
 * of its sessions at servers is kept, and what it watches is in the workers' memory.
 */
export interface SessionNotes {
  /** Whether sessions at servers are shared, so that what one process hears in them is for all. */
  readonly shared: boolean
  /** Undefined where none is kept or it can not be had. Throws `session.unknown` where the client ended its session. */
  upstream(session: Session, serverId: string): Promise<KeptUpstream | undefined>
  keepUpstream(session: Session, serverId: string, kept: KeptUpstream): void
  /** The resources that the session watches: URI → id of the server. Never rejects. */
  watched(session: Session): Promise<ReadonlyMap<string, string>>
  /** Both resolve once the other processes, or the store, know; never reject. */
  watch(session: Session, uri: string, serverId: string): Promise<void>
  unwatch(session: Session, uri: string): Promise<void>
}
