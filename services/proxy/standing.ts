import type { Clock } from '../../shared/clock.ts'
import { Fault } from '../../shared/faults.ts'
import { type Circumstances, decideGateway, type PolicyIndex } from '../../shared/policy.ts'
import { requireAddress, requireScopes } from './admission.ts'
import type { TokenVerifier } from './auth/verifier.ts'
import type { Exchange } from './exchange.ts'
import type { Follower, McpCall, Standing } from './mcp/protocol/types.ts'
import type { SnapshotHolder } from './snapshot.ts'

export interface StandingDeps {
  readonly clock: Clock
  readonly verifier: TokenVerifier
  readonly snapshots: SnapshotHolder
}

/** Policy may depend on the time, and a snapshot grows stale without anybody saying so. */
const tickMs = 10_000
/** Timers of Node end at 2^31 ms. */
const longestSleepMs = 60 * 60_000

interface Followed {
  readonly call: Exchange
  readonly on: Follower
  readonly trust: string
  readonly expiry: AbortController
}

/**
 * Whether who made a call may still have it: what the steps of the pipeline asked once, asked again while the call
 * lasts. It ends with the token's time, a revocation, a policy that lets the caller in no more, and a policy too old.
 */
export class CallStanding implements Standing {
  readonly #deps: StandingDeps
  readonly #followed = new Set<Followed>()
  readonly #timer: NodeJS.Timeout

  constructor(deps: StandingDeps) {
    this.#deps = deps
    this.#timer = setInterval(() => this.look(), tickMs)
    this.#timer.unref()
  }

  follow(call: McpCall, on: Follower): () => void {
    const exchange = call as Exchange
    const followed: Followed = {
      call: exchange,
      on,
      trust: exchange.verified.trust,
      expiry: new AbortController(),
    }
    this.#followed.add(followed)
    this.#expire(followed, exchange.verified.expiresAt).catch(() => {})
    return () => this.#forget(followed)
  }

  /** Asks for everyone; a new snapshot is in force, or time has passed. */
  look(): void {
    for (const followed of [...this.#followed]) {
      try {
        const circumstances = { ...followed.call.circumstances, now: this.#deps.clock.now() }
        followed.on.changed(this.#admitted(followed, circumstances), circumstances)
      } catch (error) {
        this.#end(followed, Fault.from(error))
      }
    }
  }

  close(): void {
    clearInterval(this.#timer)
    for (const followed of [...this.#followed]) this.#forget(followed)
  }

  /** The policy that counts now. Throws where the caller would be refused today. */
  #admitted({ call, trust }: Followed, circumstances: Circumstances): PolicyIndex {
    const { snapshots, verifier } = this.#deps
    const index = snapshots.require()
    // Other issuers, keys or audiences: the token would have to be verified again, which only a request can.
    if (verifier.trust !== trust) throw new Fault('listen.ended', { detail: 'trust in issuers changed' })
    verifier.recheck(call.verified)
    requireScopes(index, call.principal)
    requireAddress(index, call.principal, call.client.address)
    const decision = decideGateway(index, call.principal, circumstances)
    if (!decision.allow) throw new Fault('policy.gateway_denied', { detail: decision.explanation })
    return index
  }

  async #expire(followed: Followed, at: number): Promise<void> {
    const { clock } = this.#deps
    for (let left = at - clock.now(); left > 0; left = at - clock.now()) {
      await clock.sleep(Math.min(left, longestSleepMs), followed.expiry.signal)
    }
    this.#end(followed, new Fault('token.expired'))
  }

  #end(followed: Followed, fault: Fault): void {
    if (!this.#followed.has(followed)) return
    this.#forget(followed)
    followed.on.ended(fault)
  }

  #forget(followed: Followed): void {
    this.#followed.delete(followed)
    followed.expiry.abort()
  }
}
