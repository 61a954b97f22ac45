import type { ConfigOf } from '../../shared/ipc/contract.ts'
import { AcmeCertificates } from './acme/certificates.ts'
import type { Challenges } from './acme/challenges.ts'
import { FileCertificates } from './certificates/files.ts'
import type { CertificateSource, SourceParts } from './certificates/source.ts'

export interface OpenedSource {
  readonly source: CertificateSource
  /** Answers to validations; null where certificates are not ours to order. */
  readonly challenges: Challenges | null
}

/** The source that the configuration names. Throws Fault `config.invalid`. */
export async function openCertificates(
  tls: NonNullable<ConfigOf['front']['tls']>,
  http: boolean,
  parts: SourceParts,
): Promise<OpenedSource> {
  if (tls.source === 'files') return { source: new FileCertificates(tls, parts), challenges: null }
  const source = await AcmeCertificates.open(tls, { ...parts, http })
  return { source, challenges: source.challenges }
}
