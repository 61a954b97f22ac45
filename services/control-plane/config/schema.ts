import { z } from 'zod'
import { createAgentControllers } from './agent-controllers.ts'
import { clientIdentity, clientIdMetadataDocuments, createRegisteredClient } from './clients.ts'
import { createCredentialProviderSchema } from './credential-providers.ts'
import { directIssuer } from './direct-issuer.ts'
import { duration, id, identifierUrl, networks, serverUrl, text, webUrl } from './fields.ts'
import { createIdentityProviderSchema } from './identity-providers.ts'
import { accessCondition, createContentSecurity } from './policy-schema.ts'
import type { Secret, SecretReader } from './secret.ts'

/**
 * The YAML file that configures a control plane. Unknown keys are refused. What one object says is checked here;
 * what several objects say together (references, duplicates) in references.ts.
 */
const matchRule = z
  .strictObject({
    attribute: z.enum(['OidcIssuer', 'OidcSubject', 'OidcAudience', 'OidcCustom']),
    key: z.string().min(1).max(200).optional(),
    value: z.string().min(1).max(1000),
  })
  .refine((rule) => (rule.attribute === 'OidcCustom') === (rule.key !== undefined), {
    path: ['key'],
    message: 'belongs to attribute OidcCustom alone and names the claim, add or remove it',
  })

/** Schema of the whole file; `readSecret` is asked for each secret, so that a missing one is a problem like any other. */
export function createConfigSchema(readSecret: SecretReader) {
  const secret = z
    .strictObject({
      file: z.string().min(1).optional(),
      env: z.string().min(1).optional(),
      value: z.string().min(1).optional(),
    })
    .refine(
      (source) => Object.values(source).filter((value) => value !== undefined).length === 1,
      'names no single source, write exactly one of file, env and value',
    )
    .transform((source, context): Secret => {
      try {
        return readSecret(source)
      } catch (error) {
        context.addIssue({ code: 'custom', message: error instanceof Error ? error.message : String(error) })
        return z.NEVER
      }
    })

  const identityProvider = createIdentityProviderSchema(secret)
  const credentialProvider = createCredentialProviderSchema(secret)

  return z.strictObject({
    tenant: z.strictObject({ id, name: text.optional() }),
    gateway: z.strictObject({
      /** URL of the MCP endpoint; an origin alone means origin + /mcp. */
      url: webUrl.transform(canonicalGatewayUrl).pipe(identifierUrl),
      /** Further `aud` values that the gateway accepts. */
      audiences: z.array(text).default([]),
    }),
    authorizationServer: z
      .strictObject({
        issuer: identifierUrl.optional(),
        signingAlgorithm: z.enum(['RS256', 'ES256']).default('RS256'),
        accessTokenLifetime: duration('15m', '24h'),
        refreshTokenLifetime: duration('30d', '365d'),
        /** How long a signing key signs before its successor takes over. */
        keyRotation: duration('90d', '365d'),
        dynamicClientRegistration: z.boolean().default(true),
        /** Clients whose id is the URL of a document about them. */
        clientIdMetadataDocuments: clientIdMetadataDocuments.prefault({}),
        clients: z.array(createRegisteredClient(secret)).default([]),
      })
      .prefault({}),
    identityProviders: z.array(identityProvider).min(1),
    clientWorkloads: z
      .array(
        z.strictObject({
          id,
          name: text.optional(),
          identities: z.array(clientIdentity).min(1),
          /** False: no person signs in, and what comes in is the client alone. */
          enforceSso: z.boolean().default(true),
          /** Identity providers whose people may use it; all where empty. */
          ssoIdentityProviders: z.array(id).default([]),
        }),
      )
      .default([]),
    trustProviders: z
      .array(
        z.strictObject({
          id,
          name: text.optional(),
          identityProvider: id.optional(),
          /** Its people come with the identity provider's own tokens. */
          oidcIdToken: directIssuer.optional(),
          matchRules: z.array(matchRule).default([]),
        }),
      )
      .default([]),
    serverWorkloads: z
      .array(
        z.strictObject({
          id,
          name: text.optional(),
          url: serverUrl,
          /** Absent: the id with "_" as "-". null: this one server's tools keep their names. */
          prefix: z
            .string()
            .regex(/^[A-Za-z0-9.-]{1,32}$/, 'is no prefix, use up to 32 letters, digits, "-" and "."')
            .nullish(),
          allowedNetworks: networks,
          /** Everyone gets the same tools: who has not connected an account yet is shown those that others got. */
          publicTools: z.boolean().default(false),
          /** What becomes of a tool whose definition changes after it was approved. */
          toolPinning: z
            .strictObject({
              mode: z.enum(['off', 'flag', 'hold']).default('hold'),
              /** Whether the first definition of a tool that anybody sees counts as approved. */
              newTools: z.enum(['approve', 'hold']).default('approve'),
            })
            .default({ mode: 'off', newTools: 'approve' }),
        }),
      )
      .default([]),
    /** Machines whose agent controllers prove by attestation what they are. */
    agentControllers: createAgentControllers(secret),
    credentialProviders: z.array(credentialProvider).default([]),
    /** A MaxMind-format database (City or Country), for conditions on place; relative to this file. */
    geoip: z.strictObject({ database: z.string().min(1).max(4096) }).optional(),
    accessConditions: z.array(accessCondition).default([]),
    contentSecurity: z.array(createContentSecurity(secret)).default([]),
    accessPolicies: z
      .array(
        z.strictObject({
          id,
          name: text.optional(),
          active: z.boolean().default(true),
          /** Client workload; with `server: gateway` alone. */
          client: id.optional(),
          /** `gateway`, or the server workload that may be called. */
          server: id,
          /** Whom it is for: people with a client, clients without a person, or both. */
          subjects: z
            .array(z.enum(['person', 'client']))
            .min(1)
            .default(['person']),
          trustProviders: z.array(id).default([]),
          accessConditions: z.array(id).default([]),
          contentSecurity: z.array(id).default([]),
          credentialProvider: id.optional(),
        }),
      )
      .default([]),
    /** How much of the audit trail is kept; the oldest goes first. */
    events: z
      .strictObject({
        retention: duration('30d', '3650d'),
        maxEvents: z.number().int().min(1000).max(50_000_000).default(500_000),
      })
      .prefault({}),
  })
}

type Parsed = z.infer<ReturnType<typeof createConfigSchema>>
type Named<T> = T extends { name?: string | undefined } ? Omit<T, 'name'> & { name: string } : T

/** The configuration as the services use it: every default filled in, every secret read, durations in seconds. */
export interface Config {
  tenant: Named<Parsed['tenant']>
  gateway: Parsed['gateway']
  authorizationServer: Omit<Parsed['authorizationServer'], 'issuer' | 'clients'> & {
    issuer: string
    clients: Named<Parsed['authorizationServer']['clients'][number]>[]
  }
  identityProviders: IdentityProviderConfig[]
  clientWorkloads: Named<Parsed['clientWorkloads'][number]>[]
  trustProviders: Named<Parsed['trustProviders'][number]>[]
  serverWorkloads: (Omit<Named<Parsed['serverWorkloads'][number]>, 'prefix'> & { prefix: string | null })[]
  agentControllers: Named<Parsed['agentControllers'][number]>[]
  credentialProviders: CredentialProviderConfig[]
  geoip?: Parsed['geoip']
  accessConditions: Named<Parsed['accessConditions'][number]>[]
  contentSecurity: Named<Parsed['contentSecurity'][number]>[]
  accessPolicies: Named<Parsed['accessPolicies'][number]>[]
  events: Parsed['events']
}

export type IdentityProviderConfig = Named<Parsed['identityProviders'][number]>
export type DirectoryConfig = Extract<IdentityProviderConfig, { type: 'directory' }>
export type OidcConfig = Extract<IdentityProviderConfig, { type: 'oidc' }>
export type SamlConfig = Extract<IdentityProviderConfig, { type: 'saml' }>
export type OAuth2Config = Extract<IdentityProviderConfig, { type: 'oauth2' }>
export type ServerWorkloadConfig = Config['serverWorkloads'][number]
export type CredentialProviderConfig = Named<Parsed['credentialProviders'][number]>
/** A credential provider of one type. */
export type ProviderConfig<T extends CredentialProviderConfig['type']> = Extract<
  CredentialProviderConfig,
  { type: T }
>
export type EnterpriseTokenConfig = ProviderConfig<'mcp-enterprise-managed-access-token'>
export type UserTokenConfig = ProviderConfig<'mcp-user-based-access-token'>
export type AccessPolicyConfig = Config['accessPolicies'][number]

/** Fills in what depends on other fields: names from ids, prefixes from ids, the issuer from the gateway's origin. */
export function complete(parsed: Parsed): Config {
  const named = <T extends { name?: string | undefined }>(value: T, fallback: string): Named<T> =>
    ({ ...value, name: value.name ?? fallback }) as Named<T>
  return {
    ...parsed,
    tenant: named(parsed.tenant, parsed.tenant.id),
    authorizationServer: {
      ...parsed.authorizationServer,
      issuer: parsed.authorizationServer.issuer ?? new URL(parsed.gateway.url).origin,
      clients: parsed.authorizationServer.clients.map((client) => named(client, client.clientId)),
    },
    identityProviders: parsed.identityProviders.map((entry) => named(entry, entry.id)),
    clientWorkloads: parsed.clientWorkloads.map((entry) => named(entry, entry.id)),
    trustProviders: parsed.trustProviders.map((entry) => named(entry, entry.id)),
    serverWorkloads: parsed.serverWorkloads.map((entry) => ({
      ...named(entry, entry.id),
      prefix: entry.prefix === undefined ? defaultPrefix(entry.id) : entry.prefix,
    })),
    agentControllers: parsed.agentControllers.map((entry) => named(entry, entry.id)),
    credentialProviders: parsed.credentialProviders.map((entry) => named(entry, entry.id)),
    accessConditions: parsed.accessConditions.map((entry) => named(entry, entry.id)),
    contentSecurity: parsed.contentSecurity.map((entry) => named(entry, entry.id)),
    accessPolicies: parsed.accessPolicies.map((entry) => named(entry, entry.id)),
  }
}

export function defaultPrefix(id: string): string {
  return id.replaceAll('_', '-')
}

export type { Parsed as ParsedConfig }

function canonicalGatewayUrl(value: string): string {
  const url = new URL(value)
  return url.pathname === '/' && !url.search ? `${url.origin}/mcp` : value
}
