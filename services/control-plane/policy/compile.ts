import type { ContentSecurity } from '../../../shared/wire/content-security.ts'
import type { ClientWorkload, Issuer, ServerWorkload, Snapshot } from '../../../shared/wire/snapshot.ts'
import { snapshotSchema } from '../../../shared/wire/snapshot.ts'
import type { AccessPolicyConfig, Config } from '../config/schema.ts'

export interface CompileInputs {
  readonly version: number
  /** ISO 8601. */
  readonly issuedAt: string
  /** Public keys of our own authorization server. */
  readonly issuerKeys: { readonly keys: readonly Readonly<Record<string, unknown>>[] }
  readonly revocations: Snapshot['revocations']
  /** The kill switch; none where absent. */
  readonly blocks?: NonNullable<Snapshot['blocks']>
  /** Approved definitions of a server's tools: digests by tool name. */
  readonly approvedTools?: (serverId: string) => Record<string, string[]>
  /** Version of each policy by id; 1 where absent. */
  readonly policyVersions?: ReadonlyMap<string, number>
}

/** The only resource set there is; the id that log consumers know as the default one. */
const defaultResourceSet = 'ffffffff-ffff-ffff-ffff-ffffffffffff'

/** What gateways decide on, from the configuration. Deterministic; holds no secret. */
export function compileSnapshot(config: Config, inputs: CompileInputs): Snapshot {
  return snapshotSchema.parse({
    format: 1,
    tenantId: config.tenant.id,
    version: inputs.version,
    issuedAt: inputs.issuedAt,
    gateway: {
      resource: config.gateway.url,
      audiences: [...new Set([config.gateway.url, ...config.gateway.audiences])],
      authorizationServers: [config.authorizationServer.issuer],
      scopes: ['mcp'],
    },
    resourceSetId: defaultResourceSet,
    issuers: [ownIssuer(config, inputs.issuerKeys), ...directIssuers(config)],
    clientWorkloads: config.clientWorkloads.map(
      ({ id, name, identities, enforceSso, ssoIdentityProviders }): ClientWorkload => ({
        id,
        name,
        identities,
        ...(enforceSso ? {} : { enforceSso }),
        ...(ssoIdentityProviders.length > 0 ? { ssoIdentityProviders } : {}),
      }),
    ),
    trustProviders: config.trustProviders.map(({ oidcIdToken, ...provider }) =>
      // No token of another issuer can say this name: ids of identity providers hold no colon.
      oidcIdToken ? { ...provider, identityProvider: directIssuerId(provider.id) } : provider,
    ),
    servers: config.serverWorkloads.map(
      ({ id, name, prefix, url, allowedNetworks, publicTools, toolPinning }): ServerWorkload => ({
        id,
        name,
        prefix,
        url,
        credential: needsCredential(config, id) ? 'required' : 'none',
        allowedNetworks,
        ...(publicTools ? { publicTools } : {}),
        ...(toolPinning.mode === 'off'
          ? {}
          : {
              toolPinning: {
                mode: toolPinning.mode,
                newTools: toolPinning.newTools,
                approved: inputs.approvedTools?.(id) ?? {},
              },
            }),
      }),
    ),
    policies: config.accessPolicies.map((policy) => ({
      id: policy.id,
      name: policy.name,
      version: inputs.policyVersions?.get(policy.id) ?? 1,
      active: policy.active,
      trustProviders: policy.trustProviders,
      accessConditions: policy.accessConditions,
      contentSecurity: policy.contentSecurity,
      ...(policy.subjects.includes('client') ? { subjects: policy.subjects } : {}),
      ...(policy.server === 'gateway'
        ? { kind: 'client-to-gateway' as const, clientWorkload: policy.client }
        : { kind: 'gateway-to-server' as const, serverWorkload: policy.server }),
    })),
    accessConditions: config.accessConditions,
    contentSecurity: config.contentSecurity.map(compileContentSecurity),
    revocations: inputs.revocations,
    ...(inputs.blocks && inputs.blocks.length > 0 ? { blocks: inputs.blocks } : {}),
  } satisfies Snapshot)
}

const directIssuerId = (trustProvider: string): string => `trust-provider:${trustProvider}`

function directIssuers(config: Config): Issuer[] {
  return config.trustProviders.flatMap(({ id, oidcIdToken }) => {
    if (!oidcIdToken) return []
    const { issuer, jwksUri, jwks, publicKey, algorithms } = oidcIdToken
    const keys = jwks ?? (publicKey && { keys: [publicKey] })
    return [
      {
        id: directIssuerId(id),
        issuer,
        kind: 'trust-provider' as const,
        ...(jwksUri ? { jwksUri } : {}),
        ...(keys ? { jwks: { keys: keys.keys.map((key) => ({ ...key })) } } : {}),
        algorithms,
      },
    ]
  })
}

function ownIssuer(config: Config, keys: CompileInputs['issuerKeys']): Issuer {
  const algorithms = keys.keys
    .map(({ alg }) => alg)
    .filter((alg) => alg === 'RS256' || alg === 'ES256')
    .concat(config.authorizationServer.signingAlgorithm)
  return {
    id: 'authorization-server',
    issuer: config.authorizationServer.issuer,
    kind: 'authorization-server',
    jwks: { keys: keys.keys.map((key) => ({ ...key })) },
    algorithms: [...new Set(algorithms)].sort(),
  }
}

/** A server whose every active policy has a provider of type none goes out bare, without asking anybody. */
function needsCredential(config: Config, serverId: string): boolean {
  const bare = new Set(config.credentialProviders.filter(({ type }) => type === 'none').map(({ id }) => id))
  return config.accessPolicies.some(
    (policy) => policy.server === serverId && policy.active && !bare.has(policy.credentialProvider ?? ''),
  )
}

/** What counts as a change of a policy: everything it says, and what its trust providers and credential say. */
export function policyFingerprint(config: Config, policy: AccessPolicyConfig): string {
  const provider = config.credentialProviders.find(({ id }) => id === policy.credentialProvider)
  return JSON.stringify([
    policy,
    policy.trustProviders.map((id) => config.trustProviders.find((trust) => trust.id === id)),
    policy.accessConditions.map((id) => config.accessConditions.find((condition) => condition.id === id)),
    policy.contentSecurity.map((id) => {
      const content = config.contentSecurity.find((each) => each.id === id)
      return content && compileContentSecurity(content)
    }),
    provider && { id: provider.id, type: provider.type },
  ])
}

/** Gateways get no secret: that of a guard is asked for as a credential is. */
function compileContentSecurity(content: Config['contentSecurity'][number]): ContentSecurity {
  if (content.type === 'AembitMcpToolAccessControl') return content
  if (content.type === 'CrowdStrikeAIDR') {
    const { encryptedToken: _secret, ...rest } = content
    return { ...rest, secret: true }
  }
  const { token, ...rest } = content
  return { ...rest, secret: token !== undefined }
}
