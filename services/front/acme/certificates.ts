import type { AcmeSettings } from '../../../shared/config/gateway-tls.ts'
import type { TlsFiles } from '../../../shared/config/tls-files.ts'
import { Fault } from '../../../shared/faults.ts'
import { selfSigned } from '../certificates/self-signed.ts'
import type { CertificateSource, SourceParts } from '../certificates/source.ts'
import { Challenges } from './challenges.ts'
import { type AcmeLibrary, explain, loadAcme } from './client.ts'
import { type ChallengeType, orderCertificate } from './order.ts'
import {
  describeTrouble,
  isUrgent,
  renewalTime,
  retryWaitMs,
  shareOf,
  type Validity,
  validity,
  waitUntil,
} from './schedule.ts'
import { type AcmeState, AcmeStore } from './store.ts'

/** A whole order; the server's own limits are far below. */
const orderLimitMs = 5 * 60_000
/** While another process orders; and how long at most between two looks at the clock, which may have been set. */
const lockedMs = 5_000
const longestSleepMs = 3_600_000
/** Where the server's renewal information could not be had. */
const infoRetryMs = 3_600_000
/** No wait that is kept is longer: not the server's Retry-After, not the time between two looks at its information. */
const longestWaitMs = 86_400_000

export interface AcmeParts extends SourceParts {
  /** Whether port 80 is ours to answer on. */
  readonly http: boolean
}

/**
 * A certificate that is ordered and renewed by ACME. Until there is one, a self-signed certificate is served; serving
 * never waits for the server. Everything that counts is in the store: a process that dies in the middle of an order
 * costs that order.
 */
export class AcmeCertificates implements CertificateSource {
  readonly challenges: Challenges
  tls: TlsFiles
  readonly #settings: AcmeSettings
  readonly #parts: AcmeParts
  readonly #store: AcmeStore
  readonly #closed = new AbortController()
  #state: AcmeState
  #running: Promise<void>
  /** What is served was issued, and is not the stopgap. */
  #issued: boolean
  #library: AcmeLibrary | undefined
  #wake = new AbortController()
  /** Whatever clocks and servers say, a certificate that was just issued is not ordered again at once. */
  #notBefore = 0
  /** An operator asked: the wait after a failure is cut short once. */
  #impatient = false
  /** When to ask for renewal information while there is none. */
  #nextInfoTry = 0

  private constructor(
    settings: AcmeSettings,
    parts: AcmeParts,
    store: AcmeStore,
    tls: TlsFiles,
    issued: boolean,
  ) {
    this.#settings = settings
    this.#parts = parts
    this.#store = store
    this.challenges = new Challenges(settings.dir)
    this.#state = store.state()
    this.tls = tls
    this.#issued = issued
    this.#running = Promise.resolve()
  }

  /**
   * Serves what the store has, else a stopgap, and begins to look after it. One that has ended is served too: with a stopgap in
   * its place a restart would turn the alarm off.
   */
  static async open(settings: AcmeSettings, parts: AcmeParts): Promise<AcmeCertificates> {
    const store = new AcmeStore(settings.dir)
    await store.open()
    const held = store.certificate()
    const tls = held ?? (await selfSigned(settings.domains, parts.clock.now()))
    const source = new AcmeCertificates(settings, parts, store, tls, held !== undefined)
    source.#running = source.#lookAfter()
    return source
  }

  get notice(): string | null {
    return describeTrouble(this.#state, this.#validity(), this.#due(), this.#parts.clock.now())
  }

  get figures(): Record<string, string | number> {
    const { failures, issued, lastError } = this.#state
    return {
      acmeIssued: issued,
      certificateSelfSigned: this.#issued ? 0 : 1,
      acmeFailures: this.#due() ? failures : 0,
      ...(this.#issued ? { certificateRenewal: new Date(this.#renewAt()).toISOString() } : {}),
      ...(lastError
        ? { acmeLastError: lastError.text, acmeLastErrorAt: new Date(lastError.at).toISOString() }
        : {}),
    }
  }

  /** Takes what an operator put into the store, and tries again at once where an attempt is waited for. */
  reload(): void {
    this.#adopt()
    this.#impatient = true
    this.#wake.abort()
  }

  async close(): Promise<void> {
    this.#closed.abort()
    this.#wake.abort()
    await this.#running
    this.#library?.close()
  }

  #validity(): Validity | null {
    return this.#issued ? validity(this.tls.leaf) : null
  }

  /** Names that were added to the configuration are ordered at once. */
  #renewAt(): number {
    const { leaf } = this.tls
    if (!this.#issued || !this.#settings.domains.every((name) => leaf.checkHost(name))) return 0
    const notBefore = waitUntil(this.#notBefore, this.#parts.clock.now(), longestWaitMs)
    return Math.max(notBefore, renewalTime(validity(leaf), shareOf(leaf), this.#renewalInfo()))
  }

  #due(): boolean {
    return this.#renewAt() <= this.#parts.clock.now()
  }

  /** 0 where nothing is waited for. */
  #nextAttemptAt(): number {
    if (this.#impatient) return 0
    return waitUntil(this.#state.nextAttemptAt, this.#parts.clock.now(), longestWaitMs)
  }

  /** What the server said of the certificate that is served; not of one before it. */
  #renewalInfo(): AcmeState['renewalInfo'] {
    const { renewalInfo } = this.#state
    return renewalInfo?.fingerprint === this.tls.leaf.fingerprint256 ? renewalInfo : null
  }

  async #lookAfter(): Promise<void> {
    const { clock } = this.#parts
    while (!this.#closed.signal.aborted) {
      const now = clock.now()
      const attemptAt = Math.max(this.#renewAt(), this.#nextAttemptAt())
      const infoAt = this.#infoDueAt()
      if (attemptAt <= now) {
        if (!(await this.#attempt())) await this.#pause(lockedMs)
      } else if (infoAt <= now) await this.#askRenewalInfo()
      else await this.#pause(Math.min(attemptAt - now, infoAt - now, longestSleepMs))
    }
  }

  async #pause(ms: number): Promise<void> {
    this.#wake = new AbortController()
    if (this.#closed.signal.aborted) return
    await this.#parts.clock.sleep(ms, this.#wake.signal).catch(() => {})
  }

  /** false: another process is at it. */
  async #attempt(): Promise<boolean> {
    const { clock } = this.#parts
    const release = await this.#store.lock(clock.now()).catch((error) => {
      this.#parts.log.error({ detail: explain(error) }, 'the folder of ACME can not be written')
      return undefined
    })
    if (!release) return false
    try {
      // Another process may have ordered, or failed, while we waited.
      this.#state = this.#store.state()
      if (this.#adopt() || this.#nextAttemptAt() > clock.now()) return true
      this.#impatient = false
      await this.#order()
    } finally {
      await release()
    }
    return true
  }

  async #order(): Promise<void> {
    const { clock, log } = this.#parts
    try {
      const { acme } = await this.#load()
      const tls = await this.#bounded(
        orderCertificate({
          acme,
          settings: this.#settings,
          store: this.#store,
          challenges: this.challenges,
          types: this.#types(),
          now: () => clock.now(),
          replaces: this.#renewalInfo()?.certId ?? null,
        }),
      )
      this.#serve(tls)
      await this.#save({
        failures: 0,
        nextAttemptAt: 0,
        lastError: null,
        issued: this.#state.issued + 1,
        renewalInfo: null,
      })
      this.#parts.onOrder?.('success')
      log.info({ names: this.#settings.domains, expires: tls.leaf.validTo }, 'certificate issued')
    } catch (error) {
      if (this.#closed.signal.aborted) return
      this.#parts.onOrder?.('error')
      const now = clock.now()
      const known = this.#store.account(this.#settings.directoryUrl) !== undefined
      const accountGone = known && isAccountGone(error)
      if (accountGone) await this.#store.forgetAccount()
      const certificate = this.#validity()
      const failures = this.#state.failures + 1
      const asked = this.#library?.takeRetryAfterMs() ?? 0
      const usual = retryWaitMs(failures - 1, certificate && certificate.to - now, this.#parts.random)
      const wait = Math.max(asked, accountGone ? 1_000 : usual)
      await this.#save({
        ...this.#state,
        failures,
        nextAttemptAt: now + wait,
        lastError: { at: now, text: error instanceof Fault ? (error.detail ?? error.code) : explain(error) },
      })
      const level = certificate && !isUrgent(certificate, now, this.#renewalInfo()) ? 'warn' : 'error'
      log[level](
        { retryInSecs: Math.ceil(wait / 1000), notice: this.notice },
        'no certificate could be ordered',
      )
    }
  }

  async #load(): Promise<AcmeLibrary> {
    this.#library ??= await loadAcme(this.#settings.caPath)
    return this.#library
  }

  /** `auto` begins with port 80 and takes turns after a failure: one of the two may be closed by a firewall. */
  #types(): ChallengeType[] {
    const { challenge } = this.#settings
    if (challenge !== 'auto') return [challenge]
    if (!this.#parts.http) return ['tls-alpn-01']
    return this.#state.failures % 2 === 0 ? ['http-01', 'tls-alpn-01'] : ['tls-alpn-01', 'http-01']
  }

  #infoDueAt(): number {
    if (!this.#issued) return Number.POSITIVE_INFINITY
    const at = this.#renewalInfo()?.nextCheckAt ?? this.#nextInfoTry
    return waitUntil(at, this.#parts.clock.now(), longestWaitMs)
  }

  async #askRenewalInfo(): Promise<void> {
    const { clock, log } = this.#parts
    const { certificateId, fetchRenewalInfo } = await import('./renewal-info.ts')
    this.#nextInfoTry = clock.now() + infoRetryMs
    const certId = certificateId(this.tls.leaf.raw)
    const before = this.#renewalInfo()
    try {
      const { acme } = await this.#load()
      const found =
        certId &&
        (await this.#bounded(fetchRenewalInfo(acme, this.#settings.directoryUrl, certId, clock.now())))
      if (!found) return
      if (before?.start !== found.info.start && found.info.start < clock.now())
        log.warn({ explanation: found.explanation }, 'the ACME server asks for a renewal now')
      await this.#save({
        ...this.#store.state(),
        renewalInfo: { ...found.info, fingerprint: this.tls.leaf.fingerprint256 },
      })
    } catch (error) {
      if (this.#closed.signal.aborted) return
      if (before) this.#state = { ...this.#state, renewalInfo: { ...before, nextCheckAt: this.#nextInfoTry } }
      log.debug({ detail: explain(error) }, 'renewal information could not be had; the usual time counts')
    }
  }

  /** Serves what the store holds where that is newer. */
  #adopt(): boolean {
    const held = this.#store.certificate()
    if (!held || held.cert === this.tls.cert || validity(held.leaf).to <= this.#parts.clock.now())
      return false
    if (this.#issued && validity(held.leaf).to < validity(this.tls.leaf).to) return false
    this.#serve(held)
    return true
  }

  #serve(tls: TlsFiles): void {
    this.tls = tls
    this.#issued = true
    this.#nextInfoTry = 0
    const now = this.#parts.clock.now()
    this.#notBefore = now + Math.min(3_600_000, (validity(tls.leaf).to - now) / 20)
    this.#parts.onChange(tls)
  }

  async #save(state: AcmeState): Promise<void> {
    this.#state = state
    await this.#store.saveState(state).catch((error) => {
      this.#parts.log.error({ detail: explain(error) }, 'the state of ACME can not be written')
    })
  }

  /** The library takes no signal: what it does after the end goes nowhere. */
  async #bounded<T>(work: Promise<T>): Promise<T> {
    const limit = new AbortController()
    const { promise: aborted, reject } = Promise.withResolvers<never>()
    const stop = (): void => reject(new Error('front stops'))
    this.#closed.signal.addEventListener('abort', stop, { once: true })
    const late = this.#parts.clock
      .sleep(orderLimitMs, limit.signal)
      .then(() => reject(new Error(`the ACME server took longer than ${orderLimitMs / 60_000} minutes`)))
      .catch(() => {})
    aborted.catch(() => {})
    try {
      return await Promise.race([work, aborted])
    } finally {
      limit.abort()
      await late
      this.#closed.signal.removeEventListener('abort', stop)
      work.catch(() => {})
    }
  }
}

/** The server does not know or want our account any more (RFC 8555 §6.7, §7.3.6): the next attempt makes a new one. */
const isAccountGone = (error: unknown): boolean =>
  /accountDoesNotExist|account.*(not found|not exist|not valid|deactivated|revoked)|no account/i.test(
    (error as Error).message,
  )
