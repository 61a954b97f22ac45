import type { z } from 'zod'
import { Fault } from '../../../shared/faults.ts'
import { createHttpClient, type HttpClient } from '../../../shared/http-client.ts'
import type { Peer } from '../../../shared/ipc/contract.ts'
import type { Logger } from '../../../shared/log.ts'
import type { PeerNotice, Peers, ResumeRequest, Turn, Waiter } from '../mcp/protocol/peers.ts'
import type { JsonRpcResponse, RequestId } from '../mcp/protocol/types.ts'
import {
  type endingSchema,
  faultSchema,
  lastUseAnswerSchema,
  type levelSchema,
  notificationSchema,
  paths,
  type SharedSessions,
  sessionsSchema,
  turnSchema,
  type watchingSchema,
} from './protocol.ts'

/** Other workers answer from memory; one that does not within this time is stuck, and soon replaced. */
const tellMs = 1_000
/** Without a sign of life for so long, a worker is gone. */
const roundIdleMs = 20_000
const connectionsPerPeer = 256

/** The other workers of this gateway, as the supervisor last named them. */
export class PeerLink implements Peers {
  readonly self: string
  readonly #log: Logger
  readonly #maxEventChars: number
  readonly #clients = new Map<string, { socketPath: string; client: HttpClient }>()

  constructor(deps: { self: string; log: Logger; maxEventChars: number }) {
    this.self = deps.self
    this.#log = deps.log
    this.#maxEventChars = deps.maxEventChars
  }

  get size(): number {
    return this.#clients.size
  }

  /** The workers there are now, this one among them; those that are gone are forgotten. */
  set(peers: readonly Peer[]): void {
    const known = new Map(peers.filter(({ id }) => id !== this.self).map((peer) => [peer.id, peer]))
    for (const [id, { socketPath, client }] of this.#clients) {
      if (known.get(id)?.socketPath === socketPath) continue
      this.#clients.delete(id)
      void client.close()
    }
    for (const [id, { socketPath }] of known) {
      if (this.#clients.has(id)) continue
      const client = createHttpClient({
        base: `unix:${socketPath}`,
        unreachable: 'question.lost',
        rejected: 'question.expired',
        timeoutMs: tellMs,
        connections: connectionsPerPeer,
        maxBodyBytes: 64 << 20,
      })
      this.#clients.set(id, { socketPath, client })
    }
  }

  async resume(holder: string, request: ResumeRequest, waiter: Waiter): Promise<Turn> {
    const client = this.#clients.get(holder)?.client
    if (!client) throw new Fault('question.lost', { detail: `worker ${holder} is gone` })
    const gone = new AbortController()
    const giveUp = (): void => gone.abort()
    waiter.stop.on(giveUp)
    try {
      const stream = client.events({
        method: 'POST',
        path: paths.rounds,
        body: request,
        idleMs: roundIdleMs,
        maxEventChars: this.#maxEventChars,
        signal: gone.signal,
      })
      for await (const { event, data } of stream) {
        const value: unknown = JSON.parse(data)
        if (event === 'notification') await waiter.notify(notificationSchema.parse(value))
        else if (event === 'turn') return turnSchema.parse(value)
        else if (event === 'fault') throw toFault(value)
      }
    } finally {
      waiter.stop.off(giveUp)
    }
    throw waiter.stop.reason ?? new Fault('question.lost', { detail: `worker ${holder} ended` })
  }

  answer(holder: string, owner: string, message: JsonRpcResponse): void {
    const client = this.#clients.get(holder)?.client
    if (client) void this.#tell(holder, client, paths.answers, { owner, message })
  }

  /** Whoever holds the call ends it: a client's id does not say where it runs. */
  cancel(owner: string, requestId: RequestId): void {
    void this.#tellAll(paths.cancellations, { owner, requestId })
  }

  notice(notice: PeerNotice): void {
    void this.#tellAll(paths.notices, notice)
  }

  /** Resolves when every worker that answers knows. */
  ended(ending: z.infer<typeof endingSchema>): Promise<void> {
    return this.#tellAll(paths.endings, ending)
  }

  level(level: z.infer<typeof levelSchema>): Promise<void> {
    return this.#tellAll(paths.levels, level)
  }

  watching(watching: z.infer<typeof watchingSchema>): Promise<void> {
    return this.#tellAll(paths.watching, watching)
  }

  /** The latest use of a session at any other worker, ms since the epoch. */
  async lastUse(uuid: string): Promise<number | undefined> {
    const asked = [...this.#clients].map(([id, { client }]) =>
      client
        .json({ method: 'POST', path: paths.lastUses, body: { uuid } }, lastUseAnswerSchema)
        .then(({ lastUse }) => lastUse ?? undefined)
        .catch((error: unknown) => this.#lost(id, paths.lastUses, error)),
    )
    const uses = (await Promise.all(asked)).filter((use) => use !== undefined)
    return uses.length > 0 ? Math.max(...uses) : undefined
  }

  /** What the others know of sessions; of a worker that does not answer, nothing. */
  async sessions(): Promise<SharedSessions[]> {
    const asked = [...this.#clients].map(([id, { client }]) =>
      client
        .json({ path: paths.sessions, timeoutMs: 5_000 }, sessionsSchema)
        .catch((error: unknown) => this.#lost(id, paths.sessions, error)),
    )
    return (await Promise.all(asked)).filter((found) => found !== undefined)
  }

  async close(): Promise<void> {
    await Promise.all([...this.#clients.values()].map(({ client }) => client.close()))
    this.#clients.clear()
  }

  async #tellAll(path: string, body: object): Promise<void> {
    await Promise.all([...this.#clients].map(([id, { client }]) => this.#tell(id, client, path, body)))
  }

  async #tell(id: string, client: HttpClient, path: string, body: object): Promise<void> {
    await client.send({ method: 'POST', path, body }).catch((error: unknown) => this.#lost(id, path, error))
  }

  #lost(id: string, path: string, error: unknown): undefined {
    // A worker that starts or ends is named for a moment in which its socket does not answer.
    this.#log.debug({ peer: id, path, detail: Fault.from(error).detail }, 'a worker did not answer')
    return undefined
  }
}

function toFault(value: unknown): Fault {
  const { code, detail, data } = faultSchema.parse(value)
  return new Fault(code, { ...(detail === undefined ? {} : { detail }), ...(data ? { data } : {}) })
}
