import type { ServerWorkload } from '../../../../shared/wire/snapshot.ts'
import type { Answered } from '../flight.ts'
import {
  type ChangeFilter,
  changedMethod,
  changeOf,
  type ListChange,
  taskMethod,
  unionOf,
  updatedMethod,
  watches,
} from '../protocol/changes.ts'
import type { JsonRpcNotification, JsonRpcRequest } from '../protocol/types.ts'
import type { Stop } from '../stop.ts'
import { unsupported } from '../upstream/answers.ts'
import type { LegacySession } from '../upstream/legacy-session.ts'
import type { Party } from '../upstream/request.ts'
import { Line, type LineDeps } from './line.ts'
import { type Granted, noSubscriptions, Subscriptions } from './subscriptions.ts'
import { Waiters } from './waiters.ts'

/** Someone who is told what a server says; `filter` may be replaced by `Channel.want`. */
export interface Member {
  filter: ChangeFilter
  heard(notification: JsonRpcNotification, server: ServerWorkload): void
  /** Of a legacy client's session: what a server asks outside of calls, and says beside changes. */
  asked?(question: JsonRpcRequest, server: ServerWorkload): Promise<Answered>
}

export interface ChannelDeps extends LineDeps {
  /** A list changed, said or possibly missed. */
  changed(change: ListChange, server: ServerWorkload): void
}

const touchMs = 60_000

/**
 * What one server tells one party: one stream at the server for all who want it, with the filter that all of them need
 * together. What may have been missed while it was lost is told as changed. Ends with its last member, its subscriptions
 * given back.
 */
export class Channel {
  readonly server: ServerWorkload
  #party: Party
  readonly #deps: ChannelDeps
  readonly #members = new Set<Member>()
  readonly #line: Line
  readonly #subscriptions: Subscriptions
  #settling = false
  #closed = false
  readonly #waiters = new Waiters()
  readonly #touch: NodeJS.Timeout
  readonly #after: Promise<void>

  /** `after`: a former channel of the same party and server gives its subscriptions back until then. */
  constructor(
    server: ServerWorkload,
    party: Party,
    deps: ChannelDeps,
    after: Promise<void> = Promise.resolve(),
  ) {
    this.server = server
    this.#party = party
    this.#deps = deps
    this.#after = after
    this.#line = new Line(server, deps, {
      party: () => this.#party,
      wanted: () => this.#wanted(),
      heard: (notification) => this.hear(notification),
      ask: (question) => this.#ask(question),
      opened: (missed) => this.#opened(missed),
      lost: () => this.#waiters.wake(),
    })
    this.#subscriptions = new Subscriptions(deps.upstreams, server, () => {
      this.#waiters.wake()
      this.#settleSoon()
    })
    this.#touch = setInterval(() => deps.upstreams.session(server, this.#party), touchMs)
    this.#touch.unref()
  }

  get size(): number {
    return this.#members.size
  }

  /** `party` may carry newer claims of the same person. */
  join(member: Member, party: Party): void {
    this.#party = party
    this.#members.add(member)
    this.#settleSoon()
  }

  want(member: Member, filter: ChangeFilter): void {
    member.filter = filter
    this.#settleSoon()
  }

  /** A promise where this was the last one: the channel is of no use any more, and gave everything back then. */
  leave(member: Member): Promise<void> | undefined {
    if (!this.#members.delete(member)) return undefined
    if (this.#members.size === 0) return this.#close()
    this.#settleSoon()
    return undefined
  }

  /** What the server said to the subscription of a resource; undefined while it did not say. */
  answerTo(uri: string): Granted | undefined {
    const { open, filter } = this.#line
    if (!open?.honoured) return this.#subscriptions.answerTo(uri)
    if (open.honoured.uris.has(uri)) return true
    return filter.uris.has(uri) ? noSubscriptions : undefined
  }

  /** Whether the server said that it tells of its task of this id. */
  tellsOf(taskId: string): boolean {
    return this.#line.open?.honoured?.tasks.has(taskId) ?? false
  }

  /** Resolves when everything that `member` wants was granted, refused or failed once, or with the stop. Never rejects. */
  settled(member: Member, stop: Stop): Promise<void> {
    return this.#waiters.until(() => this.#closed || this.#decided(member), stop)
  }

  get isOpen(): boolean {
    return this.#line.open !== undefined
  }

  /** Resolves when the server tells, failed once, or with the stop. Never rejects. */
  opened(stop: Stop): Promise<void> {
    return this.#waiters.until(() => this.#closed || this.isOpen || this.#line.failing, stop)
  }

  /** A notification that came another way, on the stream of a call. */
  hear(notification: JsonRpcNotification): void {
    const change = changeOf(notification.method)
    if (change) this.#deps.changed(change, this.server)
    const uri = notification.method === updatedMethod ? notification.params?.uri : undefined
    for (const member of this.#members) {
      const { lists, uris, tasks } = member.filter
      const wanted = change
        ? lists.has(change)
        : notification.method === updatedMethod
          ? typeof uri === 'string' && watches(uris, uri)
          : notification.method === taskMethod
            ? tasks.has(String(notification.params?.taskId))
            : member.asked !== undefined
      if (wanted) member.heard(notification, this.server)
    }
  }

  /** The session at the server is another one: a stream and subscriptions of the former are worth nothing. */
  moved(session: LegacySession): void {
    const { open } = this.#line
    if (!open || open.honoured || open.session === session) return
    this.#line.restart('another session')
    this.#settleSoon()
  }

  /** Starts over at once, as after a credential that changed. */
  refresh(): void {
    this.#line.forgive()
    this.#line.restart('refreshed')
    this.#settleSoon()
  }

  /** What all members need together. */
  #wanted(): ChangeFilter {
    return unionOf([...this.#members].map(({ filter }) => filter))
  }

  #decided({ filter }: Member): boolean {
    const { open, filter: asked, failing } = this.#line
    if (failing) return true
    if (!open) return false
    const lists = !open.honoured || [...filter.lists].every((change) => asked.lists.has(change))
    const tasks = !open.honoured || [...filter.tasks].every((id) => asked.tasks.has(id))
    return lists && tasks && [...filter.uris].every((uri) => this.answerTo(uri) !== undefined)
  }

  /** Joins and leaves of one moment become one look. */
  #settleSoon(): void {
    if (this.#settling || this.#closed) return
    this.#settling = true
    void this.#after.then(() =>
      setImmediate(() => {
        this.#settling = false
        this.#settle()
      }),
    )
  }

  #settle(): void {
    if (this.#closed) return
    const { open } = this.#line
    if (!open || open.honoured) this.#line.settle()
    else
      this.#subscriptions.follow(
        () => (this.#closed ? undefined : this.#line.open?.session),
        () => this.#wanted().uris,
        () => this.#party,
      )
  }

  #ask(question: JsonRpcRequest): Promise<Answered> {
    for (const { asked } of this.#members) if (asked) return asked(question, this.server)
    return unsupported()
  }

  #opened(missed: boolean): void {
    if (missed) this.#tellAll()
    this.#waiters.wake()
    this.#settleSoon()
  }

  /** What was watched may have changed while nobody told us. */
  #tellAll(): void {
    const { lists, uris } = this.#wanted()
    for (const change of lists) this.hear({ jsonrpc: '2.0', method: changedMethod(change) })
    for (const uri of uris) this.hear({ jsonrpc: '2.0', method: updatedMethod, params: { uri } })
  }

  async #close(): Promise<void> {
    this.#closed = true
    clearInterval(this.#touch)
    this.#line.close()
    this.#waiters.wake()
    await this.#subscriptions.close(this.#party)
  }
}
