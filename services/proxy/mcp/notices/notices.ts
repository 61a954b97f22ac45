import { Fault } from '../../../../shared/faults.ts'
import type { ServerWorkload } from '../../../../shared/wire/snapshot.ts'
import type { Access } from '../access.ts'
import type { Catalogue } from '../catalogue.ts'
import type { RequestCall } from '../flight.ts'
import { changedMethod, changeOf, type ListChange, updatedMethod } from '../protocol/changes.ts'
import type { PeerNotice, Peers } from '../protocol/peers.ts'
import type { JsonRpcNotification } from '../protocol/types.ts'
import type { Party } from '../upstream/request.ts'
import type { Upstreams } from '../upstream/upstreams.ts'
import type { ChannelDeps } from './channel.ts'
import { Channels } from './channels.ts'
import type { Listener } from './listen.ts'
import { Throttle } from './throttle.ts'
import { Watches, type WatchesDeps } from './watches.ts'

/** Streams of one person, over all their agents. */
const maxPerPerson = 32
const closeMs = 1_000
/** Other workers hear of one list at most this often. */
const tellPeersMs = 200

/** Methods that go to servers, and the list that the client sees by them. */
const ofServers = new Map<string, ListChange | null>([
  ['tools/list', 'tools'],
  ['prompts/list', 'prompts'],
  ['resources/list', 'resources'],
  ['resources/templates/list', null],
  ['resources/read', null],
  ['resources/subscribe', null],
  ['tools/call', null],
  ['prompts/get', null],
  ['completion/complete', null],
])

/** What a worker has for notices: the streams of its clients, and those at servers that feed them. */
export class Notices {
  readonly channels: Channels
  readonly watches: Watches
  readonly #max: number
  readonly #listeners = new Map<Listener, string>()
  readonly #perPerson = new Map<string, number>()
  #draining = false
  readonly #catalogue: Catalogue
  readonly #upstreams: Upstreams
  readonly #peers: Peers | undefined
  readonly #telling = new Throttle(tellPeersMs)

  /** `max`: streams of all clients together; each holds one of the requests that the worker takes at a time. */
  constructor(
    deps: Omit<ChannelDeps, 'changed'> & Omit<WatchesDeps, 'channels'> & { catalogue: Catalogue },
    max: number,
  ) {
    this.#catalogue = deps.catalogue
    this.#upstreams = deps.upstreams
    this.#peers = deps.peers
    this.channels = new Channels({ ...deps, changed: (change, server) => this.#changed(change, server) })
    this.watches = new Watches({ ...deps, channels: this.channels })
    this.#max = max
  }

  get listeners(): number {
    return this.#listeners.size
  }

  /** Gives what makes room again. Throws `listen.limit`, `listen.ended`. */
  admit(listener: Listener, principalKey: string): () => void {
    if (this.#draining) throw new Fault('listen.ended')
    const own = this.#perPerson.get(principalKey) ?? 0
    if (own >= maxPerPerson) throw new Fault('listen.limit', { detail: `${own} streams of one person` })
    if (this.#listeners.size >= this.#max)
      throw new Fault('listen.limit', { detail: `${this.#listeners.size} streams in this worker` })
    this.#listeners.set(listener, principalKey)
    this.#perPerson.set(principalKey, own + 1)
    return () => {
      if (!this.#listeners.delete(listener)) return
      const left = (this.#perPerson.get(principalKey) ?? 1) - 1
      if (left > 0) this.#perPerson.set(principalKey, left)
      else this.#perPerson.delete(principalKey)
    }
  }

  /** A session's request to servers begins: they are heard from now on, and what the client is about to see is no news. */
  used(call: RequestCall, access: Access): void {
    const { method, params } = call.message
    const known = ofServers.get(method)
    if (known === undefined) return
    this.watches.touch(call, access)
    if (known) this.watches.forget(call, changedMethod(known))
    if (method === 'resources/read') this.watches.forget(call, updatedMethod, params?.uri)
  }

  /** What a server said on the stream of a call: our own listings are old from now on, and who listens hears it. */
  hear(party: Party, server: ServerWorkload, notification: JsonRpcNotification): void {
    if (this.channels.hear(party, server, notification)) return
    const change = changeOf(notification.method)
    if (change) this.#changed(change, server)
  }

  /** A client's roots are other ones: every legacy server that was told that it has some hears of it. */
  rootsChanged(owner: string): void {
    this.#upstreams.tellRoots(owner)
    this.#peers?.notice({ owner, rootsChanged: true })
  }

  /** Another worker heard something that concerns this one too. */
  noticed(notice: PeerNotice): void {
    if ('list' in notice) this.#forget(notice.list, notice.server)
    else if ('rootsChanged' in notice) this.#upstreams.tellRoots(notice.owner)
    else this.watches.noticed(notice)
  }

  #changed(change: ListChange, server: ServerWorkload): void {
    this.#forget(change, server)
    const { id, url } = server
    this.#telling.run(`${change}\n${id}\n${url}`, () =>
      this.#peers?.notice({ list: change, server: { id, url } }),
    )
  }

  #forget(change: ListChange, server: Pick<ServerWorkload, 'id' | 'url'>): void {
    this.#catalogue.changed(change, server)
    if (change === 'resources') this.#catalogue.changed('resourceTemplates', server)
  }

  /** Resolves when every server was given back what was asked of it, or after a moment. */
  async closed(): Promise<void> {
    this.watches.close()
    await Promise.race([
      this.channels.closed(),
      new Promise((resolve) => setTimeout(resolve, closeMs).unref()),
    ])
  }

  /** Ends every client's stream politely: its client listens again, elsewhere. */
  drain(): void {
    this.#draining = true
    for (const listener of [...this.#listeners.keys()])
      listener.end(new Fault('listen.ended', { detail: 'the gateway drains' }))
  }
}
