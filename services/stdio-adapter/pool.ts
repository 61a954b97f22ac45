import { createHash, randomUUID } from 'node:crypto'
import type { Clock } from '../../shared/clock.ts'
import type { StdioServer } from '../../shared/config/stdio-servers.ts'
import type { Logger } from '../../shared/log.ts'
import { backoffMs } from '../../shared/retry.ts'
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
}

/** Ends sooner than this are crashes, and the next start waits. */
const stableMs = 10_000
const backoff = { baseMs: 500, capMs: 60_000, floorMs: 250 }
/** A process that was only asked what it is. */
const probedIdleMs = 60_000
const sweepMs = 5_000

/** The processes of one named server. Each belongs to one session of one person, or to one person without a session. */
export class Pool {
  readonly server: StdioServer
  readonly #options: PoolOptions
  readonly #entries = new Set<Entry>()
  readonly #sweeper: NodeJS.Timeout
  #crashes = 0
  #notBefore = 0
  #closed = false
  started = 0

  constructor(server: StdioServer, options: PoolOptions) {
    this.server = server
    this.#options = options
    this.#sweeper = setInterval(() => this.#sweep(), sweepMs)
    this.#sweeper.unref()
  }

  get size(): number {
    return this.#entries.size
  }

  get busy(): number {
    return [...this.#entries].filter(({ process }) => process.busy).length
  }

  /** Starts in a row that ended at once. */
  get crashes(): number {
    return this.#crashes
  }

  /** A process for `initialize`, and the id that its session gets. Throws Unavailable. */
  open(owner: Owner): { process: ServerProcess; session: string } {
    const key = keyOf(owner)
    const free = [...this.#entries].find(
      (entry) => entry.key === key && !entry.session && !entry.process.busy,
    )
    const entry = free ?? this.#start(owner, key)
    entry.session = randomUUID()
    return { process: entry.process, session: entry.session }
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

  /** The person's process for requests without a session. Throws Unavailable. */
  shared(owner: Owner): ServerProcess {
    const key = keyOf(owner)
    const known = [...this.#entries].find((entry) => entry.key === key && !entry.session)
    return (known ?? this.#start(owner, key)).process
  }

  end(session: string): void {
    for (const entry of this.#entries) if (entry.session === session) void this.#stop(entry)
  }

  async close(): Promise<void> {
    this.#closed = true
    clearInterval(this.#sweeper)
    await Promise.all([...this.#entries].map((entry) => this.#stop(entry)))
  }

  #start(owner: Owner, key: string): Entry {
    const { server } = this
    const { clock, log, hidden, maxMessageBytes } = this.#options
    if (this.#closed) throw new Unavailable('the adapter is stopping')
    if (server.credential && owner.credential === undefined) {
      throw new Unavailable(`${server.name} wants a credential and the request has none`)
    }
    const wait = this.#notBefore - clock.now()
    if (wait > 0) {
      throw new Unavailable(`${server.name} ended ${this.#crashes} times at once; next start in ${wait} ms`)
    }
    if (this.#entries.size >= server.maxProcesses) this.#makeRoom()
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
    const entry: Entry = { process, key }
    this.#entries.add(entry)
    own.info({ child: process.pid }, 'server started')
    void process.exited.then(() => this.#gone(entry, own))
    return entry
  }

  #gone(entry: Entry, log: Logger): void {
    const expected = !this.#entries.delete(entry)
    const { process } = entry
    log[expected ? 'info' : 'warn']({ child: process.pid, reason: process.ending }, 'server ended')
    const { clock, random } = this.#options
    if (expected || clock.now() - process.startedAt >= stableMs) {
      this.#crashes = 0
      return
    }
    // The first accident costs nothing; some servers end when they are asked something that they do not know.
    if (this.#crashes++ > 0) this.#notBefore = clock.now() + backoffMs(this.#crashes, { ...backoff, random })
  }

  #makeRoom(): void {
    const idle = [...this.#entries]
      .filter(({ process }) => !process.busy)
      .sort((a, b) => a.process.lastUsedAt - b.process.lastUsedAt)[0]
    if (!idle)
      throw new Unavailable(`all ${this.server.maxProcesses} processes of ${this.server.name} are busy`)
    void this.#stop(idle)
  }

  /** Finishes what it does, then ends. */
  #retire(entry: Entry): void {
    if (!entry.process.busy) void this.#stop(entry)
  }

  #stop(entry: Entry): Promise<void> {
    this.#entries.delete(entry)
    return entry.process.stop()
  }

  #sweep(): void {
    const now = this.#options.clock.now()
    for (const entry of this.#entries) {
      const idleMs = entry.session
        ? this.server.idleSecs * 1000
        : Math.min(probedIdleMs, this.server.idleSecs * 1000)
      if (!entry.process.busy && now - entry.process.lastUsedAt >= idleMs) void this.#stop(entry)
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
