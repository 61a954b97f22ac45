import type { Clock } from '../../../../shared/clock.ts'
import type { Circumstances, PolicyIndex } from '../../../../shared/policy.ts'
import type { ContentGuard } from '../../../../shared/wire/content-security.ts'
import type { ServerWorkload } from '../../../../shared/wire/snapshot.ts'
import { type Guards, looksAt } from '../../guard/guards.ts'
import type { Access } from '../access.ts'
import type { Answered, Flights } from '../flight.ts'
import { asked, contentFault } from '../guarded.ts'
import { withholds } from '../guarded-notices.ts'
import { partyOf } from '../party.ts'
import { changedMethod, isChange, listChanges, updatedMethod } from '../protocol/changes.ts'
import { faultError, isObject } from '../protocol/jsonrpc.ts'
import type { SessionNotes } from '../protocol/kept.ts'
import type { Peers } from '../protocol/peers.ts'
import { logLevels } from '../protocol/shape.ts'
import type {
  JsonObject,
  JsonRpcNotification,
  JsonRpcRequest,
  McpCall,
  Session,
  Standing,
} from '../protocol/types.ts'
import { askClient, declares, notDeclared } from '../rounds/live.ts'
import type { Channels } from './channels.ts'
import { fingerprint } from './fingerprint.ts'
import type { HeldQuestions } from './held.ts'
import { Outbox } from './outbox.ts'
import { Places } from './places.ts'
import { Throttle } from './throttle.ts'

/** Servers that one session hears without having subscribed to a resource there. */
const maxServers = 50
/** Resources that one session may watch. */
export const maxUris = 256
/** Guards have this long for a question of a server, with all their tries; the server waits a minute, by the SDKs' default. */
const guardMs = 30_000
/** Other workers hear of one resource at most this often. */
const tellPeersMs = 200

export interface WatchDeps {
  readonly channels: Channels
  readonly flights: Flights
  readonly held: HeldQuestions
  readonly clock: Clock
  readonly standing: Standing | undefined
  readonly peers: Peers | undefined
  readonly guards: Pick<Guards, 'check'>
  readonly notes: SessionNotes | undefined
  accessOf(index: PolicyIndex, principal: McpCall['principal'], circumstances: Circumstances): Access
  /** Log level that the session asked for, if any. */
  levelOf(session: Session): string | undefined
}

export type SessionCall = McpCall & { readonly session: Session }

/** What the servers of one session tell and ask outside of calls, for as long as the session is used. */
export class Watch {
  readonly outbox: Outbox
  readonly places: Places
  lastUse = 0
  asleep = true
  readonly #deps: WatchDeps
  readonly #session: Session
  readonly #telling = new Throttle(tellPeersMs)
  #principal: McpCall['principal'] | undefined
  /** The last request of the session. */
  #call: SessionCall
  #access: Access
  #unfollow: (() => void) | undefined
  /** Given up by the client while it was read what it watches; undefined once that is done. */
  #released: Set<string> | undefined = new Set()

  constructor(deps: WatchDeps, call: SessionCall, access: Access) {
    const { channels, flights, clock } = deps
    const { session } = call
    this.#deps = deps
    this.#session = session
    this.#call = call
    this.#access = access
    this.outbox = new Outbox(clock, () => {
      const flight = flights.streamOf(session.id)
      return flight && ((notification) => flight.notify(notification))
    })
    this.places = new Places(
      {
        channels,
        party: partyOf(call),
        lists: new Set(listChanges),
        maxServers,
        heard: (notification, server) => this.#heard(notification, server),
        asked: (question, server) => this.#ask(question, server),
      },
      access,
    )
  }

  touch(call: SessionCall, access: Access): void {
    this.lastUse = this.#deps.clock.now()
    this.#call = call
    const first = this.#principal === undefined
    if (!this.asleep && this.#principal === call.principal && this.#access === access) return
    const woken = this.asleep && !first
    // A token of the same person that is newer may last longer.
    if (this.asleep || this.#principal !== call.principal) {
      this.#unfollow?.()
      this.#unfollow = this.#deps.standing?.follow(call, {
        changed: (index, circumstances) =>
          this.#decide(this.#deps.accessOf(index, call.principal, circumstances)),
        ended: () => this.sleep(),
      })
    }
    this.#principal = call.principal
    this.asleep = false
    this.#decide(access, partyOf(call))
    if (woken) this.#tellAll()
  }

  /** What the session watches by other processes is watched here too, and told as changed: nobody may have listened. */
  async restore(): Promise<void> {
    const found = (await this.#deps.notes?.watched(this.#session)) ?? new Map<string, string>()
    const kept = [...found].filter(([uri]) => !this.#released?.has(uri) && !this.places.uris.has(uri))
    this.#released = undefined
    this.add(new Map(kept))
    for (const [uri] of kept) this.#tellUpdated(uri)
  }

  /** URI → id of the server that took the subscription. */
  add(uris: ReadonlyMap<string, string>): void {
    for (const [uri, id] of uris) if (this.places.uris.size < maxUris) this.places.assign(uri, { id })
    if (!this.asleep && uris.size > 0) this.places.take()
  }

  release(uri: string): void {
    this.#released?.add(uri)
    this.places.release(uri)
    this.outbox.forget(updatedMethod, uri)
  }

  /** Nothing is held at servers any more; what the session watches is remembered. */
  sleep(): void {
    if (this.asleep) return
    this.asleep = true
    this.#unfollow?.()
    this.#unfollow = undefined
    this.places.close()
  }

  #decide(access: Access, party?: ReturnType<typeof partyOf>): void {
    const former = this.#access
    this.#access = access
    this.places.take(access, party)
    if (fingerprint(former) !== fingerprint(access)) this.#tellLists()
  }

  #guards({ id }: ServerWorkload): readonly ContentGuard[] {
    const { index, decisions } = this.#access
    return index.policies.get(decisions.get(id)?.policyId ?? '')?.guards ?? []
  }

  #heard(notification: JsonRpcNotification, server: ServerWorkload): void {
    const { method, params } = notification
    if (method === 'notifications/message') {
      // Nobody waits for what a server logs on its own, so no guard is asked: where one looks, it stays out.
      const guards = this.#guards(server)
      if (withholds(guards, 'output') || guards.some((each) => looksAt(each, 'notice'))) return
      const wanted = this.#deps.levelOf(this.#session)
      if (wanted !== undefined && logLevels.indexOf(String(params?.level)) < logLevels.indexOf(wanted)) return
    } else if (method === 'notifications/progress' || method === 'notifications/cancelled') return
    this.outbox.push(notification)
    // Lists are heard by each worker that has a session of its own at the server; a resource by who took the subscription.
    const alone = method === updatedMethod || (this.#deps.notes?.shared === true && isChange(notification))
    if (alone && this.outbox.size > 0) this.#tellPeers(notification)
  }

  /** It waits here; the session's next request may reach another worker. The client may so hear it twice. */
  #tellPeers(message: JsonRpcNotification): void {
    const owner = this.#session.id
    this.#telling.run(`${message.method}\n${String(message.params?.uri)}`, () =>
      this.#deps.peers?.notice({ owner, message }),
    )
  }

  /** On a stream of the same session, that of a call at the same server where there is one; else on the next one. */
  async #ask(given: JsonRpcRequest, server: ServerWorkload): Promise<Answered> {
    let question = given
    const { id, clientCapabilities } = this.#session
    if (!declares(clientCapabilities, question)) return notDeclared(question.method)
    const guards = this.#guards(server).filter((each) => looksAt(each, 'question'))
    if (guards.length > 0) {
      const { method, params = {} } = question
      const checked = asked(this.#call, { phase: 'question', server, content: { method, params } })
      const guarded = await this.#deps.guards.check(guards, checked, AbortSignal.timeout(guardMs))
      if (!guarded.allow) return { error: faultError(contentFault(guarded), 'legacy') }
      const seen = (guarded.content as JsonObject).params
      if (isObject(seen)) question = { ...question, params: seen }
    }
    const flight = this.#deps.flights.runningOf(id, server.id)
    return flight ? askClient(flight, question) : this.#deps.held.ask(id, question)
  }

  /** Nobody listened for a while, so anything may have changed. */
  #tellAll(): void {
    this.#tellLists()
    for (const uri of this.places.uris) this.#tellUpdated(uri)
  }

  #tellUpdated(uri: string): void {
    this.outbox.push({ jsonrpc: '2.0', method: updatedMethod, params: { uri } })
  }

  #tellLists(): void {
    for (const change of listChanges) this.outbox.push({ jsonrpc: '2.0', method: changedMethod(change) })
  }
}
