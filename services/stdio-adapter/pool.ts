import { createHash, randomUUID } from 'node:crypto'
import type { Clock } from '../../shared/clock.ts'
import type { StdioServer } from '../../shared/config/stdio-servers.ts'
import type { Logger } from '../../shared/log.ts'
import { Crashes } from './crashes.ts'
import { launchOf } from './launch.ts'
import { ServerProcess } from './server-process.ts'

/** For whom a process runs: a person, with the credential they have now. */
export interface Owner {
  /** Names the person without saying who it is. */
  readonly party: string
  readonly credential: string | undefined
}

/** No process can be given now; `why` is for logs. */
export class Unavailable extends Error {}

interface Entry {
  readonly process: ServerProcess
  /** Absent: not initialized, for requests that belong to no session. */
  session?: string
  readonly key: string
  readonly party: string
}

/** A process that was only asked what it is. */
const probedIdleMs = 60_000
const sweepMs = 5_000
/** Longest that a start waits for room where none is about to be, and how often it looks. */
const roomMs = 5_000
const roomEveryMs = 50
/** Used a moment ago, its session is in the middle of something. */
const settledMs = 1_000

/** The processes of one named server. Each belongs to one session of one person, or to one person without a session. */
export class Pool {
  readonly server: StdioServer
  readonly #options: PoolOptions
  readonly #entries = new Set<Entry>()
  /** Told to end and still there: they count until they are gone. */
  readonly #ending = new Set<Promise<void>>()
  /** Starts that wait for room. */
  #waiting = 0
  readonly #sweeper: NodeJS.Timeout
  readonly #crashes: Crashes
  #closed = false
  started = 0

  constructor(server: StdioServer, options: PoolOptions) {
    this.server = server
    this.#options = options
    this.#crashes = new Crashes(options.clock, options.random)
    this.#sweeper = setInterval(() => this.#sweep(), sweepMs)
    this.#sweeper.unref()
  }

  /** Processes that are there. */
  get size(): number {
    return this.#entries.size + this.#ending.size
  }

  get busy(): number {
    return [...this.#entries].filter(({ process }) => process.busy).length
  }

  /** Starts in a row that ended at once. */
  get crashes(): number {
    return this.#crashes.total
  }

  /** A process for `initialize`, and the id that its session gets. Rejects with Unavailable, or what `use` rejects with. */
  open<T>(
    owner: Owner,
    gone: AbortSignal,
    use: (process: ServerProcess, session: string) => Promise<T>,
  ): Promise<T> {
    const key = keyOf(owner)
    const free = (): Entry | undefined =>
      [...this.#entries].find((entry) => entry.key === key && !entry.session && !entry.process.busy)
    return this.#with(owner, key, gone, free, (entry) => {
      entry.session = randomUUID()
      return use(entry.process, entry.session)
    })
  }

  /** The process of a session, if it lives and its owner's credential is still the one it was started with. */
  find(owner: Owner, session: string): ServerProcess | undefined {
    const key = keyOf(owner)
    const entry = [...this.#entries].find((candidate) => candidate.session === session)
    if (!entry || entry.process.ending !== undefined) return undefined
    if (entry.key === key) return entry.process
    this.#retire(entry)
    return undefined
  }

  /** The person's process for requests without a session. Rejects with Unavailable, or what `use` rejects with. */
  shared<T>(owner: Owner, gone: AbortSignal, use: (process: ServerProcess) => Promise<T>): Promise<T> {
    const key = keyOf(owner)
    const known = (): Entry | undefined =>
      [...this.#entries].find((entry) => entry.key === key && !entry.session)
    return this.#with(owner, key, gone, known, ({ process }) => use(process))
  }

  end(session: string): void {
    for (const entry of this.#entries) if (entry.session === session) this.#stop(entry)
  }

  async close(): Promise<void> {
    this.#closed = true
    clearInterval(this.#sweeper)
    for (const entry of this.#entries) this.#stop(entry)
    while (this.#ending.size > 0) await Promise.all(this.#ending)
  }

  /** Uses one that fits, or a new one as soon as there is room for it; in the same turn, so that nobody else takes it. */
  async #with<T>(
    owner: Owner,
    key: string,
    gone: AbortSignal,
    fitting: () => Entry | undefined,
    use: (entry: Entry) => Promise<T>,
  ): Promise<T> {
    const { clock } = this.#options
    const deadline = clock.now() + roomMs
    for (;;) {
      const known = fitting()
      if (known) return use(known)
      this.#mayStart(owner, key)
      if (this.size < this.server.maxProcesses) return use(this.#start(owner, key))
      if (clock.now() >= deadline && this.#ending.size === 0) {
        throw new Unavailable(`all ${this.server.maxProcesses} processes of ${this.server.name} are busy`)
      }
      // Each that waits needs one that ends.
      if (this.#ending.size <= this.#waiting) this.#makeRoom()
      this.#waiting++
      await clock.sleep(roomEveryMs)
      this.#waiting--
      if (gone.aborted) throw new Unavailable('the request was given up')
    }
  }

  #mayStart(owner: Owner, key: string): void {
    const { name, credential } = this.server
    if (this.#closed) throw new Unavailable('the adapter is stopping')
    if (credential && owner.credential === undefined) {
      throw new Unavailable(`${name} wants a credential and the request has none`)
    }
    const wait = this.#crashes.wait(key)
    if (wait) {
      throw new Unavailable(`${name} ended ${wait.count} times at once; next start in ${wait.ms} ms`)
    }
  }

  #start(owner: Owner, key: string): Entry {
    const { server } = this
    const { clock, log, hidden, maxMessageBytes } = this.#options
    const { argv, env } = launchOf(server, owner.credential, hidden)
    const secrets = [
      ...Object.values(server.env),
      ...(owner.credential === undefined ? [] : [owner.credential]),
    ]
    const own = log.child({ server: server.name })
    const process = new ServerProcess({
      argv,
      env,
      cwd: server.cwd,
      secrets,
      maxMessageBytes,
      clock,
      log: own,
    })
    this.started++
    const entry: Entry = { process, key, party: owner.party }
    this.#entries.add(entry)
    own.info({ child: process.pid }, 'server started')
    void process.exited.then(() => this.#gone(entry, own))
    return entry
  }

  #gone({ process, key }: Entry, log: Logger): void {
    const entry = [...this.#entries].find((candidate) => candidate.process === process)
    if (entry) this.#entries.delete(entry)
    log[entry ? 'warn' : 'info']({ child: process.pid, reason: process.ending }, 'server ended')
    this.#crashes.ended(key, process.startedAt, entry === undefined)
  }

  /** Of the person who has the most processes, the one that was idle for longest: nobody pushes out everybody else. */
  #makeRoom(): void {
    const held = Map.groupBy(this.#entries, ({ party }) => party)
    const settled = this.#options.clock.now() - settledMs
    const idle = [...this.#entries]
      .filter(({ process }) => !process.busy && process.lastUsedAt <= settled)
      .sort(
        (a, b) =>
          held.get(b.party)!.length - held.get(a.party)!.length ||
          a.process.lastUsedAt - b.process.lastUsedAt,
      )[0]
    if (idle) this.#rest(idle)
  }

  /** Finishes what it does, then ends. */
  #retire(entry: Entry): void {
    if (!entry.process.busy) this.#stop(entry)
  }

  /** Ends it until its session is needed again: who listens to it misses nothing meanwhile, and is not told. */
  #rest(entry: Entry): void {
    entry.process.resting = true
    this.#stop(entry)
  }

  #stop(entry: Entry): void {
    this.#entries.delete(entry)
    const ended = entry.process.stop().finally(() => this.#ending.delete(ended))
    this.#ending.add(ended)
  }

  #sweep(): void {
    const now = this.#options.clock.now()
    for (const entry of this.#entries) {
      const idleMs = entry.session
        ? this.server.idleSecs * 1000
        : Math.min(probedIdleMs, this.server.idleSecs * 1000)
      if (!entry.process.busy && now - entry.process.lastUsedAt >= idleMs) this.#rest(entry)
    }
  }
}

export interface PoolOptions {
  readonly clock: Clock
  readonly random: () => number
  readonly log: Logger
  /** Files and folders that a server in namespaces does not see. */
  readonly hidden: readonly string[]
  readonly maxMessageBytes: number
}

/** A new credential is a new process: an environment can not be changed from outside. */
const keyOf = ({ party, credential = '' }: Owner): string =>
  createHash('sha256').update(`${party}\n${credential}`).digest('base64url')
