import { readFile } from 'node:fs/promises'
import type { Clock } from '../../shared/clock.ts'
import { Fault } from '../../shared/faults.ts'
import type { HttpClient } from '../../shared/http-client.ts'
import type { Logger } from '../../shared/log.ts'
import { backoffMs } from '../../shared/retry.ts'
import {
  type GatewayEnrolment,
  type GatewayEnrolRequest,
  gatewayEnrolmentSchema,
} from '../../shared/wire/enrolment.ts'

export interface EnrolmentDeps {
  /** The agent controller. */
  readonly controller: HttpClient
  readonly request: Omit<GatewayEnrolRequest, 'gatewayId'>
  /** From an earlier life of this gateway. */
  readonly gatewayId: string | null
  /** File with what the controller asks for; read at each try, so that it may be replaced. */
  readonly secretPath: string | null
  readonly clock: Clock
  readonly random: () => number
  readonly log: Logger
  /** Awaited before the token counts: pins must be in force before anything is fetched with it. */
  readonly onEnrolled: (enrolment: GatewayEnrolment) => Promise<void>
  /** Null: enrolled. */
  readonly onState: (fault: Fault | null) => void
}

interface Held {
  readonly accessToken: string
  /** By our clock. */
  readonly expiresAt: number
  readonly renewAt: number
}

const backoff = { baseMs: 500, capMs: 30_000, floorMs: 100 }
/** Between two enrolments that worked: a control plane that refuses each new token must not become a storm. */
const leastPauseMs = 2_000
const longestSleepMs = 60_000
/** How long a caller waits for a token while the first try, or the one after a refusal, still runs. */
const waitMs = 5_000

/** Enrols at the control plane through the agent controller and renews at two thirds of the token's life. */
export class Enrolment {
  readonly #deps: EnrolmentDeps
  #gatewayId: string | null
  #held: Held | null = null
  #fault: Fault | null = null
  #sleeping = false
  #renewNow = new AbortController()
  #changed = Promise.withResolvers<void>()
  /** Milliseconds that the control plane's clock is ahead of ours. */
  skewMs = 0

  constructor(deps: EnrolmentDeps) {
    this.#deps = deps
    this.#gatewayId = deps.gatewayId
  }

  /** By our clock, ms; 0 without a token. */
  get expiresAt(): number {
    return this.#held?.expiresAt ?? 0
  }

  /** The bearer for /gateway/v1. Throws `control_plane.unreachable` when there is none and none is near. */
  async token(signal?: AbortSignal): Promise<string> {
    const live = this.#live()
    if (live) return live
    // The clock went on without our timer (a suspend, a step): whoever needs a token does not wait for it.
    if (this.#sleeping && !this.#fault) this.#renewNow.abort()
    if (this.#fault) throw unavailable(this.#fault)
    return this.#next(null, signal)
  }

  /** The control plane refused `token`: enrols again at once, and resolves with the next one. */
  async replace(token: string, signal?: AbortSignal): Promise<string> {
    const live = this.#live()
    if (live !== null && live !== token) return live
    this.#renewNow.abort()
    return this.#next(token, signal)
  }

  /** Until `signal` aborts; never gives up, never throws. */
  async run(signal: AbortSignal): Promise<void> {
    const { clock, log, random, onState } = this.#deps
    for (let failures = 0; !signal.aborted; ) {
      let pauseMs: number
      this.#renewNow = new AbortController()
      const asked = this.#renewNow
      try {
        await this.#enrol(signal)
        this.#fault = null
        onState(null)
        failures = 0
        pauseMs = Math.max(leastPauseMs, (this.#held?.renewAt ?? 0) - clock.now())
      } catch (error) {
        if (signal.aborted) return
        const fault = Fault.from(error, 'controller.unreachable')
        this.#fault = fault
        pauseMs = backoffMs(failures++, { ...backoff, random })
        log.warn({ code: fault.code, detail: fault.detail, waitMs: pauseMs }, 'enrolment failed')
        // A token that still lives works on: failing is only who has none.
        if (!this.#live()) onState(fault)
      }
      this.#signalChange()
      const enrolledAt = clock.now()
      await this.#pause(pauseMs, AbortSignal.any([signal, asked.signal]))
      const since = clock.now() - enrolledAt
      if (since < leastPauseMs && since < pauseMs) {
        await clock.sleep(Math.min(leastPauseMs, pauseMs) - since, signal).catch(() => {})
      }
    }
  }

  async #enrol(signal: AbortSignal): Promise<void> {
    const { controller, request, secretPath, clock, onEnrolled, log } = this.#deps
    const headers: Record<string, string> =
      secretPath === null ? {} : { 'x-aembit-enrolment-secret': await readSecret(secretPath) }
    const body = { ...request, ...(this.#gatewayId === null ? {} : { gatewayId: this.#gatewayId }) }
    const answer = await controller.json(
      { method: 'POST', path: '/v1/gateways/enrol', headers, body, signal },
      gatewayEnrolmentSchema,
    )
    const now = clock.now()
    // Life and end are measured on the control plane's clock and counted on ours, so that skew does no harm.
    const lifeMs = Date.parse(answer.expiresAt) - Date.parse(answer.time)
    if (!(lifeMs > 0)) {
      throw new Fault('controller.rejected', { detail: 'the enrolment had expired when it was made' })
    }
    this.skewMs = Date.parse(answer.time) - now
    if (Math.abs(this.skewMs) > 60_000) {
      log.warn({ skewMs: this.skewMs }, "this machine's clock is off the control plane's")
    }
    await onEnrolled(answer)
    this.#gatewayId = answer.gatewayId
    this.#held = { accessToken: answer.accessToken, expiresAt: now + lifeMs, renewAt: now + (lifeMs * 2) / 3 }
    log.info(
      { gatewayId: answer.gatewayId, tenantId: answer.tenantId, expiresAt: answer.expiresAt },
      'enrolled',
    )
  }

  /** In short sleeps: a timer does not count a suspend, and a clock that is set back must not make this longer. */
  async #pause(ms: number, signal: AbortSignal): Promise<void> {
    const { clock } = this.#deps
    const end = clock.now() + ms
    this.#sleeping = true
    for (let left = ms; left > 0 && !signal.aborted; ) {
      const slice = Math.min(left, longestSleepMs)
      await clock.sleep(slice, signal).catch(() => {})
      left = Math.min(left - slice, end - clock.now())
    }
    this.#sleeping = false
  }

  #live(): string | null {
    return this.#held && this.#held.expiresAt > this.#deps.clock.now() ? this.#held.accessToken : null
  }

  /** The first live token other than `old`, or the reason that the tries give. */
  async #next(old: string | null, signal?: AbortSignal): Promise<string> {
    const end = AbortSignal.any([AbortSignal.timeout(waitMs), ...(signal ? [signal] : [])])
    const ended = new Promise<void>((resolve) => {
      if (end.aborted) resolve()
      else end.addEventListener('abort', () => resolve(), { once: true })
    })
    while (!end.aborted) {
      await Promise.race([this.#changed.promise, ended])
      const live = this.#live()
      if (live !== null && live !== old) return live
      if (this.#fault) throw unavailable(this.#fault)
    }
    throw new Fault('control_plane.unreachable', { detail: 'this gateway is not enrolled yet' })
  }

  #signalChange(): void {
    this.#changed.resolve()
    this.#changed = Promise.withResolvers<void>()
  }
}

const unavailable = (fault: Fault): Fault =>
  new Fault('control_plane.unreachable', {
    detail: `not enrolled: ${fault.code} ${fault.detail ?? ''}`,
    cause: fault,
  })

async function readSecret(path: string): Promise<string> {
  try {
    return (await readFile(path, 'utf8')).trim()
  } catch (error) {
    throw new Fault('config.invalid', {
      detail: `AEMBIT_ENROLMENT_SECRET_PATH ${path} can not be read`,
      cause: error,
    })
  }
}
