import { readFile } from 'node:fs/promises'
import { Fault } from '../../../shared/faults.ts'
import type { Evidence } from '../../../shared/wire/attestation.ts'
import { type AwsCredentials, readAws, signCallerIdentity } from './aws.ts'
import { type CertificatePaths, proveCertificate } from './machine-certificate.ts'
import { createMetadata, type Metadata, metadataUrl } from './metadata.ts'

export const attestationSources = ['auto', 'aws', 'azure', 'gcp', 'oidc', 'certificate'] as const
export type AttestationSource = (typeof attestationSources)[number]

export interface AttestationSettings {
  readonly source: AttestationSource
  /** Where a token of an OpenID issuer is: a file, or the text itself. */
  readonly oidcToken: { readonly path: string } | { readonly value: string } | null
  readonly certificate: CertificatePaths | null
  readonly awsCredentials: { readonly credentials: AwsCredentials; readonly region: string } | null
}

export interface EvidenceRequest {
  /** What the evidence is made for. */
  readonly audience: string
  /** The same in ten digits. */
  readonly nonce: string
  /** ms since the epoch. */
  readonly now: number
}

export interface Collector {
  /** Throws `controller.no_evidence` where this machine has nothing to show. */
  collect(request: EvidenceRequest): Promise<Evidence>
  close(): Promise<void>
}

type Source = (request: EvidenceRequest) => Promise<Evidence>

/**
 * What this machine can show for itself. `auto`: what was configured (a token, a certificate, AWS credentials), else
 * the cloud whose metadata service answers; all three are asked at once, as a machine is at one of them or none.
 */
export function createCollector(settings: AttestationSettings, base = metadataUrl): Collector {
  const metadata = createMetadata(base)
  const { oidcToken, certificate, awsCredentials } = settings
  const sources: Record<Exclude<AttestationSource, 'auto'>, Source> = {
    aws: async ({ audience, now }) => ({
      aws: awsCredentials
        ? {
            stsGetCallerIdentity: await signCallerIdentity(
              awsCredentials.credentials,
              awsCredentials.region,
              audience,
              now,
            ),
          }
        : await readAws(metadata, audience, now),
    }),
    azure: ({ nonce }) => readAzure(metadata, nonce),
    gcp: ({ audience }) => readGcp(metadata, audience),
    oidc: async () => ({ oidc: { identityToken: await readToken(oidcToken) } }),
    certificate: async ({ audience, now }) => {
      if (!certificate) throw new Error('no certificate is configured')
      return { certificate: { proof: await proveCertificate(certificate, audience, now) } }
    },
  }
  const automatic = (): Source[] => {
    const given = [
      ...(oidcToken ? [sources.oidc] : []),
      ...(certificate ? [sources.certificate] : []),
      ...(awsCredentials ? [sources.aws] : []),
    ]
    return given.length > 0 ? given : [sources.aws, sources.azure, sources.gcp]
  }
  return {
    collect: async (request) => {
      const asked = settings.source === 'auto' ? automatic() : [sources[settings.source]]
      const settled = await Promise.allSettled(asked.map((source) => source(request)))
      const found = settled.flatMap((result) => (result.status === 'fulfilled' ? [result.value] : []))
      if (found.length === 0) {
        const why = settled.flatMap((result) =>
          result.status === 'rejected' ? [messageOf(result.reason)] : [],
        )
        throw new Fault('controller.no_evidence', { detail: why.join('; ') })
      }
      return Object.assign({}, ...found) as Evidence
    },
    close: () => metadata.close(),
  }
}

const messageOf = (error: unknown): string => (error instanceof Error ? error.message : String(error))

/** Azure's attested document, PKCS #7 in base64; its nonce has room for ten digits. */
async function readAzure(metadata: Metadata, nonce: string): Promise<Evidence> {
  const path = `/metadata/attested/document?api-version=2020-09-01&nonce=${nonce}`
  const { encoding, signature } = JSON.parse(await metadata.get(path, { metadata: 'true' })) as Record<
    string,
    unknown
  >
  if (encoding !== 'pkcs7' || typeof signature !== 'string')
    throw new Error('the attested document is no PKCS #7')
  return { azure: { attestedDocument: { encoding, signature, nonce } } }
}

/** Google's identity token in the full format, which names project and instance. */
async function readGcp(metadata: Metadata, audience: string): Promise<Evidence> {
  const path = `/computeMetadata/v1/instance/service-accounts/default/identity?audience=${encodeURIComponent(audience)}&format=full`
  return { gcp: { identityToken: (await metadata.get(path, { 'metadata-flavor': 'Google' })).trim() } }
}

/** Read anew each time: what puts the token there renews it. */
async function readToken(source: AttestationSettings['oidcToken']): Promise<string> {
  if (!source) throw new Error('no OpenID token is configured')
  if ('value' in source) return source.value
  try {
    return (await readFile(source.path, 'utf8')).trim()
  } catch (error) {
    throw new Error(`${source.path} can not be read (${(error as NodeJS.ErrnoException).code})`)
  }
}
