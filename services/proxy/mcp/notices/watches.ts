import { LRUCache } from 'lru-cache'
import { Fault } from '../../../../shared/faults.ts'
import type { ServerWorkload } from '../../../../shared/wire/snapshot.ts'
import type { Access } from '../access.ts'
import type { Flight } from '../flight.ts'
import type { SessionNotice } from '../protocol/peers.ts'
import type { JsonRpcNotification, McpCall } from '../protocol/types.ts'
import type { Stop } from '../stop.ts'
import { HeldQuestions } from './held.ts'
import type { Granted } from './subscriptions.ts'
import { maxUris, type SessionCall, Watch, type WatchDeps } from './watch.ts'

/** Sessions that are remembered; the one unused for longest is forgotten first. */
const maxSessions = 10_000
/** Without a request for so long nothing is held at servers for a session; its next request takes it up again. */
const idleMs = 15 * 60_000
const sweepMs = 60_000

export type WatchesDeps = Omit<WatchDeps, 'held'>

/**
 * What servers tell and ask the sessions of legacy clients outside of calls. A session hears its servers from its first
 * request on for as long as it is used; what they say goes to the client on a stream of one of its POSTs: one that is
 * open, else that of its next answer.
 */
export class Watches {
  readonly #deps: WatchDeps
  readonly #watches: LRUCache<string, Watch>
  readonly #sweeper: NodeJS.Timeout

  constructor(deps: WatchesDeps) {
    this.#deps = { ...deps, held: new HeldQuestions(deps.flights, deps.peers) }
    this.#watches = new LRUCache({ max: maxSessions, dispose: (watch) => watch.sleep() })
    this.#sweeper = setInterval(() => this.#sweep(), sweepMs)
    this.#sweeper.unref()
  }

  /** Sessions that are heard for now. */
  get awake(): number {
    let count = 0
    for (const watch of this.#watches.values()) if (!watch.asleep) count++
    return count
  }

  /** Notices that wait for the next answers of their sessions. */
  get waiting(): number {
    let count = 0
    for (const { outbox } of this.#watches.values()) count += outbox.size
    return count
  }

  /** Questions of servers that this worker keeps for the next requests of their sessions, or that were just asked. */
  get held(): number {
    return this.#deps.held.size
  }

  /** A session was used. */
  touch(call: McpCall, access: Access): void {
    if (call.session) this.#of(call as SessionCall).touch(call as SessionCall, access)
  }

  /** A request of a session begins: what its servers asked meanwhile is asked on its stream. */
  begin(flight: Flight): void {
    const { session } = flight.call
    if (session) this.#deps.held.deliver(session.id, flight)
  }

  /** What waits for the session of a call, for who answers it now. */
  take(flight: Flight): JsonRpcNotification[] {
    const { session } = flight.call
    const outbox = session && this.#watches.peek(session.id)?.outbox
    // What a client that has left would not hear waits for its next request.
    return outbox && outbox.size > 0 && flight.heard ? outbox.take() : []
  }

  /** The client is about to see for itself what this is about. */
  forget({ session }: McpCall, method: string, uri?: unknown): void {
    if (session) this.#watches.peek(session.id)?.outbox.forget(method, uri)
  }

  /** What the last server asked said; undefined where there was none to ask. Throws `listen.limit`. */
  async subscribe(
    call: SessionCall,
    uri: string,
    servers: readonly ServerWorkload[],
    stop: Stop,
  ): Promise<Granted | undefined> {
    const { session } = call
    const { notes, peers } = this.#deps
    const { places } = this.#of(call)
    if (places.uris.size >= maxUris && !places.uris.has(uri))
      throw new Fault('listen.limit', { detail: `${maxUris} resources in one session` })
    const granted = await places.watch(uri, servers, stop)
    const server = places.serverOf(uri)
    if (granted !== true || server === undefined) return granted
    // Before the answer: what a client does next, and a worker that is killed then, must find it in order.
    await notes?.watch(session, uri, server)
    // Who has the stream of the shared session at the server hears of it there.
    if (notes?.shared) peers?.notice({ owner: session.id, watched: uri, server })
    return granted
  }

  async unsubscribe({ session }: SessionCall, uri: string): Promise<void> {
    this.#unwatch(session.id, uri)
    await this.#deps.notes?.unwatch(session, uri)
    // Whichever worker took the subscription.
    this.#deps.peers?.notice({ owner: session.id, unwatched: uri })
  }

  /** Another worker heard this for a session, which may ask us next. */
  noticed(notice: SessionNotice): void {
    const { owner } = notice
    if ('unwatched' in notice) this.#unwatch(owner, notice.unwatched)
    else if ('watched' in notice) this.#watches.peek(owner)?.add(new Map([[notice.watched, notice.server]]))
    else if ('held' in notice) this.#deps.held.hold(owner, notice.held)
    else if ('asked' in notice) this.#deps.held.asked(owner, notice.asked)
    else this.#watches.peek(owner)?.outbox.push(notice.message)
  }

  #unwatch(sessionId: string, uri: string): void {
    this.#watches.peek(sessionId)?.release(uri)
  }

  end(sessionId: string): void {
    this.#deps.held.end(sessionId)
    this.#watches.delete(sessionId)
  }

  close(): void {
    clearInterval(this.#sweeper)
    this.#deps.held.close()
    for (const watch of this.#watches.values()) watch.sleep()
  }

  #of(call: SessionCall): Watch {
    let watch = this.#watches.get(call.session.id)
    if (!watch) {
      const access = this.#deps.accessOf(call.index, call.principal, call.circumstances)
      watch = new Watch(this.#deps, call, access)
      this.#watches.set(call.session.id, watch)
      void watch.restore()
    }
    return watch
  }

  #sweep(): void {
    const before = this.#deps.clock.now() - idleMs
    for (const watch of this.#watches.values()) if (watch.lastUse < before) watch.sleep()
  }
}
