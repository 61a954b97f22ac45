import { z } from 'zod'
import type { Clock } from '../../shared/clock.ts'
import { Fault } from '../../shared/faults.ts'
import { createHttpClient, type HttpClient } from '../../shared/http-client.ts'
import type { Logger } from '../../shared/log.ts'
import { backoffMs } from '../../shared/retry.ts'
import {
  type CredentialAnswer,
  type CredentialRequest,
  credentialAnswerSchema,
  type SealingKeys,
  sealingKeysSchema,
} from '../../shared/wire/credential.ts'

const invalidationSchema = z.object({ issuer: z.string(), subject: z.string(), serverId: z.string() })

export interface SyncLinkDeps {
  readonly socketPath: string
  readonly clock: Clock
  readonly log: Logger
  readonly onKeys: (keys: SealingKeys) => void
  readonly onInvalidation: (issuer: string, subject: string, serverId: string) => void
  /** The stream of invalidations was not there for a while: some may have been missed. */
  readonly onGap: () => void
  /** Undefined: sync answers. A Fault: it does not, and why. */
  readonly onState: (fault?: Fault) => void
}

type Part = 'keys' | 'invalidations'

const keysEveryMs = 5 * 60_000
const backoff = { baseMs: 100, capMs: 5_000, floorMs: 50 }

/** Everything proxy asks of sync, over sync.sock. Keeps trying for keys and invalidations as long as it lives. */
export class SyncLink {
  readonly #deps: SyncLinkDeps
  readonly #client: HttpClient
  readonly #end = new AbortController()
  readonly #running: Promise<unknown>
  /** What of sync works: all of it, or the check fails. */
  readonly #up = { keys: false, invalidations: false }

  constructor(deps: SyncLinkDeps) {
    this.#deps = deps
    this.#client = createHttpClient({
      base: `unix:${deps.socketPath}`,
      unreachable: 'control_plane.unreachable',
      rejected: 'control_plane.rejected',
      timeoutMs: 10_000,
      maxBodyBytes: 1 << 20,
      connections: 32,
    })
    this.#running = Promise.all([
      this.#forever('keys', () => this.#keys()),
      this.#forever('invalidations', () => this.#invalidations()),
    ])
  }

  ask(request: CredentialRequest): Promise<CredentialAnswer> {
    return this.#client.json(
      { method: 'POST', path: '/v1/credentials', body: request },
      credentialAnswerSchema,
    )
  }

  async close(): Promise<void> {
    this.#end.abort()
    await this.#client.close()
    await this.#running
  }

  async #keys(): Promise<void> {
    const keys = await this.#client.json({ path: '/v1/keys', signal: this.#end.signal }, sealingKeysSchema)
    this.#deps.onKeys(keys)
    this.#works('keys')
    await this.#deps.clock.sleep(keysEveryMs, this.#end.signal)
  }

  async #invalidations(): Promise<void> {
    const stream = this.#client.events(
      { path: '/v1/invalidations', idleMs: 10 * 60_000, signal: this.#end.signal },
      () => {
        this.#deps.onGap()
        this.#works('invalidations')
      },
    )
    for await (const event of stream) {
      if (event.event !== 'credential') continue
      const { issuer, subject, serverId } = invalidationSchema.parse(JSON.parse(event.data))
      this.#deps.onInvalidation(issuer, subject, serverId)
    }
  }

  #works(what: Part): void {
    this.#up[what] = true
    if (this.#up.keys && this.#up.invalidations) this.#deps.onState()
  }

  /** Runs `task` again and again; backs off while it fails. */
  async #forever(what: Part, task: () => Promise<void>): Promise<void> {
    const { signal } = this.#end
    let failures = 0
    while (!signal.aborted) {
      try {
        const began = this.#deps.clock.now()
        await task()
        failures = this.#deps.clock.now() - began > 1_000 ? 0 : failures + 1
      } catch (error) {
        if (signal.aborted) return
        const fault = Fault.from(error, 'control_plane.unreachable')
        this.#up[what] = false
        this.#deps.onState(fault)
        if (failures++ === 0)
          this.#deps.log.warn({ code: fault.code, detail: fault.detail }, 'sync does not answer')
      }
      await this.#deps.clock.sleep(backoffMs(failures, backoff), signal).catch(() => {})
    }
  }
}
