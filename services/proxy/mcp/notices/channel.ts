import type { Clock } from '../../../../shared/clock.ts'
import { Fault } from '../../../../shared/faults.ts'
import type { Logger } from '../../../../shared/log.ts'
import { backoffMs } from '../../../../shared/retry.ts'
import type { ServerWorkload } from '../../../../shared/wire/snapshot.ts'
import type { Answered } from '../flight.ts'
import {
  type ChangeFilter,
  changedMethod,
  changeOf,
  type ListChange,
  sameFilter,
  taskMethod,
  unionOf,
  updatedMethod,
  watches,
} from '../protocol/changes.ts'
import type { JsonRpcNotification, JsonRpcRequest } from '../protocol/types.ts'
import { Stop } from '../stop.ts'
import { unsupported } from '../upstream/answers.ts'
import type { LegacySession } from '../upstream/legacy-session.ts'
import type { Listening } from '../upstream/listening.ts'
import type { Party } from '../upstream/request.ts'
import type { Upstreams } from '../upstream/upstreams.ts'
import { type Granted, noSubscriptions, Subscriptions } from './subscriptions.ts'
import { Waiters } from './waiters.ts'

/** Someone who is told what a server says; `filter` may be replaced by `Channel.want`. */
export interface Member {
  filter: ChangeFilter
  heard(notification: JsonRpcNotification, server: ServerWorkload): void
  /** Of a legacy client's session: what a server asks outside of calls, and says beside changes. */
  asked?(question: JsonRpcRequest, server: ServerWorkload): Promise<Answered>
}

export interface ChannelDeps {
  readonly upstreams: Upstreams
  readonly clock: Clock
  readonly log: Logger
  /** 0 ≤ random() < 1, for the waits between attempts. */
  readonly random: () => number
  /** A list changed, said or possibly missed. */
  changed(change: ListChange, server: ServerWorkload): void
}

const backoff = { baseMs: 500, capMs: 60_000, floorMs: 100 }
/** A server that has no stream is asked again after this: it may be another version by then. */
const askAgainMs = 10 * 60_000
/** A stream that another process has, in a session that is shared, is asked for again after this. */
const busyAgainMs = 15_000
/** A legacy stream that was away for no longer and is of the same session has missed nothing worth a notice. */
const shortGapMs = 5_000
/** A stream that lasted so long starts its waits from the beginning; one that ends sooner, again and again, is waited for. */
const healthyMs = 5_000
const retireMs = 1_000
const touchMs = 60_000

interface Line {
  readonly filter: ChangeFilter
  readonly stop: Stop
  open?: Listening
  openedAt: number
}

/**
 * What one server tells one party: one stream at the server for all who want it, with the filter that all of them need
 * together. Lost streams are opened again with growing, jittered waits; what may have been missed meanwhile is told as
 * changed. Ends with its last member, its subscriptions given back.
 */
export class Channel {
  readonly server: ServerWorkload
  #party: Party
  readonly #deps: ChannelDeps
  readonly #members = new Set<Member>()
  /** Tells now. */
  #line: Line | undefined
  /** Is being opened, the first one or one with another filter. */
  #opening: Line | undefined
  #timer: NodeJS.Timeout | undefined
  /** Was replaced just now. */
  readonly #retired = new Set<Line>()
  /** Streams in a row that did not last. */
  #attempt = 0
  /** The last try to hear the server failed. */
  #failing = false
  /** Since when nobody tells us, ms since the epoch. */
  #lostAt: number | undefined
  #lastSession: LegacySession | undefined
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
    if (this.#line?.open?.honoured) {
      if (this.#line.open.honoured.uris.has(uri)) return true
      return this.#line.filter.uris.has(uri) ? noSubscriptions : undefined
    }
    return this.#subscriptions.answerTo(uri)
  }

  /** Whether the server said that it tells of its task of this id. */
  tellsOf(taskId: string): boolean {
    return this.#line?.open?.honoured?.tasks.has(taskId) ?? false
  }

  /** Resolves when everything that `member` wants was granted, refused or failed once, or with the stop. Never rejects. */
  settled(member: Member, stop: Stop): Promise<void> {
    return this.#waiters.until(() => this.#closed || this.#decided(member), stop)
  }

  get isOpen(): boolean {
    return this.#line?.open !== undefined
  }

  /** Resolves when the server tells, failed once, or with the stop. Never rejects. */
  opened(stop: Stop): Promise<void> {
    return this.#waiters.until(() => this.#closed || this.isOpen || this.#failing, stop)
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
    const open = this.#line?.open
    if (!open || open.honoured || open.session === session) return
    this.#restart('another session')
  }

  /** Starts over at once, as after a credential that changed. */
  refresh(): void {
    this.#attempt = 0
    this.#failing = false
    this.#restart('refreshed')
  }

  /** What all members need together. */
  #wanted(): ChangeFilter {
    return unionOf([...this.#members].map(({ filter }) => filter))
  }

  #decided({ filter }: Member): boolean {
    if (this.#failing) return true
    const open = this.#line?.open
    if (!open) return false
    const lists = !open.honoured || [...filter.lists].every((change) => this.#line?.filter.lists.has(change))
    const tasks = !open.honoured || [...filter.tasks].every((id) => this.#line?.filter.tasks.has(id))
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
    const wanted = this.#wanted()
    const line = this.#line
    if (line?.open && !line.open.honoured) {
      this.#subscriptions.follow(
        () => (this.#closed ? undefined : this.#line?.open?.session),
        () => this.#wanted().uris,
        () => this.#party,
      )
    } else if (this.#opening) {
      // Looked at again when it is open.
    } else if (!line) {
      if (!this.#timer) this.#open(wanted)
    } else if (!sameFilter(line.filter, wanted)) this.#open(wanted)
  }

  #open(filter: ChangeFilter): void {
    const line: Line = { filter, stop: new Stop(), openedAt: 0 }
    this.#opening = line
    const { server } = this
    const party = this.#party
    const current = (): boolean => this.#line === line || this.#retired.has(line)
    this.#deps.upstreams
      .listen({
        server,
        party,
        filter,
        stop: line.stop,
        onOpen: (open) => this.#opened(line, open),
        onNotification: (notification) => {
          if (current()) this.hear(notification)
        },
        onRequest: (question) => (current() ? this.#ask(question) : unsupported()),
      })
      .then(
        (end) => (end === 'ended' ? this.#over(line) : this.#over(line, end.none, end.busy)),
        (error: unknown) => this.#failed(line, error),
      )
  }

  #ask(question: JsonRpcRequest): Promise<Answered> {
    for (const { asked } of this.#members) if (asked) return asked(question, this.server)
    return unsupported()
  }

  #opened(line: Line, open: Listening): void {
    if (this.#closed || line.stop.reason) return
    line.open = open
    line.openedAt = this.#deps.clock.now()
    const former = this.#line
    this.#line = line
    if (this.#opening === line) this.#opening = undefined
    clearTimeout(this.#timer)
    this.#timer = undefined
    if (former && former !== line) this.#retire(former)
    const missed = this.#missed(open)
    this.#lostAt = undefined
    this.#lastSession = open.session
    this.#failing = false
    if (missed) this.#tellAll()
    this.#waiters.wake()
    this.#settleSoon()
  }

  /** What the server said to the former stream before it knew of this one may still be on its way. */
  #retire(former: Line): void {
    this.#retired.add(former)
    const timer = setTimeout(() => {
      this.#retired.delete(former)
      former.stop.stop(new Fault('upstream.unreachable', { detail: 'replaced' }))
    }, retireMs)
    timer.unref()
  }

  #missed(open: Listening): boolean {
    if (this.#lostAt === undefined) return false
    const same = open.session !== undefined && open.session === this.#lastSession
    return !same || this.#deps.clock.now() - this.#lostAt > shortGapMs
  }

  /** What was watched may have changed while nobody told us. */
  #tellAll(): void {
    const { lists, uris } = this.#wanted()
    for (const change of lists) this.hear({ jsonrpc: '2.0', method: changedMethod(change) })
    for (const uri of uris) this.hear({ jsonrpc: '2.0', method: updatedMethod, params: { uri } })
  }

  /** The server ended the stream, or has none (`none`), or another process of ours has it (`busy`). */
  #over(line: Line, none?: Listening, busy = false): void {
    if (this.#closed || line.stop.reason) return
    if (!none) {
      this.#lost(line)
      return
    }
    // What the other process does not tell us is missed until the stream is ours.
    const missing = busy ? (this.#lostAt ?? this.#deps.clock.now()) : undefined
    if (busy) this.#lostAt = undefined
    // Without a stream there is nothing to lose: notices come on the streams of calls, if at all.
    this.#opened(line, none)
    this.#lostAt = missing
    this.#wait((busy ? busyAgainMs : askAgainMs) * (0.75 + this.#deps.random() / 2))
  }

  #failed(line: Line, error: unknown): void {
    if (this.#closed || line.stop.reason) return
    const fault = Fault.from(error)
    const { code, detail } = fault
    this.#deps.log.debug({ server: this.server.id, code, detail }, 'the stream of notices was lost')
    this.#lost(line)
  }

  #lost(line: Line): void {
    if (this.#retired.delete(line)) return
    const { clock, random } = this.#deps
    const lasted = line.openedAt > 0 && clock.now() - line.openedAt > healthyMs
    if (lasted) this.#attempt = 0
    this.#failing = true
    line.stop.stop(new Fault('upstream.unreachable', { detail: 'lost' }))
    if (this.#opening === line) this.#opening = undefined
    if (this.#line === line) this.#line = undefined
    if (!this.#line) this.#lostAt ??= clock.now()
    this.#wait(backoffMs(this.#attempt++, { ...backoff, random }))
    this.#waiters.wake()
  }

  #wait(ms: number): void {
    clearTimeout(this.#timer)
    this.#timer = setTimeout(() => {
      this.#timer = undefined
      if (this.#closed || this.#opening) return
      this.#open(this.#wanted())
    }, ms)
    this.#timer.unref()
  }

  #restart(detail: string): void {
    clearTimeout(this.#timer)
    this.#timer = undefined
    for (const line of [this.#line, this.#opening, ...this.#retired])
      line?.stop.stop(new Fault('upstream.unreachable', { detail }))
    this.#line = undefined
    this.#opening = undefined
    this.#lostAt ??= this.#deps.clock.now()
    this.#settleSoon()
  }

  async #close(): Promise<void> {
    this.#closed = true
    clearTimeout(this.#timer)
    clearInterval(this.#touch)
    for (const line of [this.#line, this.#opening, ...this.#retired])
      line?.stop.stop(new Fault('upstream.unreachable', { detail: 'nobody listens' }))
    this.#waiters.wake()
    await this.#subscriptions.close(this.#party)
  }
}
