import { BlockList } from 'node:net'
import { z } from 'zod'
import { Secret, type SecretReader } from './secret.ts'

/**
 * The YAML file that configures a control plane. Unknown keys are refused. What one object says is checked here;
 * what several objects say together (references, duplicates) in references.ts.
 */
const units: Record<string, number> = { s: 1, m: 60, h: 3600, d: 86_400 }

/** `90s`, `15m`, `12h`, `30d` → seconds. */
const duration = (fallback: string, max: string) =>
  z
    .string()
    .regex(/^[1-9]\d{0,6}[smhd]$/, 'is no duration, write a number and a unit, as in 90s, 15m, 12h or 30d')
    .transform(seconds)
    .refine((value) => value <= seconds(max), `is longer than ${max}, choose a shorter one`)
    .prefault(fallback)

function seconds(text: string): number {
  return Number.parseInt(text, 10) * (units[text.at(-1) ?? 's'] ?? 1)
}

const id = z
  .string()
  .regex(/^[A-Za-z0-9][A-Za-z0-9_.-]{0,62}$/, 'is no id, use up to 63 letters, digits, "-", "_" and "."')
const text = z.string().min(1, 'is empty, write a text').max(200, 'is longer than 200 characters, shorten it')
const email = z
  .string()
  .max(254)
  .regex(/^[^\s@]+@[^\s@]+$/, 'is no e-mail address, write one like ann@example.com')

const cidr = z
  .string()
  .refine(isCidr, 'is no CIDR block, write one like 10.1.0.0/16, 127.0.0.1/32 or ::1/128')
const networks = z.array(cidr).default([])

/** http(s), no user information, no fragment: the rest of what makes a URL fit depends on its use. */
const webUrl = z
  .string()
  .refine(isWebUrl, 'is no URL this can use, write https://host/path without user name and without #fragment')

/** No trailing slash, no query: compared byte for byte with `iss` and `aud` (RFC 8414 §2, RFC 9728 §1.2). */
const identifierUrl = webUrl.refine(
  (value) => !isWebUrl(value) || (!new URL(value).search && !value.endsWith('/')),
  'is compared byte for byte, write it without a query and without a trailing slash',
)

const headerName = z
  .string()
  .regex(/^[!#$%&'*+.^_`|~0-9A-Za-z-]{1,64}$/, 'is no HTTP header name, write one like X-Api-Key')
  .refine(
    (name) => !hopHeaders.has(name.toLowerCase()),
    'is a header the gateway writes itself, choose another',
  )
const hopHeaders = new Set([
  'connection',
  'content-length',
  'content-type',
  'host',
  'mcp-method',
  'mcp-name',
  'mcp-protocol-version',
  'mcp-session-id',
  'transfer-encoding',
  'upgrade',
])

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

  const directoryUser = z
    .strictObject({
      email,
      name: text.optional(),
      groups: z.array(text).default([]),
      password: z
        .union([
          z
            .string()
            .min(1)
            .transform((value) => new Secret(value)),
          secret,
        ])
        .optional(),
      passwordHash: z.string().min(1).optional(),
    })
    .refine((user) => (user.password === undefined) !== (user.passwordHash === undefined), {
      message: 'has no single password, write exactly one of password and passwordHash',
    })

  const identityProvider = z.discriminatedUnion('type', [
    z.strictObject({
      id,
      name: text.optional(),
      type: z.literal('directory'),
      users: z.array(directoryUser).max(10_000).default([]),
    }),
    z.strictObject({
      id,
      name: text.optional(),
      type: z.literal('oidc'),
      issuer: webUrl,
      clientId: text,
      clientSecret: secret.optional(),
      scopes: z.array(text).default(['openid', 'profile', 'email']),
      /** Claim that becomes our tokens' `sub`. */
      subjectClaim: text.default('email'),
      allowedNetworks: networks,
    }),
  ])

  const credentialProvider = z.discriminatedUnion('type', [
    z.strictObject({ id, name: text.optional(), type: z.literal('none') }),
    z.strictObject({
      id,
      name: text.optional(),
      type: z.literal('apikey'),
      header: z.strictObject({
        name: headerName,
        value: secret,
        scheme: z
          .string()
          .regex(/^\S{1,40}$/)
          .optional(),
      }),
    }),
    z.strictObject({
      id,
      name: text.optional(),
      type: z.literal('mcp-user-based-access-token'),
      /** Where discovery starts; the server workload's url unless told. */
      mcpServerUrl: webUrl.optional(),
      /** Absent: registers itself at the server's authorization server (RFC 7591). */
      clientId: text.optional(),
      clientSecret: secret.optional(),
      /** Absent: what the server asks for, else what it supports, else none. */
      scopes: z.array(text).optional(),
      /** RFC 8707 value; what the server's metadata says unless told. */
      resource: webUrl.optional(),
      /** Private networks that this provider's authorization server may be in. */
      allowedNetworks: networks,
    }),
  ])

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
        dynamicClientRegistration: z.boolean().default(true),
        clients: z
          .array(
            z.strictObject({
              clientId: text,
              name: text.optional(),
              clientSecret: secret.optional(),
              redirectUris: z.array(z.string().min(1)).min(1),
            }),
          )
          .default([]),
      })
      .prefault({}),
    identityProviders: z.array(identityProvider).min(1),
    clientWorkloads: z
      .array(
        z.strictObject({
          id,
          name: text.optional(),
          identities: z
            .array(
              z
                .strictObject({
                  type: z.enum(['oauthRedirectUri', 'oauthClientId', 'cimdClientId']),
                  value: z.string().min(1).max(2000),
                })
                .refine(
                  (identity) => identity.type !== 'oauthRedirectUri' || isRedirectPattern(identity.value),
                  {
                    path: ['value'],
                    message:
                      'is no redirect URI pattern, write a URI, "*" alone, or "*" as the port or after a path, as in https://host/path/*',
                  },
                ),
            )
            .min(1),
        }),
      )
      .default([]),
    trustProviders: z
      .array(
        z.strictObject({
          id,
          name: text.optional(),
          identityProvider: id.optional(),
          matchRules: z.array(matchRule).default([]),
        }),
      )
      .default([]),
    serverWorkloads: z
      .array(
        z.strictObject({
          id,
          name: text.optional(),
          url: webUrl,
          /** Absent: the id with "_" as "-". null: this one server's tools keep their names. */
          prefix: z
            .string()
            .regex(/^[A-Za-z0-9.-]{1,32}$/, 'is no prefix, use up to 32 letters, digits, "-" and "."')
            .nullish(),
          allowedNetworks: networks,
        }),
      )
      .default([]),
    credentialProviders: z.array(credentialProvider).default([]),
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
          trustProviders: z.array(id).default([]),
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
  credentialProviders: CredentialProviderConfig[]
  accessPolicies: Named<Parsed['accessPolicies'][number]>[]
  events: Parsed['events']
}

export type IdentityProviderConfig = Named<Parsed['identityProviders'][number]>
export type DirectoryConfig = Extract<IdentityProviderConfig, { type: 'directory' }>
export type OidcConfig = Extract<IdentityProviderConfig, { type: 'oidc' }>
export type ServerWorkloadConfig = Config['serverWorkloads'][number]
export type CredentialProviderConfig = Named<Parsed['credentialProviders'][number]>
export type ApiKeyConfig = Extract<CredentialProviderConfig, { type: 'apikey' }>
export type UserTokenConfig = Extract<CredentialProviderConfig, { type: 'mcp-user-based-access-token' }>
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
    credentialProviders: parsed.credentialProviders.map((entry) => named(entry, entry.id)),
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

function isWebUrl(value: string): boolean {
  if (!URL.canParse(value)) return false
  const url = new URL(value)
  return ['http:', 'https:'].includes(url.protocol) && !url.username && !url.password && !value.includes('#')
}

function isCidr(value: string): boolean {
  const [address = '', bits = '', rest] = value.split('/')
  if (rest !== undefined || !/^\d{1,3}$/.test(bits)) return false
  try {
    new BlockList().addSubnet(address, Number(bits), address.includes(':') ? 'ipv6' : 'ipv4')
    return true
  } catch {
    return false
  }
}

/**
 * `*` alone; or a URI whose only stars are a whole port and the last character of a path. A star that could swallow
 * a part of the host ("https://good.example*") is refused.
 */
function isRedirectPattern(value: string): boolean {
  if (value === '*') return true
  const plain = value.replace(/^(https?:\/\/[^/:*]+):\*(?=\/|$)/, '$1').replace(/\*$/, '')
  if (plain.includes('*') || plain.includes('#') || !URL.canParse(plain)) return false
  return !value.endsWith('*') || /^[a-z][a-z0-9+.-]*:\/\/[^/]*\//i.test(plain) || /:\*$/.test(value)
}
