import { z } from 'zod'
import { Fault } from '../../../../shared/faults.ts'
import type { ServerWorkload } from '../../../../shared/wire/snapshot.ts'
import type { Access } from '../access.ts'
import type { Context } from '../context.ts'
import { Cancelled } from '../flight.ts'
import { holdersOf } from '../holders.ts'
import {
  type ChangeFilter,
  changedMethod,
  isEmpty,
  type ListChange,
  listChanges,
  noChanges,
  sameFilter,
  toSubscriptionFilter,
  updatedMethod,
} from '../protocol/changes.ts'
import { isObject } from '../protocol/jsonrpc.ts'
import { metaKeys } from '../protocol/shape.ts'
import type { JsonObject, JsonRpcNotification, SseWriter } from '../protocol/types.ts'
import { Stop } from '../stop.ts'
import type { Channel, Member } from './channel.ts'

/** Resources that one stream may watch. */
const maxUris = 256
const maxUriChars = 4_096
/** A stream is acknowledged after this even where a server has not answered yet; it is asked on. */
const acknowledgeMs = 3_000
/** Notices of one moment become one of each; a server that floods is slowed down by it. */
const pauseMs = 50
/** Larger params of a server are dropped from its notice, which says all by its method. */
const maxParamsChars = 4_096

const schema = z.object({
  toolsListChanged: z.boolean().optional(),
  promptsListChanged: z.boolean().optional(),
  resourcesListChanged: z.boolean().optional(),
  resourceSubscriptions: z.array(z.string().min(1).max(maxUriChars)).max(maxUris).optional(),
})

/** Params of `subscriptions/listen` (MCP 2026-07-28). Throws `rpc.params`. */
export function parseFilter(notifications: unknown): ChangeFilter {
  const parsed = schema.safeParse(notifications)
  if (!parsed.success) {
    const issues = parsed.error.issues.map(
      ({ path, message }) => `${['notifications', ...path].join('.')}: ${message}`,
    )
    throw new Fault('rpc.params', { data: { field: 'notifications', issues } })
  }
  const { resourceSubscriptions = [], ...lists } = parsed.data
  return {
    lists: new Set(listChanges.filter((change) => lists[`${change}ListChanged`])),
    uris: new Set(resourceSubscriptions),
  }
}

/**
 * `subscriptions/listen`: one stream of everything that the person's servers tell, until the client goes, may not go
 * on, or the gateway drains. Answers on the stream by itself.
 */
export async function listen(context: Context): Promise<undefined> {
  const { call, deps, flight } = context
  const filter = parseFilter(context.params.notifications)
  const { notices } = deps
  const listener = new Listener(context, filter)
  const leave = notices.admit(listener, context.party.principalKey)
  const startedAt = performance.now()
  deps.recorder.request(call, { server: null, decision: null, outcome: 'Passthrough' })
  let fault: Fault | undefined
  try {
    flight.stop.hold()
    fault = await listener.run()
  } finally {
    leave()
    deps.recorder.response(call, {
      server: null,
      decision: null,
      outcome: fault ? 'Error' : 'Passthrough',
      ...(fault ? { reason: fault.detail ?? fault.message, reasonCode: fault.code } : {}),
      httpResponseCode: 200,
      durationMs: performance.now() - startedAt,
    })
  }
  return undefined
}

/** One client's stream and its place at every server that it hears. */
export class Listener {
  readonly #context: Context
  readonly #filter: ChangeFilter
  readonly #places = new Map<string, { channel: Channel; member: Member; server: ServerWorkload }>()
  /** Watched resources by server id, as far as a server was found for them. */
  readonly #uris = new Map<string, Set<string>>()
  /** What is to be sent: one of each method and resource. */
  readonly #pending = new Map<string, JsonRpcNotification>()
  readonly #ended = Promise.withResolvers<Fault | undefined>()
  #over = false
  #writer: SseWriter | undefined
  #sending = false
  #access: Access
  #lastSentAt: number

  constructor(context: Context, filter: ChangeFilter) {
    this.#context = context
    this.#filter = filter
    this.#access = context.access
    this.#lastSentAt = context.deps.clock.now()
  }

  /** When something was sent last, ms since the epoch. */
  get lastSentAt(): number {
    return this.#lastSentAt
  }

  /** Takes the stream to its end. Gives why it ended where that is not the client's own will. */
  async run(): Promise<Fault | undefined> {
    const { call, flight, deps } = this.#context
    flight.stop.on((reason) => this.end(reason instanceof Fault ? reason : undefined))
    const unfollow = deps.standing?.follow(call, {
      changed: (index, circumstances) => this.#decide(deps.accessOf(index, call.principal, circumstances)),
      ended: (fault) => this.end(fault),
    })
    try {
      await this.#join()
      if (this.#over) return await this.#ended.promise
      this.#writer = flight.stream()
      const granted = this.#granted()
      await this.#send('notifications/subscriptions/acknowledged', {
        notifications: toSubscriptionFilter(granted),
      })
      if (isEmpty(granted)) this.end(undefined)
      void this.#flush()
      const fault = await this.#ended.promise
      if (!(flight.stop.reason instanceof Cancelled)) this.#close(fault)
      return fault
    } finally {
      unfollow?.()
      for (const server of [...this.#places.values()]) this.#leave(server.server.id)
    }
  }

  end(fault: Fault | undefined): void {
    this.#over = true
    this.#ended.resolve(fault)
  }

  /** A place at every server that may be heard, and the word of each, as far as it comes in time. */
  async #join(): Promise<void> {
    const { flight } = this.#context
    const holders = await Promise.all(
      [...this.#filter.uris].map(async (uri) => [uri, await this.#holdersOf(uri)] as const),
    )
    for (const [uri, [likeliest]] of holders) if (likeliest) this.#assign(uri, likeliest)
    this.#placeAll()
    const stop = new Stop().limit(acknowledgeMs)
    flight.stop.on((reason) => stop.stop(reason))
    await Promise.all([...this.#places.values()].map(({ channel, member }) => channel.settled(member, stop)))
    await Promise.all(holders.map(([uri, servers]) => this.#settle(uri, servers, stop)))
    stop.end()
  }

  #holdersOf(uri: string): Promise<readonly ServerWorkload[]> {
    return holdersOf(this.#context, uri).catch(() => [])
  }

  /** Goes from server to server until one takes the subscription, or did not say yet: that one is asked on. */
  async #settle(uri: string, servers: readonly ServerWorkload[], stop: Stop): Promise<void> {
    for (const server of servers) {
      if (stop.reason || this.#over) return
      this.#assign(uri, server)
      const place = this.#place(server)
      if (place) {
        place.channel.want(place.member, this.#filterFor(server))
        await place.channel.settled(place.member, stop)
        const answer = place.channel.answerTo(uri)
        if (answer === true || answer === undefined) return
      }
      this.#uris.get(server.id)?.delete(uri)
      place?.channel.want(place.member, this.#filterFor(server))
    }
  }

  #assign(uri: string, { id }: ServerWorkload): void {
    this.#uris.set(id, (this.#uris.get(id) ?? new Set()).add(uri))
  }

  #place(server: ServerWorkload) {
    const held = this.#places.get(server.id)
    if (held) return held
    const { party, deps } = this.#context
    const member: Member = {
      filter: this.#filterFor(server),
      heard: (notification) => this.#heard(notification),
    }
    const channel = deps.notices.channels.join(party, server, member)
    if (!channel) return undefined
    const place = { channel, member, server }
    this.#places.set(server.id, place)
    return place
  }

  #leave(serverId: string): void {
    const place = this.#places.get(serverId)
    if (!place) return
    this.#places.delete(serverId)
    const { party, deps } = this.#context
    deps.notices.channels.leave(party, place.channel, place.member)
  }

  /** What may be heard of one server: kinds that policy lets the person use there. */
  #filterFor({ id }: ServerWorkload): ChangeFilter {
    const usable = {
      tools: this.#access.allowed,
      prompts: this.#access.prompts,
      resources: this.#access.resources,
    }
    const may = (change: ListChange): boolean => usable[change].some((server) => server.id === id)
    return {
      lists: new Set([...this.#filter.lists].filter(may)),
      uris: may('resources') ? new Set(this.#uris.get(id)) : noChanges.uris,
    }
  }

  /** A place at each server that has something to tell, and the filter of each as policy has it now. */
  #placeAll(): void {
    for (const server of this.#access.allowed) {
      const filter = this.#filterFor(server)
      const place = this.#places.get(server.id)
      if (isEmpty(filter)) this.#leave(server.id)
      else if (!place) this.#place(server)
      else if (!sameFilter(place.member.filter, filter)) place.channel.want(place.member, filter)
    }
  }

  /** Every kind of list is granted: policy may give a server that has it at any time. */
  #granted(): ChangeFilter {
    const uris = [...this.#filter.uris].filter((uri) =>
      [...this.#uris.values()].some((watched) => watched.has(uri)),
    )
    return { lists: this.#filter.lists, uris: new Set(uris) }
  }

  /** The policy may be another one: servers come and go, and with them what the lists hold. */
  #decide(access: Access): void {
    const former = this.#access
    if (access === former) return
    this.#access = access
    const now = new Map(access.allowed.map((server) => [server.id, server]))
    for (const { server } of [...this.#places.values()]) {
      if (now.get(server.id)?.url !== server.url) this.#leave(server.id)
    }
    this.#placeAll()
    if (fingerprint(former) === fingerprint(access)) return
    for (const change of this.#filter.lists) this.#heard({ jsonrpc: '2.0', method: changedMethod(change) })
  }

  #heard(notification: JsonRpcNotification): void {
    if (this.#over) return
    const { method, params } = notification
    const key = method === updatedMethod ? `${method}\n${String(params?.uri)}` : method
    this.#pending.set(key, notification)
    void this.#flush()
  }

  /** One event after the other, as fast as the client takes them; meanwhile what comes is kept once of each. */
  async #flush(): Promise<void> {
    if (this.#sending || !this.#writer) return
    this.#sending = true
    while (this.#pending.size > 0 && !this.#over) {
      const batch = [...this.#pending.values()]
      this.#pending.clear()
      for (const { method, params } of batch) await this.#send(method, passable(method, params))
      await this.#context.deps.clock.sleep(pauseMs)
    }
    this.#sending = false
  }

  #send(method: string, params: JsonObject): void | Promise<void> {
    this.#lastSentAt = this.#context.deps.clock.now()
    return this.#writer?.send(JSON.stringify({ jsonrpc: '2.0', method, params: this.#tagged(params) }))
  }

  /** MCP 2026-07-28, subscriptions: the id of the client's own request, on every message of its stream. */
  #tagged(body: JsonObject): JsonObject {
    const meta = isObject(body._meta) ? body._meta : {}
    return { ...body, _meta: { ...meta, [metaKeys.subscriptionId]: this.#context.call.message.id } }
  }

  /**
   * The result says that the end is meant (subscriptions page); `notifications/cancelled` says it to who reads the
   * cancellation page alone. A client that stops at the result has heard all.
   */
  #close(fault: Fault | undefined): void {
    const { call, info } = this.#context
    const { id } = call.message
    const result = this.#tagged({ resultType: 'complete', _meta: { [metaKeys.serverInfo]: info } })
    const reason = (fault ?? new Fault('listen.ended')).message
    void this.#writer?.send(JSON.stringify({ jsonrpc: '2.0', id, result }))
    void this.#send('notifications/cancelled', { requestId: id, reason })
    this.#writer?.end()
  }
}

/** What the merged lists of a person depend on besides the servers themselves. */
const fingerprint = ({ allowed, decisions }: Access): string =>
  JSON.stringify(
    allowed.map(({ id, url }) => [id, url, decisions.get(id)?.policyId, decisions.get(id)?.policyVersion]),
  )

/** A server's params without fields of the protocol, which are the gateway's to write. */
function passable(method: string, params: JsonObject | undefined): JsonObject {
  if (!params) return {}
  if (JSON.stringify(params).length > maxParamsChars)
    return method === updatedMethod ? { uri: params.uri } : {}
  const { _meta, ...rest } = params
  const own = Object.entries(isObject(_meta) ? _meta : {}).filter(
    ([key]) => !key.startsWith('io.modelcontextprotocol/'),
  )
  return own.length > 0 ? { ...rest, _meta: Object.fromEntries(own) } : rest
}
