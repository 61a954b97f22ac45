import type { Clock } from '../../shared/clock.ts'
import type { ValkeySettings } from '../../shared/config/valkey-url.ts'
import { Fault } from '../../shared/faults.ts'
import type { Logger } from '../../shared/log.ts'
import { all, createValkey, type Valkey, withRetry } from '../../shared/valkey.ts'
import type { Measures } from './measures.ts'
import type { SealedSession, SessionRecord, SessionStore } from './session-contents.ts'

export interface ValkeyStoreDeps {
  readonly settings: ValkeySettings
  readonly idleTtlMs: number
  readonly clock: Clock
  readonly log: Logger
  /** The tenant that this gateway serves; undefined before the first policy, when nobody is let in either. */
  readonly tenantId: () => string | undefined
  /** The store answers, or has failed `failuresToTell` times in a row. */
  readonly onState: (fault?: Fault) => void
  readonly measures?: Measures
}

const prefix = 'aembit_mcp_gateway'
const probeEveryMs = 5_000
/** Sooner while it fails: readiness should not flap, nor lag. */
const probeAgainMs = 1_000
const failuresToTell = 3
const cleanupEveryMs = 60_000
/** A use is noted once in so long at most: a busy session costs one read per request, not a write. */
const noteEveryMs = 1_000

/**
 * What gateways share of sessions, in Valkey (or Redis): one hash per session,
 * `aembit_mcp_gateway:tenant:<tid>:user:<uid>:session:<sid>`, with `used` (ms since the epoch), `level`, sealed notes
 * (session-notes.ts) and, after a DELETE, `ended` alone; it expires with the session. Beside them one sorted set of a tenant's sessions by their end, for the
 * count. `uid` is a digest of issuer and subject, `sid` names a session and does not open it.
 */
export class ValkeyStore implements SessionStore {
  readonly #deps: ValkeyStoreDeps
  readonly #client: Valkey
  readonly #end = new AbortController()
  #running: Promise<unknown> = Promise.resolve()
  #failures = 0
  #errors = 0
  #active = 0
  #cleanedAt = 0

  constructor(deps: ValkeyStoreDeps) {
    this.#deps = deps
    this.#client = createValkey(deps.settings, deps.log)
  }

  /** Connects behind the scenes, and keeps looking whether the store answers. */
  start(): void {
    this.#deps.log.info({ store: this.#deps.settings.shown }, 'sessions are shared through the session store')
    this.#running = Promise.all([
      this.#forever(
        () => (this.#failures > 0 ? probeAgainMs : probeEveryMs),
        () => this.#probe(),
      ),
      this.#forever(
        // The first count as soon as it can be: a gateway that was restarted has its sessions.
        () => (this.#cleanedAt === 0 ? probeAgainMs : cleanupEveryMs),
        () => this.#cleanUp(),
      ),
    ])
  }

  async close(): Promise<void> {
    this.#end.abort()
    this.#client.disconnect()
    await this.#running
  }

  stats(): Record<string, string | number> {
    return {
      sessionStore: 'valkey',
      sessionStoreUp: this.#failures === 0 ? 1 : 0,
      sessionStoreErrors: this.#errors,
      sessionsActive: this.#active,
      /** Seconds since the epoch; 0: not yet. */
      sessionCleanupLastRun: Math.floor(this.#cleanedAt / 1000),
    }
  }

  async created(session: SealedSession): Promise<void> {
    await this.#run('save', () => this.#note(session, session.issuedAt))
  }

  async use(
    session: SealedSession,
    now: number,
  ): Promise<{ ended: boolean; lastUse?: number; level?: string }> {
    // Not the whole record: what a session has at servers is read where it is wanted.
    const record = await this.#some(session, ['used', 'level', 'ended'])
    const ended = record.ended !== undefined
    // What is no number was not written by us: as good as nothing.
    const used = /^\d{1,15}$/.test(record.used ?? '') ? Number(record.used) : undefined
    if (
      !ended &&
      now - (used ?? 0) > noteEveryMs &&
      now - (used ?? session.issuedAt) <= this.#deps.idleTtlMs
    ) {
      this.#run('save', () => this.#note(session, now)).catch((error: unknown) => {
        this.#deps.log.debug({ detail: Fault.from(error).detail }, 'a use is not in the session store')
      })
    }
    return {
      ended,
      ...(used === undefined ? {} : { lastUse: used }),
      ...(record.level === undefined ? {} : { level: record.level }),
    }
  }

  /** Every other field goes; the mark stays for as long as the id could live. */
  async end(session: SealedSession): Promise<SessionRecord> {
    const key = this.#key(session)
    const record = await this.fields(session)
    await this.#run('delete', () =>
      all(
        this.#client
          .multi()
          .del(key)
          .hset(key, 'ended', '1')
          .pexpire(key, this.#deps.idleTtlMs)
          .zrem(this.#index(), session.uuid),
      ),
    )
    return record
  }

  async level(session: SealedSession, level: string): Promise<void> {
    const key = this.#key(session)
    await this.#run('save', () =>
      all(this.#client.multi().hset(key, 'level', level).pexpire(key, this.#deps.idleTtlMs)),
    )
  }

  async field(session: SealedSession, name: string): Promise<{ ended: boolean; value?: string }> {
    const { ended, [name]: value } = await this.#some(session, ['ended', name])
    return { ended: ended !== undefined, ...(value === undefined ? {} : { value }) }
  }

  fields(session: SealedSession): Promise<SessionRecord> {
    const key = this.#key(session)
    return this.#run(
      'get',
      () => this.#read(key, () => this.#client.hgetall(key), {}),
      (found) => Object.keys(found).length > 0,
    )
  }

  async setField(session: SealedSession, name: string, value: string): Promise<void> {
    const key = this.#key(session)
    await this.#run('save', () =>
      all(this.#client.multi().hset(key, name, value).pexpire(key, this.#deps.idleTtlMs)),
    )
  }

  async dropField(session: SealedSession, name: string): Promise<void> {
    await this.#run('save', () => this.#client.hdel(this.#key(session), name))
  }

  /** To every process that has this store and listens (session-wire.ts). Lost where the store is down. */
  async publish(channel: string, text: string): Promise<void> {
    await this.#client.publish(channel, text)
  }

  /** Those of the fields that are there. */
  async #some(session: SealedSession, names: readonly string[]): Promise<SessionRecord> {
    const key = this.#key(session)
    const values = await this.#run(
      'get',
      () => this.#read(key, () => this.#client.hmget(key, ...names), []),
      (found) => found.some((value) => value !== null),
    )
    return Object.fromEntries(
      names.flatMap((name, at) => (typeof values[at] === 'string' ? [[name, values[at]]] : [])),
    )
  }

  /** A record of another shape is nobody's session: a miss. */
  async #read<T>(key: string, read: () => Promise<T>, nothing: T): Promise<T> {
    try {
      return await read()
    } catch (error) {
      if (!(error instanceof Error && error.message.startsWith('WRONGTYPE'))) throw error
      await this.#client.del(key)
      return nothing
    }
  }

  #note(session: SealedSession, now: number): Promise<unknown> {
    const key = this.#key(session)
    const { idleTtlMs } = this.#deps
    return all(
      this.#client
        .multi()
        .hset(key, 'used', now)
        .pexpire(key, idleTtlMs)
        .zadd(this.#index(), now + idleTtlMs, session.uuid)
        .pexpire(this.#index(), idleTtlMs),
    )
  }

  #key({ principalKey, uuid }: SealedSession): string {
    return `${prefix}:tenant:${this.#tenant()}:user:${principalKey}:session:${uuid}`
  }

  #index(): string {
    return `${prefix}:tenant:${this.#tenant()}:sessions`
  }

  #tenant(): string {
    const id = this.#deps.tenantId()
    if (id === undefined) throw new Fault('snapshot.none')
    return id
  }

  /** `found`: whether the answer is a record; a miss is no error of the store. */
  async #run<T>(
    name: 'save' | 'get' | 'delete' | 'count',
    operation: () => Promise<T>,
    found: (answer: T) => boolean = () => true,
  ): Promise<T> {
    const began = performance.now()
    const { measures, clock } = this.#deps
    const took = (): number => performance.now() - began
    try {
      const answer = await withRetry(clock, operation)
      if (found(answer)) measures?.stored(name, 'success', 'none', took())
      else measures?.stored(name, 'error', 'not_found', took())
      return answer
    } catch (error) {
      measures?.stored(name, 'error', 'store_error', took())
      this.#errors++
      throw error
    }
  }

  async #probe(): Promise<void> {
    const { onState, settings, log } = this.#deps
    try {
      if (this.#client.status === 'wait') await this.#client.connect()
      await this.#client.ping()
      if (this.#failures >= failuresToTell)
        log.info({ store: settings.shown }, 'the session store answers again')
      this.#failures = 0
      onState()
    } catch (error) {
      const detail = `the session store at ${settings.shown} does not answer (${Fault.from(error).detail})`
      if (++this.#failures !== failuresToTell) return
      log.error({ detail }, 'session store')
      onState(new Fault('session.store', { detail }))
    }
  }

  async #cleanUp(): Promise<void> {
    const now = this.#deps.clock.now()
    if (this.#deps.tenantId() === undefined || this.#client.status !== 'ready') return
    const [, active] = await this.#run('count', () =>
      all(this.#client.multi().zremrangebyscore(this.#index(), '-inf', now).zcard(this.#index())),
    )
    this.#active = Number(active)
    this.#cleanedAt = now
  }

  async #forever(waitMs: () => number, task: () => Promise<void>): Promise<void> {
    const { signal } = this.#end
    while (!signal.aborted) {
      await task().catch((error: unknown) => {
        this.#deps.log.debug({ detail: Fault.from(error).detail }, 'session store')
      })
      await this.#deps.clock.sleep(waitMs(), signal).catch(() => {})
    }
  }
}
