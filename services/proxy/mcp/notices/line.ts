import type { Clock } from '../../../../shared/clock.ts'
import { Fault } from '../../../../shared/faults.ts'
import type { Logger } from '../../../../shared/log.ts'
import { backoffMs } from '../../../../shared/retry.ts'
import type { ServerWorkload } from '../../../../shared/wire/snapshot.ts'
import type { Answered } from '../flight.ts'
import { type ChangeFilter, noChanges, sameFilter } from '../protocol/changes.ts'
import type { JsonRpcNotification, JsonRpcRequest } from '../protocol/types.ts'
import { Stop } from '../stop.ts'
import { unsupported } from '../upstream/answers.ts'
import type { LegacySession } from '../upstream/legacy-session.ts'
import type { Listening } from '../upstream/listening.ts'
import type { Party } from '../upstream/request.ts'
import type { Upstreams } from '../upstream/upstreams.ts'

export interface LineDeps {
  readonly upstreams: Upstreams
  readonly clock: Clock
  readonly log: Logger
  /** 0 ≤ random() < 1, for the waits between attempts. */
  readonly random: () => number
}

/** Who holds a line. */
export interface LineHolder {
  party(): Party
  /** What the server is to tell; asked before each stream. */
  wanted(): ChangeFilter
  heard(notification: JsonRpcNotification): void
  ask(question: JsonRpcRequest): Promise<Answered>
  /** Another stream tells from now on. `missed`: nobody told us before it, and what is wanted may have changed. */
  opened(missed: boolean): void
  /** A stream was lost, or could not be opened; the next try comes by itself. */
  lost(): void
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

interface Stream {
  readonly filter: ChangeFilter
  readonly stop: Stop
  open?: Listening
  openedAt: number
}

/**
 * The one stream at a server, replaced where another filter is wanted before the former one ends. Lost streams are opened
 * again with growing, jittered waits.
 */
export class Line {
  readonly #server: ServerWorkload
  readonly #deps: LineDeps
  readonly #holder: LineHolder
  /** Tells now. */
  #now: Stream | undefined
  /** Is being opened, the first one or one with another filter. */
  #opening: Stream | undefined
  #timer: NodeJS.Timeout | undefined
  /** Was replaced just now. */
  readonly #retired = new Set<Stream>()
  /** Streams in a row that did not last. */
  #attempt = 0
  #failing = false
  /** Since when nobody tells us, ms since the epoch. */
  #lostAt: number | undefined
  #lastSession: LegacySession | undefined
  #closed = false

  constructor(server: ServerWorkload, deps: LineDeps, holder: LineHolder) {
    this.#server = server
    this.#deps = deps
    this.#holder = holder
  }

  /** What the server said to the stream that tells now; undefined while there is none. */
  get open(): Listening | undefined {
    return this.#now?.open
  }

  /** What the server was asked to tell on it. */
  get filter(): ChangeFilter {
    return this.#now?.filter ?? noChanges
  }

  /** The last try to hear the server failed. */
  get failing(): boolean {
    return this.#failing
  }

  /** Opens a stream where there is none and none is waited for, and another one where something else is wanted by now. */
  settle(): void {
    // Looked at again when it is open.
    if (this.#opening) return
    const wanted = this.#holder.wanted()
    if (this.#now ? !sameFilter(this.#now.filter, wanted) : !this.#timer) this.#open(wanted)
  }

  /** All streams are given up; the next `settle` opens one at once. */
  restart(detail: string): void {
    this.#stop(detail)
    this.#now = undefined
    this.#opening = undefined
    this.#lostAt ??= this.#deps.clock.now()
  }

  /** What failed until now counts no longer. */
  forgive(): void {
    this.#attempt = 0
    this.#failing = false
  }

  close(): void {
    this.#closed = true
    this.#stop('nobody listens')
  }

  #open(filter: ChangeFilter): void {
    const stream: Stream = { filter, stop: new Stop(), openedAt: 0 }
    this.#opening = stream
    const { heard, ask } = this.#holder
    const current = (): boolean => this.#now === stream || this.#retired.has(stream)
    this.#deps.upstreams
      .listen({
        server: this.#server,
        party: this.#holder.party(),
        filter,
        stop: stream.stop,
        onOpen: (open) => this.#opened(stream, open),
        onNotification: (notification) => {
          if (current()) heard(notification)
        },
        onRequest: (question) => (current() ? ask(question) : unsupported()),
      })
      .then(
        (end) => (end === 'ended' ? this.#over(stream) : this.#over(stream, end.none, end.busy)),
        (error: unknown) => this.#failed(stream, error),
      )
  }

  #opened(stream: Stream, open: Listening): void {
    if (this.#closed || stream.stop.reason) return
    stream.open = open
    stream.openedAt = this.#deps.clock.now()
    const former = this.#now
    this.#now = stream
    if (this.#opening === stream) this.#opening = undefined
    clearTimeout(this.#timer)
    this.#timer = undefined
    if (former && former !== stream) this.#retire(former)
    const missed = this.#missed(open)
    this.#lostAt = undefined
    this.#lastSession = open.session
    this.#failing = false
    this.#holder.opened(missed)
  }

  /** What the server said to the former stream before it knew of this one may still be on its way. */
  #retire(former: Stream): void {
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

  /** The server ended the stream, or has none (`none`), or another process of ours has it (`busy`). */
  #over(stream: Stream, none?: Listening, busy = false): void {
    if (this.#closed || stream.stop.reason) return
    if (!none) {
      this.#lost(stream)
      return
    }
    // What the other process does not tell us is missed until the stream is ours.
    const missing = busy ? (this.#lostAt ?? this.#deps.clock.now()) : undefined
    if (busy) this.#lostAt = undefined
    // Without a stream there is nothing to lose: notices come on the streams of calls, if at all.
    this.#opened(stream, none)
    this.#lostAt = missing
    this.#wait((busy ? busyAgainMs : askAgainMs) * (0.75 + this.#deps.random() / 2))
  }

  #failed(stream: Stream, error: unknown): void {
    if (this.#closed || stream.stop.reason) return
    const fault = Fault.from(error)
    const { code, detail } = fault
    this.#deps.log.debug({ server: this.#server.id, code, detail }, 'the stream of notices was lost')
    this.#lost(stream)
  }

  #lost(stream: Stream): void {
    if (this.#retired.delete(stream)) return
    const { clock, random } = this.#deps
    const lasted = stream.openedAt > 0 && clock.now() - stream.openedAt > healthyMs
    if (lasted) this.#attempt = 0
    this.#failing = true
    stream.stop.stop(new Fault('upstream.unreachable', { detail: 'lost' }))
    if (this.#opening === stream) this.#opening = undefined
    if (this.#now === stream) this.#now = undefined
    if (!this.#now) this.#lostAt ??= clock.now()
    this.#wait(backoffMs(this.#attempt++, { ...backoff, random }))
    this.#holder.lost()
  }

  #wait(ms: number): void {
    clearTimeout(this.#timer)
    this.#timer = setTimeout(() => {
      this.#timer = undefined
      if (this.#closed || this.#opening) return
      this.#open(this.#holder.wanted())
    }, ms)
    this.#timer.unref()
  }

  #stop(detail: string): void {
    clearTimeout(this.#timer)
    this.#timer = undefined
    for (const stream of [this.#now, this.#opening, ...this.#retired])
      stream?.stop.stop(new Fault('upstream.unreachable', { detail }))
  }
}
