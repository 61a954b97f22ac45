import type { Clock } from '../../shared/clock.ts'
import { Fault } from '../../shared/faults.ts'
import type { SnapshotRef } from '../../shared/ipc/contract.ts'
import type { Logger } from '../../shared/log.ts'
import type { ControlPlane } from './control-plane.ts'
import type { LastGood, Pins } from './last-good.ts'
import { sameAuthority, type VerifiedSnapshot, verifySnapshot } from './verify.ts'

export interface SnapshotsDeps {
  readonly lastGood: LastGood
  readonly clock: Clock
  readonly log: Logger
  readonly publish: (ref: SnapshotRef, confirmedAt: number) => void
  readonly confirmed: (version: number, confirmedAt: number) => void
  /** Milliseconds that the control plane's clock is ahead of ours. */
  readonly skewMs: () => number
}

interface Current {
  readonly version: number
  /** As the control plane wrote it; null where the next fetch must bring the bytes. */
  readonly etag: string | null
  readonly jws: string
}

const tellEveryMs = 3_000
const persistEveryMs = 15_000
/** A heartbeat older than this waited somewhere on the way and confirms nothing. */
const lateHeartbeatMs = 60_000

/**
 * The policy this gateway works on: verified, never older than one it already had, kept on disk for the time when
 * the control plane is away. `confirmedAt` moves when the control plane says that our version is current, and only
 * then: it is what the age limit counts from.
 */
export class Snapshots {
  readonly #deps: SnapshotsDeps
  #pins: Pins | null = null
  #current: Current | null = null
  #confirmedAt = 0
  #toldAt = 0
  #persistedAt = 0
  #refused: Fault | null = null
  #turn: Promise<unknown> = Promise.resolve()

  constructor(deps: SnapshotsDeps) {
    this.#deps = deps
  }

  get version(): number {
    return this.#current?.version ?? 0
  }

  get confirmedAt(): number {
    return this.#confirmedAt
  }

  /** Why the newest offer was refused, while that is so. */
  get refused(): Fault | null {
    return this.#refused
  }

  /** Publishes what an earlier life left, if it verifies under the pins of then. */
  async restore(): Promise<void> {
    const { lastGood, log, publish } = this.#deps
    this.#pins = await lastGood.pins()
    const stored = await lastGood.snapshot()
    if (!stored || !this.#pins) return
    try {
      const { snapshot, payload } = await verifySnapshot(stored.jws, this.#pins)
      const ref = await lastGood.publish(payload, snapshot.version)
      this.#current = { version: snapshot.version, etag: stored.meta.etag, jws: stored.jws }
      // A clock that was set back must not make the past look fresher than now.
      this.#confirmedAt = Math.min(stored.meta.confirmedAt, this.#deps.clock.now())
      publish(ref, this.#confirmedAt)
      log.info(
        { version: snapshot.version, confirmedAt: iso(this.#confirmedAt) },
        'last-good policy restored',
      )
    } catch (error) {
      const fault = Fault.from(error)
      log.error({ code: fault.code, detail: fault.detail }, 'the last-good policy on disk is not usable')
    }
  }

  /** New keys and tenant from an enrolment. */
  pin(pins: Pins): Promise<void> {
    return this.#inTurn(async () => {
      const former = this.#pins
      if (JSON.stringify(former) === JSON.stringify(pins)) return
      const continued = former === null || (await sameAuthority(former, pins))
      await this.#deps.lastGood.writePins(pins)
      this.#pins = pins
      if (this.#current === null) return
      if (!continued) {
        this.#deps.log.warn(
          { tenantId: pins.tenantId },
          'the control plane is a new one; its policy replaces the old',
        )
      }
      // Whatever we hold was signed for the former pins: have it sent again.
      this.#current = { ...this.#current, etag: null, version: continued ? this.#current.version : 0 }
    })
  }

  /** Asks for the current snapshot. Throws where the control plane can not be reached; a bad answer is only told. */
  async refresh(plane: ControlPlane, signal: AbortSignal): Promise<void> {
    const askedAt = this.#deps.clock.now()
    const asked = this.#current?.etag ?? null
    // Not in turn: it may wait for an enrolment, whose keys are pinned in turn.
    const answer = await plane.snapshot(asked, signal)
    await this.#inTurn(async () => {
      if (answer.status === 304) {
        // Other pins came meanwhile: what we hold has to be sent again.
        if (asked !== null && this.#current?.etag === asked) await this.#confirm(askedAt)
        return
      }
      const etag = typeof answer.headers.etag === 'string' ? answer.headers.etag : null
      await this.#take(answer.body.toString('utf8'), etag, askedAt)
    })
  }

  /** The control plane says that `version` is current. False where that is not ours, so a refresh is due. */
  async heartbeat(version: number, time: string): Promise<boolean> {
    if (this.#current?.version !== version) return false
    const now = this.#deps.clock.now()
    const sentAt = Date.parse(time) - this.#deps.skewMs()
    if (now - sentAt > lateHeartbeatMs) return false
    await this.#inTurn(() => this.#confirm(now))
    return true
  }

  /** Whether the stream's announcement names what we hold. */
  holds(etag: string): boolean {
    return this.#current?.etag !== null && bare(this.#current?.etag ?? '') === bare(etag)
  }

  async #take(jws: string, etag: string | null, askedAt: number): Promise<void> {
    const { lastGood, log, publish } = this.#deps
    const current = this.#current
    if (current?.jws === jws) {
      this.#current = { ...current, etag }
      return this.#confirm(askedAt)
    }
    let verified: VerifiedSnapshot
    try {
      if (this.#pins === null) throw new Fault('snapshot.refused', { detail: 'no keys are pinned yet' })
      verified = await verifySnapshot(jws, this.#pins)
      const { version } = verified.snapshot
      if (current && version < current.version) {
        throw new Fault('snapshot.refused', {
          detail: `version ${version} is older than ${current.version}, which this gateway already had`,
        })
      }
    } catch (error) {
      const fault = Fault.from(error)
      this.#refused = fault
      log.error({ code: fault.code, detail: fault.detail, kept: current?.version ?? null }, 'policy refused')
      return
    }
    const { snapshot, payload } = verified
    const ref = await lastGood.publish(payload, snapshot.version)
    await lastGood.writeSnapshot(jws, { etag, confirmedAt: askedAt })
    this.#current = { version: snapshot.version, etag, jws }
    this.#confirmedAt = askedAt
    this.#toldAt = askedAt
    this.#persistedAt = askedAt
    this.#refused = null
    publish(ref, askedAt)
    log.info({ version: snapshot.version, servers: snapshot.servers.length }, 'policy in force')
  }

  async #confirm(at: number): Promise<void> {
    const current = this.#current
    if (!current) return
    this.#refused = null
    this.#confirmedAt = Math.max(this.#confirmedAt, at)
    if (at - this.#toldAt >= tellEveryMs) {
      this.#toldAt = at
      this.#deps.confirmed(current.version, this.#confirmedAt)
    }
    if (at - this.#persistedAt >= persistEveryMs) {
      this.#persistedAt = at
      await this.#deps.lastGood.writeMeta({ etag: current.etag, confirmedAt: this.#confirmedAt })
    }
  }

  /** One change at a time. */
  #inTurn<T>(work: () => Promise<T>): Promise<T> {
    const turn = this.#turn.then(work)
    this.#turn = turn.catch(() => {})
    return turn
  }
}

const iso = (ms: number): string => new Date(ms).toISOString()
const bare = (etag: string): string => etag.replace(/^W\//, '').replace(/^"(.*)"$/, '$1')
