import type { ServerWorkload } from '../../../../shared/wire/snapshot.ts'
import type { JsonRpcNotification } from '../protocol/types.ts'
import { Stop } from '../stop.ts'
import type { LegacySession } from '../upstream/legacy-session.ts'
import type { Party } from '../upstream/request.ts'
import { Channel, type ChannelDeps, type Member } from './channel.ts'

/** Streams at servers that one worker holds open at most. */
const maxChannels = 4_096
/** Longest that a call waits for the stream on which its server may ask. */
const openMs = 1_000

const keyOf = ({ binding, variant }: Party, { id, url }: ServerWorkload): string =>
  `${binding}\n${variant}\n${id}\n${url}`

/** Every channel of this worker, one for each party and server that somebody wants to hear of. */
export class Channels {
  readonly #deps: ChannelDeps
  readonly #max: number
  readonly #open = new Map<string, { channel: Channel; party: Party }>()
  readonly #closing = new Map<string, Promise<void>>()

  constructor(deps: ChannelDeps, max = maxChannels) {
    this.#deps = deps
    this.#max = max
  }

  get size(): number {
    return this.#open.size
  }

  /** Undefined where the worker holds as many as it may. */
  join(party: Party, server: ServerWorkload, member: Member): Channel | undefined {
    const key = keyOf(party, server)
    let held = this.#open.get(key)
    if (!held) {
      if (this.#open.size >= this.#max) {
        this.#deps.log.warn({ server: server.id, limit: this.#max }, 'too many streams of notices')
        return undefined
      }
      held = { channel: new Channel(server, party, this.#deps, this.#closing.get(key)), party }
      this.#open.set(key, held)
    }
    held.channel.join(member, party)
    return held.channel
  }

  leave(party: Party, channel: Channel, member: Member): void {
    const closing = channel.leave(member)
    if (!closing) return
    const key = keyOf(party, channel.server)
    this.#open.delete(key)
    const done = closing
      .catch(() => {})
      .finally(() => {
        if (this.#closing.get(key) === done) this.#closing.delete(key)
      })
    this.#closing.set(key, done)
  }

  /** Said on the stream of a call. Gives whether somebody here was there to hear it. */
  hear(party: Party, server: ServerWorkload, notification: JsonRpcNotification): boolean {
    const held = this.#open.get(keyOf(party, server))
    held?.channel.hear(notification)
    return held !== undefined
  }

  /** Whether a stream for what the server says outside of calls is being opened; a promise until it is. */
  opening(party: Party, server: ServerWorkload): Promise<void> | undefined {
    const channel = this.#open.get(keyOf(party, server))?.channel
    if (!channel || channel.isOpen) return undefined
    const stop = new Stop().limit(openMs)
    return channel.opened(stop).finally(() => stop.end())
  }

  moved(party: Party, session: LegacySession): void {
    this.#open.get(keyOf(party, session.server))?.channel.moved(session)
  }

  /** The credential of a person for a server, or for all where none is named, is another one from now on. */
  refresh(principalKey: string, serverId: string | undefined): void {
    for (const { channel, party } of this.#open.values()) {
      if (party.principalKey === principalKey && (serverId === undefined || channel.server.id === serverId))
        channel.refresh()
    }
  }

  /** Resolves when everything was given back. */
  async closed(): Promise<void> {
    await Promise.all(this.#closing.values())
  }
}
