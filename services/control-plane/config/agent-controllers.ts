import { X509Certificate } from 'node:crypto'
import { z } from 'zod'
import { publicJwks, publicKey } from './direct-issuer.ts'
import { duration, networks, text, webUrl } from './fields.ts'
import type { Secret } from './secret.ts'

/**
 * Agent controllers that prove what they run on, each with its trust provider. Those with a device code are made by
 * the REST API and do not stand in the file.
 */
const attributes = {
  AWSMetadataService: [
    'AwsAccountId',
    'AwsArchitecture',
    'AwsAvailabilityZone',
    'AwsBillingProducts',
    'AwsImageId',
    'AwsInstanceId',
    'AwsInstanceType',
    'AwsKernelId',
    'AwsMarketplaceProductCodes',
    'AwsPendingTime',
    'AwsPrivateIp',
    'AwsRamdiskId',
    'AwsRegion',
    'AwsVersion',
  ],
  AWSRole: ['AwsAccountId', 'AwsAssumedRole', 'AwsRoleARN', 'AwsUsername'],
  GcpIdentityToken: ['Email', 'GcpProjectId', 'GcpInstanceId', 'GcpZone', 'GcpSubject'],
  AzureMetadataService: ['AzureSku', 'AzureVmId', 'AzureSubscriptionId'],
  OidcIdToken: ['OidcIssuer', 'OidcSubject', 'OidcAudience', 'OidcCustom'],
  CertificateSignedAttestation: ['CertificateSubject', 'CertificateSan', 'CertificateFingerprint'],
} as const
export type AttestationProvider = keyof typeof attributes

/** Everybody has a machine at a cloud: without one of these the rules would admit anybody's. */
const binding: Record<AttestationProvider, readonly string[]> = {
  AWSMetadataService: ['AwsAccountId', 'AwsInstanceId'],
  AWSRole: ['AwsAccountId', 'AwsRoleARN'],
  GcpIdentityToken: ['Email', 'GcpProjectId', 'GcpInstanceId', 'GcpSubject'],
  AzureMetadataService: ['AzureVmId', 'AzureSubscriptionId'],
  OidcIdToken: ['OidcSubject', 'OidcCustom'],
  CertificateSignedAttestation: attributes.CertificateSignedAttestation,
}

function matchRules(provider: AttestationProvider) {
  const rule = z
    .strictObject({
      attribute: z.enum(attributes[provider] as readonly [string, ...string[]]),
      key: z.string().min(1).max(200).optional(),
      value: z.string().min(1).max(1000),
    })
    .refine((given) => (given.attribute === 'OidcCustom') === (given.key !== undefined), {
      path: ['key'],
      message: 'belongs to attribute OidcCustom alone and names the claim, add or remove it',
    })
  return z
    .array(rule)
    .max(500)
    .refine(
      (rules) => rules.some(({ attribute }) => binding[provider].includes(attribute)),
      `would admit anybody's machines, add a rule on one of ${binding[provider].join(', ')}`,
    )
}

/** Bytes of a key in base64; 0 where it is none. */
function keyBytes(key: Secret): number {
  const text = key.reveal().trim()
  return /^[A-Za-z0-9+/_-]+={0,2}$/.test(text) ? Buffer.from(text, 'base64').length : 0
}

export function createAgentControllers(secret: z.ZodType<Secret>) {
  /** PEM, several in one file as well; gives each as PEM of its own. */
  const certificates = z
    .array(
      secret.transform((source, context): string[] => {
        const found =
          source.reveal().match(/-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----/g) ?? []
        try {
          if (found.length === 0) throw new Error('none')
          return found.map((pem) => new X509Certificate(pem).toString())
        } catch {
          context.addIssue({ code: 'custom', message: 'holds no certificate in PEM, correct the file' })
          return z.NEVER
        }
      }),
    )
    .min(1, 'is empty, name one certificate at least')
    .max(100)
    .transform((lists) => lists.flat())

  const trustProvider = z.discriminatedUnion('provider', [
    z.strictObject({
      provider: z.literal('AWSMetadataService'),
      /** Those that AWS publishes for the regions, RSA or RSA-2048. */
      certificates,
      /** How long after its launch an instance may register for the first time; any time where absent. */
      registerWithin: duration('3650d', '3650d').optional(),
      matchRules: matchRules('AWSMetadataService'),
    }),
    z.strictObject({
      provider: z.literal('AWSRole'),
      /** Regions whose STS may vouch; every region where empty. */
      regions: z
        .array(z.string().regex(/^[a-z]{2}(-[a-z]+)+-\d$/, 'is no AWS region, write one like us-east-2'))
        .default([]),
      /** Where STS is reached, e.g. an endpoint in a VPC; `https://sts.<region>.amazonaws.com` where absent. */
      stsUrl: webUrl.optional(),
      allowedNetworks: networks,
      matchRules: matchRules('AWSRole'),
    }),
    z.strictObject({
      provider: z.literal('GcpIdentityToken'),
      issuer: webUrl.default('https://accounts.google.com'),
      allowedNetworks: networks,
      matchRules: matchRules('GcpIdentityToken'),
    }),
    z.strictObject({
      provider: z.literal('AzureMetadataService'),
      /** Roots that the chain of the signature must end at, e.g. DigiCert Global Root G2. */
      certificates,
      /** Intermediate certificates, as the document does not always carry them. */
      intermediates: certificates.optional(),
      /** Names one of which the signing certificate must be for, or for a name below it. */
      signers: z.array(text).min(1).default(['metadata.azure.com']),
      matchRules: matchRules('AzureMetadataService'),
    }),
    z
      .strictObject({
        provider: z.literal('OidcIdToken'),
        issuer: webUrl,
        audience: text,
        /** Its keys, where they are not found by discovery at the issuer: one of the three. */
        jwks: publicJwks.optional(),
        publicKey: publicKey.optional(),
        /** Of tokens signed with HMAC: base64, 32 bytes or more (RFC 7518 §3.2). It stays in the control plane. */
        symmetricKey: secret
          .refine((key) => keyBytes(key) >= 32, 'is no key of 32 bytes or more in base64')
          .optional(),
        allowedNetworks: networks,
        matchRules: matchRules('OidcIdToken'),
      })
      .refine(
        ({ jwks, publicKey, symmetricKey }) =>
          [jwks, publicKey, symmetricKey].filter((each) => each !== undefined).length <= 1,
        'names its keys in several ways, keep one of jwks, publicKey and symmetricKey',
      ),
    z.strictObject({
      provider: z.literal('CertificateSignedAttestation'),
      /** Roots of the certificate authorities whose machines may register. */
      certificates,
      matchRules: matchRules('CertificateSignedAttestation'),
    }),
  ])

  return z
    .array(
      z.strictObject({
        /** AEMBIT_AGENT_CONTROLLER_ID of the machines. */
        id: z
          .string()
          .regex(
            /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i,
            'is no UUID, make one with uuidgen and give it to the machines as AEMBIT_AGENT_CONTROLLER_ID',
          )
          .transform((id) => id.toLowerCase()),
        name: text.optional(),
        trustProvider,
      }),
    )
    .max(1000)
    .default([])
}

export type ControllerTrustProvider = z.infer<
  ReturnType<typeof createAgentControllers>
>[number]['trustProvider']
export type TrustProviderOf<P extends AttestationProvider> = Extract<ControllerTrustProvider, { provider: P }>
