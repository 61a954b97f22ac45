import { z } from 'zod'
import { Fault } from '../../../../shared/faults.ts'
import type { Circumstances, PolicyIndex } from '../../../../shared/policy.ts'
import type { ServerWorkload } from '../../../../shared/wire/snapshot.ts'
import type { Access } from '../access.ts'
import type { Context } from '../context.ts'
import { Cancelled } from '../flight.ts'
import { holdersOf } from '../holders.ts'
import {
  type ChangeFilter,
  changedMethod,
  isEmpty,
  listChanges,
  taskMethod,
  toSubscriptionFilter,
} from '../protocol/changes.ts'
import { isObject } from '../protocol/jsonrpc.ts'
import { metaKeys } from '../protocol/shape.ts'
import type { JsonObject, JsonRpcNotification, SseWriter } from '../protocol/types.ts'
import { Stop } from '../stop.ts'
import { decideTask, type OwnTask, openTask, requireTasks } from '../tasks.ts'
import { fingerprint } from './fingerprint.ts'
import { Outbox } from './outbox.ts'
import { Places } from './places.ts'

/** Resources that one stream may watch. */
const maxUris = 256
const maxUriChars = 4_096
/** Tasks that one stream may be told of, and the length of an id of ours. */
const maxTasks = 256
const maxTaskIdChars = 8_192
/** A stream is acknowledged after this even where a server has not answered yet; it is asked on. */
const acknowledgeMs = 3_000

const schema = z.object({
  toolsListChanged: z.boolean().optional(),
  promptsListChanged: z.boolean().optional(),
  resourcesListChanged: z.boolean().optional(),
  resourceSubscriptions: z.array(z.string().min(1).max(maxUriChars)).max(maxUris).optional(),
  taskIds: z.array(z.string().min(1).max(maxTaskIdChars)).max(maxTasks).optional(),
})

/** Params of `subscriptions/listen` (MCP 2026-07-28, extension tasks); tasks by the ids that the client knows. Throws `rpc.params`. */
export function parseFilter(notifications: unknown): ChangeFilter {
  const parsed = schema.safeParse(notifications)
  if (!parsed.success) {
    const issues = parsed.error.issues.map(
      ({ path, message }) => `${['notifications', ...path].join('.')}: ${message}`,
    )
    throw new Fault('rpc.params', { data: { field: 'notifications', issues } })
  }
  const { resourceSubscriptions = [], taskIds = [], ...lists } = parsed.data
  return {
    lists: new Set(listChanges.filter((change) => lists[`${change}ListChanged`])),
    uris: new Set(resourceSubscriptions),
    tasks: new Set(taskIds),
  }
}

/**
 * `subscriptions/listen`: one stream of everything that the person's servers tell, until the client goes, may not go
 * on, or the gateway drains. Answers on the stream by itself.
 */
export async function listen(context: Context): Promise<undefined> {
  const { call, deps, flight } = context
  const filter = parseFilter(context.params.notifications)
  if (filter.tasks.size > 0) requireTasks(context)
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

/** What is decided on at a moment. */
interface Now {
  readonly access: Access
  readonly index: PolicyIndex
  readonly circumstances: Circumstances
}

/** One client's stream and what it hears on it. */
export class Listener {
  readonly #context: Context
  readonly #filter: ChangeFilter
  readonly #places: Places
  readonly #outbox: Outbox
  readonly #ended = Promise.withResolvers<Fault | undefined>()
  #over = false
  #writer: SseWriter | undefined
  #now: Now
  /** By server and its own id of a task: what the client calls it. */
  readonly #tasks = new Map<string, OwnTask & { readonly taskId: string }>()

  constructor(context: Context, filter: ChangeFilter) {
    const { deps, access, party, call } = context
    this.#context = context
    this.#filter = filter
    this.#now = { access, index: call.index, circumstances: call.circumstances }
    this.#outbox = new Outbox(deps.clock, () =>
      this.#writer && !this.#over ? ({ method, params = {} }) => this.#send(method, params) : undefined,
    )
    this.#places = new Places(
      {
        channels: deps.notices.channels,
        party,
        lists: filter.lists,
        maxServers: Number.POSITIVE_INFINITY,
        heard: (notification, server) => {
          const told = notification.method === taskMethod ? this.#task(notification, server) : notification
          if (told && !this.#over) this.#outbox.push(told)
        },
      },
      access,
    )
  }

  /** Takes the stream to its end. Gives why it ended where that is not the client's own will. */
  async run(): Promise<Fault | undefined> {
    const { call, flight, deps } = this.#context
    flight.stop.on((reason) => this.end(reason instanceof Fault ? reason : undefined))
    const unfollow = deps.standing?.follow(call, {
      changed: (index, circumstances) =>
        this.#decide({ access: deps.accessOf(index, call.principal, circumstances), index, circumstances }),
      ended: (fault) => this.end(fault),
    })
    try {
      await this.#join()
      if (this.#over && flight.stop.reason instanceof Cancelled) return undefined
      this.#writer = flight.stream()
      const tasks = [...this.#tasks.values()].filter(({ inner, server }) =>
        this.#places.tellsOf(inner, server),
      )
      const granted: ChangeFilter = {
        lists: this.#filter.lists,
        uris: this.#places.uris,
        tasks: new Set(tasks.map(({ taskId }) => taskId)),
      }
      await this.#send('notifications/subscriptions/acknowledged', {
        notifications: toSubscriptionFilter(granted),
      })
      if (isEmpty(granted)) this.end(undefined)
      void this.#outbox.flush()
      const fault = await this.#ended.promise
      if (!(flight.stop.reason instanceof Cancelled)) this.#close(fault)
      return fault
    } finally {
      unfollow?.()
      this.#places.close()
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
      [...this.#filter.uris].map(
        async (uri) => [uri, await holdersOf(this.#context, uri).catch(() => [])] as const,
      ),
    )
    for (const [uri, [likeliest]] of holders) if (likeliest) this.#places.assign(uri, likeliest)
    for (const taskId of this.#filter.tasks) {
      const task = openTask(this.#context, taskId)
      if (!task) continue
      this.#tasks.set(`${task.server.id}\n${task.inner}`, { ...task, taskId })
      this.#places.follow(task.inner, task.server)
    }
    this.#places.take()
    const stop = new Stop().limit(acknowledgeMs)
    flight.stop.on((reason) => stop.stop(reason))
    await this.#places.settled(stop)
    await Promise.all(holders.map(([uri, servers]) => this.#places.watch(uri, servers, stop)))
    stop.end()
  }

  /** The policy may be another one: servers come and go, and with them what the lists hold. */
  #decide(now: Now): void {
    const former = this.#now.access
    const { access } = now
    this.#now = now
    if (access === former || this.#over) return
    this.#places.take(access)
    if (fingerprint(former) === fingerprint(access)) return
    for (const change of this.#filter.lists)
      this.#outbox.push({ jsonrpc: '2.0', method: changedMethod(change) })
  }

  /**
   * The task under the id that the client knows. Nothing where policy does not allow its tool any more, or guards have to
   * look at what it carries: the client gets that by `tasks/get`.
   */
  #task(
    { method, params = {} }: JsonRpcNotification,
    { id }: ServerWorkload,
  ): JsonRpcNotification | undefined {
    const task = this.#tasks.get(`${id}\n${String(params.taskId)}`)
    const decision = task && decideTask(this.#context, task, this.#now)
    if (!decision?.allow) return undefined
    const guards = this.#now.index.policies.get(decision.policyId ?? '')?.guards ?? []
    const looked = guards.length > 0
    if (looked && ['result', 'error', 'inputRequests'].some((member) => params[member] !== undefined)) {
      return undefined
    }
    const { statusMessage, ...rest } = params
    const said = looked || statusMessage === undefined ? rest : params
    return { jsonrpc: '2.0', method, params: { ...said, taskId: task?.taskId } }
  }

  #send(method: string, params: JsonObject): void | Promise<void> {
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
