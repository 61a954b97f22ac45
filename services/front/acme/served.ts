import type { TlsFiles } from '../../../shared/config/tls-files.ts'
import { selfSigned } from '../certificates/self-signed.ts'
import { longestWaitMs, renewalTime, shareOf, type Validity, validity, waitUntil } from './schedule.ts'
import type { AcmeStore } from './store.ts'

/** The certificate that is served: an issued one, else the stopgap. */
export class Served {
  #tls: TlsFiles
  #issued: boolean
  /** Whatever clocks and servers say, a certificate that was just issued is not ordered again at once. */
  #notBefore = 0

  private constructor(tls: TlsFiles, issued: boolean) {
    this.#tls = tls
    this.#issued = issued
  }

  /**
   * What the store has, else a stopgap. One that has ended is served too: with a stopgap in its place a restart would
   * turn the alarm off.
   */
  static async open(store: AcmeStore, domains: readonly string[], now: number): Promise<Served> {
    const held = store.certificate()
    return new Served(held ?? (await selfSigned(domains, now)), held !== undefined)
  }

  get tls(): TlsFiles {
    return this.#tls
  }

  /** false: the stopgap. */
  get issued(): boolean {
    return this.#issued
  }

  /** null: the stopgap, which counts as no certificate. */
  get validity(): Validity | null {
    return this.#issued ? validity(this.#tls.leaf) : null
  }

  /** When the next one is to be ordered, ms since the epoch. Names that were added to the configuration are ordered at once. */
  renewAt(
    domains: readonly string[],
    suggested: { readonly start: number; readonly end: number } | null,
    now: number,
  ): number {
    const { leaf } = this.#tls
    if (!this.#issued || !domains.every((name) => leaf.checkHost(name))) return 0
    const notBefore = waitUntil(this.#notBefore, now, longestWaitMs)
    return Math.max(notBefore, renewalTime(validity(leaf), shareOf(leaf), suggested))
  }

  /** Whether another one, of the store, is to be served instead. */
  isOlderThan(held: TlsFiles, now: number): boolean {
    if (held.cert === this.#tls.cert || validity(held.leaf).to <= now) return false
    return !this.#issued || validity(held.leaf).to >= validity(this.#tls.leaf).to
  }

  replace(tls: TlsFiles, now: number): void {
    this.#tls = tls
    this.#issued = true
    this.#notBefore = now + Math.min(3_600_000, (validity(tls.leaf).to - now) / 20)
  }
}
