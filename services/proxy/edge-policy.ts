import type { Clock } from '../../shared/clock.ts'
import { Fault } from '../../shared/faults.ts'
import { type GeoIp, openGeoIp } from '../../shared/geoip.ts'
import type { ChildContext } from '../../shared/ipc/child.ts'
import type { SnapshotRef } from '../../shared/ipc/contract.ts'
import { countedFetch, createJwksFetch, type Fetch } from './auth/issuers.ts'
import { TokenVerifier } from './auth/verifier.ts'
import type { Objection } from './mcp/protocol/types.ts'
import type { Measures } from './measures.ts'
import { objections } from './objections.ts'
import { SnapshotHolder } from './snapshot.ts'
import { CallStanding } from './standing.ts'

export interface EdgePolicyDeps {
  readonly context: Pick<ChildContext<'proxy'>, 'config' | 'log' | 'check' | 'tenant'>
  readonly clock: Clock
  readonly measures: Measures
  /** Fetches key documents of trusted issuers; the guarded one where absent. */
  readonly fetch: Fetch | undefined
  /** Another policy is in force. */
  readonly recheck: (objections: Objection) => void
}

/** What a worker decides by: the policy snapshot, whose tokens are taken, where clients are. */
export class EdgePolicy {
  readonly snapshots: SnapshotHolder
  readonly verifier: TokenVerifier
  readonly standing: CallStanding
  readonly #context: EdgePolicyDeps['context']
  readonly #jwks: { fetch: Fetch; close(): Promise<void> }
  #geoip: GeoIp | undefined

  constructor({ context, clock, measures, fetch, recheck }: EdgePolicyDeps) {
    const { config, log } = context
    this.#context = context
    this.#jwks = fetch ? { fetch, close: async () => {} } : createJwksFetch()
    this.verifier = new TokenVerifier({
      clock,
      trustedIssuerDomains: config.trustedIssuerDomains,
      fetch: countedFetch(this.#jwks.fetch, (outcome) => measures.jwksRefreshes.inc(outcome)),
    })
    this.snapshots = new SnapshotHolder({
      maxAgeMs: config.snapshotMaxAgeMs,
      clock,
      log,
      onSwap: (index) => {
        context.tenant(index.snapshot.tenantId)
        this.verifier.swap(index)
        recheck(objections(index, this.verifier, clock))
        this.standing.look()
      },
    })
    this.standing = new CallStanding({ clock, verifier: this.verifier, snapshots: this.snapshots })
  }

  get locate(): GeoIp['locate'] | undefined {
    return this.#geoip?.locate
  }

  /** The supervisor relays that sync has a snapshot. A bad one is told and the old one kept. */
  async snapshot(ref: SnapshotRef, confirmedAt: number): Promise<void> {
    try {
      await this.snapshots.load(ref, confirmedAt)
      this.#context.check('proxy.snapshot', 'running')
    } catch (error) {
      const fault = Fault.from(error, 'config.invalid')
      this.#context.log.error({ code: fault.code, detail: fault.detail }, 'snapshot refused')
      if (!this.snapshots.latest) this.#context.check('proxy.snapshot', 'failing', fault)
    }
  }

  /** Without it conditions on place do not hold; everything else goes on. */
  async openGeoIp(): Promise<void> {
    const { config, check, log } = this.#context
    if (!config.geoipDatabasePath) return
    try {
      this.#geoip = await openGeoIp(config.geoipDatabasePath, log)
      check('proxy.geoip', 'running')
    } catch (error) {
      const fault = Fault.from(error, 'config.invalid')
      log.error({ code: fault.code, detail: fault.detail }, 'no conditions on place hold')
      check('proxy.geoip', 'failing', fault)
    }
  }

  async close(): Promise<void> {
    await this.#jwks.close()
    this.standing.close()
    this.#geoip?.close()
  }
}
