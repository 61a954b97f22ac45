import type { Clock } from '../../../shared/clock.ts'
import type { TlsFiles } from '../../../shared/config/tls-files.ts'
import type { Logger } from '../../../shared/log.ts'

/** Where the certificate comes from, and how it is kept good. */
export interface CertificateSource {
  /** What is served now. */
  readonly tls: TlsFiles
  /** What an operator should know of it although it is served; one line, no secret. */
  readonly notice: string | null
  /** Figures for `status`. */
  readonly figures: Readonly<Record<string, string | number>>
  /** Looks again, now. Throws Fault `config.invalid` where nothing better than before was found. */
  reload(): void
  close(): Promise<void>
}

export interface SourceParts {
  readonly clock: Clock
  readonly log: Logger
  /** 0 ≤ random() < 1. */
  readonly random: () => number
  /** Another certificate is to be served from now on. */
  readonly onChange: (tls: TlsFiles) => void
  /** An order by ACME ended. */
  readonly onOrder?: (outcome: 'success' | 'error') => void
}
