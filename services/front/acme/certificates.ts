import type { AcmeSettings } from '../../../shared/config/gateway-tls.ts'
import type { TlsFiles } from '../../../shared/config/tls-files.ts'
import { Fault } from '../../../shared/faults.ts'
import type { CertificateSource, SourceParts } from '../certificates/source.ts'
import { Challenges } from './challenges.ts'
import { type AcmeLibrary, bounded, explain, isAccountGone, loadAcme } from './client.ts'
import { type ChallengeType, orderCertificate } from './order.ts'
import { describeTrouble, isUrgent, longestWaitMs, retryWaitMs, waitUntil } from './schedule.ts'
import { Served } from './served.ts'
import { type AcmeState, AcmeStore } from './store.ts'

/** While another process orders; and how long at most between two looks at the clock, which may have been set. */
const lockedMs = 5_000
const longestSleepMs = 3_600_000
/** Where the server's renewal information could not be had. */
const infoRetryMs = 3_600_000

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
  readonly #settings: AcmeSettings
  readonly #parts: AcmeParts
  readonly #store: AcmeStore
  readonly #served: Served
  readonly #closed = new AbortController()
  #state: AcmeState
  #running: Promise<void>
  #library: AcmeLibrary | undefined
  #wake = new AbortController()
  /** An operator asked: the wait after a failure is cut short once. */
  /** Since the last certificate. */
  #accountLost = false
  #impatient = false
  /** When to ask for renewal information while there is none. */
  #nextInfoTry = 0

  private constructor(settings: AcmeSettings, parts: AcmeParts, store: AcmeStore, served: Served) {
    this.#settings = settings
    this.#parts = parts
    this.#store = store
    this.challenges = new Challenges(settings.dir)
    this.#state = store.state()
    this.#served = served
    this.#running = Promise.resolve()
  }

  /** Serves what the store has, else a stopgap, and begins to look after it. */
  static async open(settings: AcmeSettings, parts: AcmeParts): Promise<AcmeCertificates> {
    const store = new AcmeStore(settings.dir)
    await store.open()
    const served = await Served.open(store, settings.domains, parts.clock.now())
    const source = new AcmeCertificates(settings, parts, store, served)
    source.#running = source.#lookAfter()
    return source
  }

  get tls(): TlsFiles {
    return this.#served.tls
  }

  get notice(): string | null {
    return describeTrouble(this.#state, this.#served.validity, this.#due(), this.#parts.clock.now())
  }

  get figures(): Record<string, string | number> {
    const { failures, issued, lastError } = this.#state
    return {
      acmeIssued: issued,
      certificateSelfSigned: this.#served.issued ? 0 : 1,
      acmeFailures: this.#due() ? failures : 0,
      ...(this.#served.issued ? { certificateRenewal: new Date(this.#renewAt()).toISOString() } : {}),
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

  #renewAt(): number {
    return this.#served.renewAt(this.#settings.domains, this.#renewalInfo(), this.#parts.clock.now())
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
      await this.#written(release())
    }
    return true
  }

  async #order(): Promise<void> {
    const { clock, log } = this.#parts
    try {
      const { acme, takeRetryAfterMs } = await this.#load()
      // What was said to another question, or to an order before this one, is no answer to this one.
      takeRetryAfterMs()
      const tls = await bounded(
        orderCertificate({
          acme,
          settings: this.#settings,
          store: this.#store,
          challenges: this.challenges,
          types: this.#types(),
          now: () => clock.now(),
          replaces: this.#renewalInfo()?.certId ?? null,
        }),
        clock,
        this.#closed.signal,
      )
      this.#serve(tls)
      await this.#save({
        failures: 0,
        nextAttemptAt: 0,
        lastError: null,
        issued: this.#state.issued + 1,
        renewalInfo: null,
      })
      this.#accountLost = false
      this.#parts.onOrder?.('success')
      log.info({ names: this.#settings.domains, expires: tls.leaf.validTo }, 'certificate issued')
    } catch (error) {
      if (this.#closed.signal.aborted) return
      this.#parts.onOrder?.('error')
      const now = clock.now()
      const known = this.#store.account(this.#settings.directoryUrl) !== undefined
      const accountGone = known && isAccountGone(error)
      if (accountGone) await this.#written(this.#store.forgetAccount())
      const certificate = this.#served.validity
      const failures = this.#state.failures + 1
      const asked = this.#library?.takeRetryAfterMs() ?? 0
      const usual = retryWaitMs(failures - 1, certificate && certificate.to - now, this.#parts.random)
      // A server that forgets each account again must not be asked for one every second.
      const wait = Math.max(asked, accountGone && !this.#accountLost ? 1_000 : usual)
      this.#accountLost ||= accountGone
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
    if (!this.#served.issued) return Number.POSITIVE_INFINITY
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
        (await bounded(
          fetchRenewalInfo(acme, this.#settings.directoryUrl, certId, clock.now()),
          clock,
          this.#closed.signal,
        ))
      if (!found) {
        // What an authority without such a service is not asked any more counts no more.
        if (before) await this.#save({ ...this.#store.state(), renewalInfo: null })
        return
      }
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
    if (!held || !this.#served.isOlderThan(held, this.#parts.clock.now())) return false
    this.#serve(held)
    return true
  }

  #serve(tls: TlsFiles): void {
    this.#served.replace(tls, this.#parts.clock.now())
    this.#nextInfoTry = 0
    this.#parts.onChange(tls)
  }

  async #save(state: AcmeState): Promise<void> {
    this.#state = state
    await this.#written(this.#store.saveState(state))
  }

  /** A folder that can not be written now must not be the end of renewals. */
  async #written(change: Promise<void>): Promise<void> {
    await change.catch((error: unknown) => {
      this.#parts.log.error({ detail: explain(error) }, 'the folder of ACME can not be written')
    })
  }
}
