import type { ServerWorkload } from '../../../../shared/wire/snapshot.ts'
import type { Access } from '../access.ts'
import type { Answered } from '../flight.ts'
import { type ChangeFilter, isEmpty, type ListChange, noChanges, sameFilter } from '../protocol/changes.ts'
import type { JsonRpcNotification, JsonRpcRequest } from '../protocol/types.ts'
import type { Stop } from '../stop.ts'
import type { Party } from '../upstream/request.ts'
import type { Channel, Member } from './channel.ts'
import type { Channels } from './channels.ts'
import { type Granted, noSubscriptions } from './subscriptions.ts'

export interface PlacesOptions {
  readonly channels: Channels
  readonly party: Party
  /** Kinds of lists whose changes are wanted of every server. */
  readonly lists: ReadonlySet<ListChange>
  /** Servers that are heard at most; the first of the configuration. */
  readonly maxServers: number
  heard(notification: JsonRpcNotification, server: ServerWorkload): void
  asked?(question: JsonRpcRequest, server: ServerWorkload): Promise<Answered>
}

interface Place {
  readonly channel: Channel
  readonly member: Member
  readonly server: ServerWorkload
}

/** One client's place at every server that it hears, as policy has it now. */
export class Places {
  readonly #options: PlacesOptions
  #party: Party
  #access: Access
  readonly #places = new Map<string, Place>()
  /** Watched resources by the id of the server that was found for them. */
  readonly #uris = new Map<string, Set<string>>()
  /** Tasks by the id of their server. */
  readonly #tasks = new Map<string, Set<string>>()

  constructor(options: PlacesOptions, access: Access) {
    this.#options = options
    this.#party = options.party
    this.#access = access
  }

  get uris(): ReadonlySet<string> {
    return new Set([...this.#uris.values()].flatMap((uris) => [...uris]))
  }

  /** Takes a place at each server that has something to tell, and leaves the others. `party`: newer claims of the same person. */
  take(access: Access = this.#access, party: Party = this.#party): void {
    const { channels, maxServers } = this.#options
    const renewed = party !== this.#party
    this.#access = access
    this.#party = party
    const now = new Map(access.allowed.map((server) => [server.id, server]))
    for (const { server } of [...this.#places.values()])
      if (now.get(server.id)?.url !== server.url) this.#leave(server.id)
    let left = maxServers
    for (const server of access.allowed) {
      const filter = this.#filterFor(server, left-- > 0)
      const place = this.#places.get(server.id)
      if (isEmpty(filter)) this.#leave(server.id)
      else if (!place) this.#join(server, filter)
      else {
        if (renewed) channels.join(party, server, place.member)
        if (!sameFilter(place.member.filter, filter)) place.channel.want(place.member, filter)
      }
    }
  }

  /** The id of the server that is asked for `uri`. */
  serverOf(uri: string): string | undefined {
    return [...this.#uris].find(([, uris]) => uris.has(uri))?.[0]
  }

  assign(uri: string, { id }: Pick<ServerWorkload, 'id'>): void {
    this.#uris.set(id, (this.#uris.get(id) ?? new Set()).add(uri))
  }

  /** The server is asked to tell of its task of this id, with the next `take`. */
  follow(taskId: string, { id }: ServerWorkload): void {
    this.#tasks.set(id, (this.#tasks.get(id) ?? new Set()).add(taskId))
  }

  tellsOf(taskId: string, { id }: ServerWorkload): boolean {
    return this.#places.get(id)?.channel.tellsOf(taskId) ?? false
  }

  /** Nobody is asked for `uri` any more. Gives whether somebody was. */
  release(uri: string): boolean {
    const holders = [...this.#uris.values()].filter((uris) => uris.delete(uri))
    if (holders.length > 0) this.take()
    return holders.length > 0
  }

  /** Resolves when every server granted or refused what is wanted of it, or failed once, or with the stop. */
  async settled(stop: Stop): Promise<void> {
    await Promise.all([...this.#places.values()].map(({ channel, member }) => channel.settled(member, stop)))
  }

  /**
   * Goes from server to server until one takes the subscription of `uri`. One that did not say yet is asked on, and
   * counts as taking it. Gives what the last one said otherwise.
   */
  async watch(uri: string, servers: readonly ServerWorkload[], stop: Stop): Promise<Granted | undefined> {
    let answer: Granted | undefined
    for (const server of servers) {
      this.assign(uri, server)
      this.take()
      const place = this.#places.get(server.id)
      if (place) await place.channel.settled(place.member, stop)
      answer = place ? (place.channel.answerTo(uri) ?? true) : noSubscriptions
      if (answer === true) return true
      this.release(uri)
    }
    return answer
  }

  close(): void {
    for (const id of [...this.#places.keys()]) this.#leave(id)
  }

  #join(server: ServerWorkload, filter: ChangeFilter): void {
    const { channels, heard, asked } = this.#options
    const member: Member = { filter, heard, ...(asked ? { asked } : {}) }
    const channel = channels.join(this.#party, server, member)
    if (channel) this.#places.set(server.id, { channel, member, server })
  }

  #leave(serverId: string): void {
    const place = this.#places.get(serverId)
    if (!place) return
    this.#places.delete(serverId)
    this.#options.channels.leave(this.#party, place.channel, place.member)
  }

  /** What may be heard of one server: kinds that policy lets the person use there. */
  #filterFor({ id }: ServerWorkload, heard: boolean): ChangeFilter {
    const { allowed, prompts, resources } = this.#access
    const usable = { tools: allowed, prompts, resources }
    const may = (change: ListChange): boolean => usable[change].some((server) => server.id === id)
    return {
      lists: heard ? new Set([...this.#options.lists].filter(may)) : noChanges.lists,
      uris: may('resources') ? new Set(this.#uris.get(id)) : noChanges.uris,
      tasks: may('tools') ? new Set(this.#tasks.get(id)) : noChanges.tasks,
    }
  }
}
