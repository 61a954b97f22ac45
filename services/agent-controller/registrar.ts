import type { Clock } from '../../shared/clock.ts'
import { Fault } from '../../shared/faults.ts'
import type { Logger } from '../../shared/log.ts'
import { AnswerFault } from '../../shared/problem.ts'
import { backoffMs } from '../../shared/retry.ts'
import { boundAudience } from '../../shared/wire/attestation.ts'
import type { ControllerToken } from '../../shared/wire/enrolment.ts'
import type { Collector } from './attestation/collect.ts'
import type { ControlPlane } from './control-plane.ts'
import type { ControllerMetrics } from './metrics.ts'
import { type ControllerState, digestOf } from './state.ts'

/** The documented states of GET /health. */
export type HealthState = 'Healthy' | 'Registered' | 'Unregistered' | 'RegisteredAndNotConnected'

export interface RegistrarDeps {
  readonly state: ControllerState
  readonly controlPlane: ControlPlane
  readonly tenantId: string
  readonly deviceCode: string | null
  /** This machine proves that it is this controller; null: it holds or makes a registration by device code. */
  readonly attests: { readonly controllerId: string; readonly collector: Collector } | null
  readonly version: string
  readonly hostname: string
  readonly metrics: ControllerMetrics
  readonly clock: Clock
  /** 0 ≤ random() < 1. */
  readonly random: () => number
  readonly log: Logger
}

const reportEveryMs = 60_000
const backoff = { baseMs: 1_000, capMs: 60_000, floorMs: 200 }

/**
 * Keeps this machine registered: spends the device code once or attests for each token, holds an access token and renews it ahead of its
 * end, reports health each minute. Never gives up while a later try can succeed.
 */
export class Registrar {
  readonly #deps: RegistrarDeps
  #token: { value: string; expiresAt: number } | null = null
  #renewing: Promise<string> | null = null
  /** null: nothing was tried yet. */
  #connected: boolean | null = null
  /** The control plane no longer knows the registration that we hold. */
  #disowned = false
  #codeRefused = false
  #attested = false
  #renewSoon = new AbortController()
  readonly #startedAt: number

  constructor(deps: RegistrarDeps) {
    this.#deps = deps
    this.#startedAt = deps.clock.now()
  }

  get controllerId(): string | null {
    if (this.#disowned) return null
    const { attests, state } = this.#deps
    if (attests) return this.#attested ? attests.controllerId : null
    return state.registration?.controllerId ?? null
  }

  get health(): HealthState {
    if (this.controllerId === null) return 'Unregistered'
    if (this.#connected === null) return 'Registered'
    return this.#connected && this.#live() ? 'Healthy' : 'RegisteredAndNotConnected'
  }

  /** A live token. Throws `controller.unregistered` or why none could be had. */
  async accessToken(): Promise<string> {
    if (this.controllerId === null) throw new Fault('controller.unregistered')
    return this.#live()?.value ?? this.#renew()
  }

  /** After the control plane refused `refused`: another token, also where that one looks alive. */
  async replaceToken(refused: string): Promise<string> {
    return this.#token?.value === refused ? this.#renew() : this.accessToken()
  }

  /** Until `signal` aborts; never throws. */
  async run(signal: AbortSignal): Promise<void> {
    await Promise.all([this.#keepToken(signal), this.#reportHealth(signal)])
  }

  async #keepToken(signal: AbortSignal): Promise<void> {
    const { clock, log, random } = this.#deps
    for (let failures = 0; !signal.aborted; ) {
      let waitMs: number
      try {
        if (!this.#deps.attests && this.controllerId === null && !(await this.#register())) return
        await this.#renew()
        failures = 0
        waitMs = this.#untilRenewal()
      } catch (error) {
        const fault = Fault.from(error)
        waitMs = backoffMs(failures++, { ...backoff, random })
        log.warn({ code: fault.code, detail: fault.detail, waitMs }, fault.message)
      }
      this.#renewSoon = new AbortController()
      await clock.sleep(waitMs, AbortSignal.any([signal, this.#renewSoon.signal])).catch(() => {})
    }
  }

  /** False where no later try of the same can succeed: it takes a new device code and a restart. */
  async #register(): Promise<boolean> {
    const { state, controlPlane, tenantId, deviceCode, version, hostname, log, metrics } = this.#deps
    const spent = state.registration?.deviceCodeSha256
    if (deviceCode === null || this.#codeRefused || digestOf(deviceCode) === spent) {
      // A control plane that was restored from an old copy may know us again, so a disowned one keeps asking.
      if (this.#disowned) return true
      log.error('not registered: set AEMBIT_DEVICE_CODE to a new six-digit code and restart')
      return false
    }
    try {
      const answer = await controlPlane.register(state, { deviceCode, version, hostname })
      if (answer.tenantId !== tenantId) {
        log.error(
          { answered: answer.tenantId, tenantId },
          'the device code belongs to another tenant; check AEMBIT_TENANT_ID',
        )
        this.#codeRefused = true
        return this.#disowned
      }
      await state.register({ ...answer, deviceCodeSha256: digestOf(deviceCode) })
      this.#disowned = false
      metrics.registered(true)
      log.info({ controllerId: answer.controllerId, tenantId }, 'registered')
      return true
    } catch (error) {
      if (!(error instanceof AnswerFault) || error.spec.retry) throw error
      log.error(
        { code: error.code, detail: error.detail },
        'registration was refused: the device code is unknown, used or expired. ' +
          'Make a new one, set AEMBIT_DEVICE_CODE and restart',
      )
      this.#codeRefused = true
      return this.#disowned
    }
  }

  #renew(): Promise<string> {
    this.#renewing ??= this.#requestToken().finally(() => {
      this.#renewing = null
    })
    return this.#renewing
  }

  async #requestToken(): Promise<string> {
    const { state, controlPlane, clock, log, metrics, attests } = this.#deps
    const controllerId = attests?.controllerId ?? state.registration?.controllerId
    if (!controllerId) throw new Fault('controller.unregistered')
    let answer: ControllerToken
    try {
      answer = attests ? await this.#attest(attests) : await controlPlane.token(state, controllerId)
    } catch (error) {
      this.#connected = false
      metrics.accessTokenRequest('Failure', controllerId)
      if (error instanceof AnswerFault && [400, 401, 403, 404].includes(error.status)) {
        this.#disowned = true
        this.#token = null
        metrics.registered(false)
        throw new Fault('controller.unregistered', {
          detail: attests
            ? `${error.detail}; the reason stands in the control plane's audit log, category AgentControllers`
            : `${error.detail}; removed there, or this machine's clock is wrong`,
          cause: error,
        })
      }
      throw error
    }
    const expiresAt = Date.parse(answer.expiresAt)
    if (expiresAt <= clock.now()) log.warn('the token had expired when it came: check the clocks')
    this.#token = { value: answer.accessToken, expiresAt }
    this.#connected = true
    this.#disowned = false
    if (attests && !this.#attested) log.info({ controllerId }, 'registered by attestation')
    this.#attested = attests !== null
    metrics.registered(true)
    metrics.accessTokenRequest('Success', controllerId)
    metrics.tokenExpires(expiresAt)
    log.debug({ expiresAt: answer.expiresAt }, 'access token renewed')
    return answer.accessToken
  }

  /** The evidence is made for one challenge, so it is nobody else's and not good twice. */
  async #attest({
    controllerId,
    collector,
  }: NonNullable<RegistrarDeps['attests']>): Promise<ControllerToken> {
    const { state, controlPlane, tenantId, clock, version, hostname } = this.#deps
    const { challenge, nonce } = await controlPlane.challenge(state, controllerId)
    const audience = boundAudience(tenantId, challenge)
    const evidence = await collector.collect({ audience, nonce, now: clock.now() })
    const request = { controllerId, challenge, evidence, version, hostname }
    return controlPlane.attestedToken(state, request, audience)
  }

  #live(): { value: string; expiresAt: number } | null {
    return this.#token && this.#token.expiresAt > this.#deps.clock.now() ? this.#token : null
  }

  /** At 57 to 67 % of what is left, so that many controllers do not renew in step. */
  #untilRenewal(): number {
    const left = (this.#token?.expiresAt ?? 0) - this.#deps.clock.now()
    return Math.max(1_000, left * (2 / 3 - this.#deps.random() * 0.1))
  }

  async #reportHealth(signal: AbortSignal): Promise<void> {
    const { controlPlane, clock, log, version, hostname } = this.#deps
    while (!signal.aborted) {
      const token = this.#live()
      if (token) {
        const uptimeSecs = Math.floor((clock.now() - this.#startedAt) / 1000)
        try {
          await controlPlane.reportHealth(token.value, { version, hostname, uptimeSecs })
          this.#connected = true
        } catch (error) {
          const fault = Fault.from(error)
          this.#connected = false
          log.warn({ code: fault.code, detail: fault.detail }, 'health report failed')
          // A report may cross a renewal: only the token in use is worth another one.
          const current = this.#token?.value === token.value
          if (current && error instanceof AnswerFault && error.status === 401) this.#renewSoon.abort()
        }
      }
      // Short until the first token is there, so that the control plane sees a new controller at once.
      await clock.sleep(token ? reportEveryMs : 500, signal).catch(() => {})
    }
  }
}
