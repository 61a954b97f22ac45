import type { Clock } from '../../../../shared/clock.ts'
import type { Evidence } from '../../../../shared/wire/attestation.ts'
import type { ControllerTrustProvider } from '../../config/agent-controllers.ts'
import { verifyAwsMetadata } from './aws-metadata.ts'
import { verifyAwsRole } from './aws-role.ts'
import { verifyAzure } from './azure.ts'
import { verifyCertificate } from './certificate.ts'
import { createIssuerKeys, createOidcKeys, verifyGcp, verifyOidc } from './identity-token.ts'
import { createSts } from './sts.ts'
import { type Attested, type EvidenceContext, EvidenceError } from './types.ts'

export interface Verifier {
  /** Throws EvidenceError unless the evidence that this trust provider asks for verifies and matches its rules. */
  verify(evidence: Evidence, context: EvidenceContext): Promise<Attested>
  close(): Promise<void>
}

export function createVerifier(provider: ControllerTrustProvider, clock: Clock): Verifier {
  const { check, close } = checker(provider, clock)
  return {
    verify: async (evidence, context) => {
      const attested = await check(evidence, context)
      refuseUnmatched(provider, attested)
      return attested
    },
    close,
  }
}

interface Checker {
  readonly check: (evidence: Evidence, context: EvidenceContext) => Promise<Attested>
  readonly close: () => Promise<void>
}
const close = async (): Promise<void> => {}

function checker(provider: ControllerTrustProvider, clock: Clock): Checker {
  switch (provider.provider) {
    case 'AWSMetadataService':
      return {
        check: async ({ aws }, { now }) => verifyAwsMetadata(provider, present(aws, provider), now),
        close,
      }
    case 'AWSRole': {
      const sts = createSts(provider)
      return {
        check: async ({ aws }, context) =>
          verifyAwsRole(provider, present(aws?.stsGetCallerIdentity, provider), context, sts),
        close: () => sts.close(),
      }
    }
    case 'AzureMetadataService':
      return {
        check: async ({ azure }, context) => verifyAzure(provider, present(azure, provider), context),
        close,
      }
    case 'GcpIdentityToken': {
      const keys = createIssuerKeys(provider, clock)
      return {
        check: async ({ gcp }, context) =>
          verifyGcp(provider, present(gcp, provider).identityToken, context, keys),
        close: keys.close,
      }
    }
    case 'OidcIdToken': {
      const keys = createOidcKeys(provider, clock)
      return {
        check: async ({ oidc }, { now }) =>
          verifyOidc(provider, present(oidc, provider).identityToken, now, keys),
        close: keys.close,
      }
    }
    case 'CertificateSignedAttestation':
      return {
        check: async ({ certificate }, context) =>
          verifyCertificate(provider, present(certificate, provider).proof, context),
        close,
      }
  }
}

function present<T>(part: T | undefined, { provider }: ControllerTrustProvider): T {
  if (part === undefined) throw new EvidenceError(`the machine sent no evidence for ${provider}`)
  return part
}

/** Rules on one attribute are any-of; every attribute that has rules must match. */
function refuseUnmatched({ matchRules }: ControllerTrustProvider, { subject, attributes }: Attested): void {
  const wanted = new Map<string, string[]>()
  for (const { attribute, key, value } of matchRules) {
    const name = key === undefined ? attribute : `${attribute}:${key}`
    wanted.set(name, [...(wanted.get(name) ?? []), value])
  }
  for (const [name, values] of wanted) {
    const given = (Object.hasOwn(attributes, name) ? attributes[name] : undefined) ?? []
    if (given.some((value) => values.includes(value))) continue
    throw new EvidenceError(
      `${subject} verifies, but its ${name} (${given.join(', ').slice(0, 200) || 'none'}) matches no rule`,
    )
  }
}
