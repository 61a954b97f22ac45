import { X509Certificate } from 'node:crypto'
import type { TlsFiles } from '../../../shared/config/tls-files.ts'
import type { Staple } from './ocsp.ts'
import type { SourceParts } from './source.ts'

const retryMs = 15 * 60_000
const leastMs = 60_000
/** A revocation is to be noticed, however long an answer is good for. */
const longestMs = 24 * 3_600_000
const certificatePem = /-----BEGIN CERTIFICATE-----[\s\S]+?-----END CERTIFICATE-----/g

/**
 * Keeps an OCSP answer at hand for the certificate that is served, where its issuer runs a responder. Serving never
 * waits for it: without a good and current answer nothing is stapled.
 */
export class Stapling {
  problem: string | null = null
  #staple: Staple | undefined
  #stop = new AbortController()
  readonly #parts: Omit<SourceParts, 'onChange' | 'random'>

  constructor(parts: Omit<SourceParts, 'onChange' | 'random'>) {
    this.#parts = parts
  }

  /** DER of an OCSPResponse, or null. */
  get response(): Buffer | null {
    return this.#staple && this.#staple.nextUpdate > this.#parts.clock.now() ? this.#staple.der : null
  }

  /** Begins to look after another certificate. */
  follow(tls: TlsFiles): void {
    this.close()
    this.#staple = undefined
    this.problem = null
    this.#stop = new AbortController()
    const issuer = tls.cert.match(certificatePem)?.[1]
    // Most certificates name no responder; the parser is not even loaded for them.
    if (!tls.leaf.infoAccess?.includes('OCSP - URI:') || issuer === undefined) return
    void this.#follow(tls.leaf, new X509Certificate(issuer), this.#stop.signal)
  }

  close(): void {
    this.#stop.abort()
  }

  async #follow(leaf: X509Certificate, issuer: X509Certificate, signal: AbortSignal): Promise<void> {
    const { clock, log } = this.#parts
    const { fetchStaple, ocspUrl } = await import('./ocsp.ts')
    const url = ocspUrl(leaf)
    while (url !== undefined && !signal.aborted) {
      let waitMs = retryMs
      try {
        const staple = await fetchStaple(url, leaf.raw, issuer.raw, clock.now())
        if (signal.aborted) return
        this.#staple = staple
        this.problem = null
        waitMs = askAgainAfter(staple, clock.now())
      } catch (error) {
        if (signal.aborted) return
        const problem = `no OCSP answer to staple: ${(error as Error).message.slice(0, 200)}`
        if (problem !== this.problem) log.warn({ url }, problem)
        this.problem = problem
      }
      await clock.sleep(waitMs, signal).catch(() => {})
    }
  }
}

/** At half of the answer's life, within bounds. */
export const askAgainAfter = (
  { thisUpdate, nextUpdate }: Pick<Staple, 'thisUpdate' | 'nextUpdate'>,
  now: number,
): number => Math.min(Math.max((nextUpdate - thisUpdate) / 2 + thisUpdate - now, leastMs), longestMs)
