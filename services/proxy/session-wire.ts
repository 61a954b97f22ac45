import { randomUUID } from 'node:crypto'
import type { Clock } from '../../shared/clock.ts'
import type { ValkeySettings } from '../../shared/config/valkey-url.ts'
import { Fault } from '../../shared/faults.ts'
import type { Logger } from '../../shared/log.ts'
import { createValkey, type Valkey } from '../../shared/valkey.ts'
import type { PeerNotice } from './mcp/protocol/peers.ts'
import { noticeSchema } from './peers/protocol.ts'
import type { SessionBox } from './session-box.ts'
import type { ValkeyStore } from './session-store.ts'

export interface WireDeps {
  readonly settings: ValkeySettings
  readonly store: Pick<ValkeyStore, 'publish'>
  readonly box: SessionBox
  readonly clock: Clock
  readonly log: Logger
  readonly tenantId: () => string | undefined
  /** Another process ended the session of this uuid. */
  readonly onEnded: (uuid: string) => void
  readonly onNotice: (notice: PeerNotice) => void
}

const purpose = 'mcp-wire/1'
const againMs = 1_000
/** A notice is a method and a URI; what is larger is not worth telling. */
const maxChars = 32_768

/**
 * What processes with one session store tell each other at once, by its PUBLISH: that a session ended, and what servers
 * told one of them that concerns a session that they share. Sealed: the store and who reads it learn nothing. Best effort:
 * an ending stands in the store as well, and a notice that is lost is told as a change by who hears the server next.
 */
export class SessionWire {
  readonly #deps: WireDeps
  readonly #self = randomUUID()
  readonly #client: Valkey
  readonly #end = new AbortController()
  #running: Promise<void> = Promise.resolve()
  #warned = false

  constructor(deps: WireDeps) {
    this.#deps = deps
    this.#client = createValkey(deps.settings, deps.log)
    this.#client.on('message', (_channel: string, text: string) => this.#hear(text))
  }

  /** Subscribes as soon as it can; the client library subscribes again whenever the connection comes back. */
  start(): void {
    this.#running = this.#subscribe()
  }

  ended(uuid: string): void {
    this.#tell({ ended: uuid })
  }

  notice(notice: PeerNotice): void {
    this.#tell({ notice })
  }

  async close(): Promise<void> {
    this.#end.abort()
    this.#client.disconnect()
    await this.#running
  }

  async #subscribe(): Promise<void> {
    const { signal } = this.#end
    const { clock, log } = this.#deps
    while (!signal.aborted) {
      const channel = this.#channel()
      try {
        if (channel !== undefined) {
          if (this.#client.status === 'wait') await this.#client.connect()
          await this.#client.subscribe(channel)
          return
        }
      } catch (error) {
        const { detail } = Fault.from(error)
        if (!this.#warned && error instanceof Error && error.name === 'ReplyError')
          log.warn({ detail }, 'the session store lets us hear of no other gateway (SUBSCRIBE)')
        this.#warned = true
      }
      await clock.sleep(againMs, signal).catch(() => {})
    }
  }

  #channel(): string | undefined {
    const tenant = this.#deps.tenantId()
    return tenant === undefined ? undefined : `aembit_mcp_gateway:tenant:${tenant}:wire`
  }

  #tell(said: object): void {
    const { box, store, log } = this.#deps
    const channel = this.#channel()
    const sealed = box.seal(Buffer.from(JSON.stringify({ from: this.#self, ...said })), purpose)
    if (channel === undefined || sealed === undefined || sealed.length > maxChars) return
    store.publish(channel, sealed).catch((error: unknown) => {
      log.debug({ detail: Fault.from(error).detail }, 'other gateways were not told')
    })
  }

  #hear(text: string): void {
    const plain = this.#deps.box.open(text, purpose, maxChars)
    if (!plain) return
    // Sealed by a process of ours, though perhaps of another release.
    const { from, ended, notice } = JSON.parse(plain.toString('utf8'))
    if (from === this.#self) return
    if (typeof ended === 'string') this.#deps.onEnded(ended)
    const parsed = notice === undefined ? undefined : noticeSchema.safeParse(notice)
    if (parsed?.success) this.#deps.onNotice(parsed.data as PeerNotice)
  }
}
