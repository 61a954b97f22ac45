import { Fault } from '../../../../shared/faults.ts'
import type { ServerWorkload } from '../../../../shared/wire/snapshot.ts'
import { isObject } from '../protocol/jsonrpc.ts'
import type { JsonRpcError } from '../protocol/types.ts'
import { Stop } from '../stop.ts'
import type { LegacySession } from '../upstream/legacy-session.ts'
import type { Party } from '../upstream/request.ts'
import type { Upstreams } from '../upstream/upstreams.ts'

const requestMs = 10_000
/** A server that could not be asked is asked again after this. */
const againMs = 15_000
/** Answer of a server that takes subscriptions to none of its resources. */
export const noSubscriptions: JsonRpcError = { code: -32601, message: 'The server takes no subscriptions.' }

/** What a server said to the subscription of one resource. */
export type Granted = true | JsonRpcError

/**
 * Subscriptions in the session of a legacy server, one request for each resource however many want it. In another
 * session everything is asked anew.
 */
export class Subscriptions {
  readonly #upstreams: Upstreams
  readonly #server: ServerWorkload
  readonly #answers = new Map<string, Granted>()
  readonly #changed: () => void
  #session: LegacySession | undefined
  #working: Promise<void> | undefined

  /** `changed`: an answer came, or it is time to `follow` again. */
  constructor(upstreams: Upstreams, server: ServerWorkload, changed: () => void) {
    this.#upstreams = upstreams
    this.#server = server
    this.#changed = changed
  }

  answerTo(uri: string): Granted | undefined {
    return this.#answers.get(uri)
  }

  /** Makes what is subscribed in `current` session what is `wanted`; both are asked again after each request. */
  follow(
    current: () => LegacySession | undefined,
    wanted: () => ReadonlySet<string>,
    party: () => Party,
  ): void {
    this.#working ??= this.#work(current, wanted, party).finally(() => {
      this.#working = undefined
    })
  }

  /** Gives everything back, unless the session is not the one any more that it was subscribed in. */
  async close(party: Party): Promise<void> {
    await this.#working
    const session = this.#session
    if (!session || this.#upstreams.session(this.#server, party) !== session) return
    const held = [...this.#answers].flatMap(([uri, answer]) => (answer === true ? [uri] : []))
    this.#answers.clear()
    await Promise.all(held.map((uri) => this.#request('resources/unsubscribe', uri, session, party)))
  }

  async #work(
    current: () => LegacySession | undefined,
    wanted: () => ReadonlySet<string>,
    party: () => Party,
  ): Promise<void> {
    for (;;) {
      const session = current()
      if (!session) return
      if (this.#session !== session) {
        this.#answers.clear()
        this.#session = session
      }
      const uris = wanted()
      const missing = [...uris].find((uri) => !this.#answers.has(uri))
      const surplus = [...this.#answers.keys()].find((uri) => !uris.has(uri))
      if (missing !== undefined) {
        const answer = await this.#request('resources/subscribe', missing, session, party())
        if (this.#session === session) this.#answers.set(missing, answer)
        this.#changed()
      } else if (surplus !== undefined) {
        const held = this.#answers.get(surplus) === true
        this.#answers.delete(surplus)
        if (held) await this.#request('resources/unsubscribe', surplus, session, party())
      } else return
    }
  }

  /** Never rejects: a server that can not be asked is an answer too. */
  async #request(
    method: 'resources/subscribe' | 'resources/unsubscribe',
    uri: string,
    { capabilities }: LegacySession,
    party: Party,
  ): Promise<Granted> {
    const { resources } = capabilities
    if (!isObject(resources) || resources.subscribe !== true) return noSubscriptions
    const stop = new Stop().limit(requestMs, method)
    try {
      const request = { server: this.#server, party, method, params: { uri }, stop }
      const { response } = await this.#upstreams.request(request)
      return response.error ?? true
    } catch (error) {
      const { spec, message } = Fault.from(error, 'upstream.unreachable')
      const again = setTimeout(() => {
        if (this.#answers.get(uri) !== true) this.#answers.delete(uri)
        this.#changed()
      }, againMs)
      again.unref()
      return { code: spec.rpc ?? -32603, message }
    } finally {
      stop.end()
    }
  }
}
