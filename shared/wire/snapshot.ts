import { z } from 'zod'
import { contentSecuritySchema } from './content-security.ts'

/**
 * What the control plane tells a gateway: everything a request is decided on, and no secret. Signed as a compact
 * JWS (RFC 7515) whose payload is this object; `version` only ever rises within a tenant.
 */
const jwk = z.record(z.string(), z.unknown())

export const issuerSchema = z.object({
  id: z.string(),
  /** `iss` of the tokens, compared byte for byte. */
  issuer: z.string(),
  /** `authorization-server`: ours; `trust-provider`: an IdP whose tokens are accepted directly. */
  kind: z.enum(['authorization-server', 'trust-provider']),
  /** Public keys. Present for our own authorization server; else fetched from `jwksUri`. */
  jwks: z.object({ keys: z.array(jwk) }).optional(),
  jwksUri: z.string().optional(),
  /** Allow-list; `none` and HMAC algorithms can not be named. */
  algorithms: z.array(z.enum(['RS256', 'ES256', 'PS256', 'EdDSA'])).min(1),
})

/** By what a client workload is known: see shared/client-match.ts. */
export const clientIdentityTypes = [
  'oauthRedirectUri',
  'oauthClientId',
  /** The same; the documented name of an id that an administrator gave the client. */
  'aembitClientId',
  'cimdClientId',
  'oauthScope',
  'oidcIdTokenIssuer',
  'oidcIdTokenSubject',
  'oidcIdTokenAudience',
  'oidcIdToken',
  /** An address or a CIDR block. */
  'sourceIPAddress',
] as const

export const clientWorkloadSchema = z.object({
  id: z.string(),
  name: z.string(),
  /** Any-of within an attribute, all attributes that are named: see shared/client-match.ts. */
  identities: z.array(
    z.object({
      type: z.enum(clientIdentityTypes),
      value: z.string(),
      /** The claim that `oidcIdToken` is about. */
      key: z.string().optional(),
    }),
  ),
  /** False: no person signs in; what comes in is the client alone. True where absent. */
  enforceSso: z.boolean().optional(),
  /** Identity providers whose people may use it; all where absent. */
  ssoIdentityProviders: z.array(z.string()).optional(),
})

export const matchRuleSchema = z.object({
  attribute: z.enum(['OidcIssuer', 'OidcSubject', 'OidcAudience', 'OidcCustom']),
  /** The claim's name where the attribute is OidcCustom. */
  key: z.string().optional(),
  /** Compared whole and case-sensitively; several rules of one attribute and key are any-of. */
  value: z.string(),
})

export const trustProviderSchema = z.object({
  id: z.string(),
  name: z.string(),
  /** Id of the identity provider the user must have signed in at; absent means any. */
  identityProvider: z.string().optional(),
  matchRules: z.array(matchRuleSchema),
})

export const serverWorkloadSchema = z.object({
  id: z.string(),
  name: z.string(),
  /** `<prefix>_<tool>`; null serves this one server unprefixed. */
  prefix: z
    .string()
    .regex(/^[A-Za-z0-9.-]{1,32}$/)
    .nullable(),
  /** MCP endpoint, http(s); or `stdio:<name>`, a local server that the operator of the gateway named. */
  url: z.string(),
  /** `none`: requests go out bare. `required`: sync is asked for a credential of the user first. */
  credential: z.enum(['none', 'required']),
  /** CIDR blocks in private or loopback space that this server may resolve to; the rest of such space is refused. */
  allowedNetworks: z.array(z.string()),
  /** Everyone gets the same tools: what one person was answered is shown to those who can not ask yet. */
  publicTools: z.boolean().optional(),
  /** Absent: definitions of tools are taken as they come. */
  toolPinning: z
    .object({
      /** What happens to a tool whose definition is none of the approved ones. */
      mode: z.enum(['flag', 'hold']),
      /** A tool of which no definition is approved yet. */
      newTools: z.enum(['approve', 'hold']),
      /** SHA-256 digests, base64url, by the server's own tool name. */
      approved: z.record(z.string(), z.array(z.string())),
    })
    .optional(),
})

export const accessPolicySchema = z.object({
  id: z.string(),
  name: z.string(),
  /** Rises with each change of this policy. */
  version: z.number().int(),
  active: z.boolean(),
  kind: z.enum(['client-to-gateway', 'gateway-to-server']),
  /** client-to-gateway: the client workload that may come in. Absent on gateway-to-server. */
  clientWorkload: z.string().optional(),
  /** gateway-to-server: the server that may be called. */
  serverWorkload: z.string().optional(),
  /** Whom it is for: a person with a client, or a client without a person. People alone where absent. */
  subjects: z.array(z.enum(['person', 'client'])).optional(),
  /** Every one of these must attest the user. */
  trustProviders: z.array(z.string()),
  /** Every one of these must hold at each request. */
  accessConditions: z.array(z.string()).optional(),
  /** Applied in this order: tool access control, then guards of content. */
  contentSecurity: z.array(z.string()).optional(),
})

const timeOfDay = z.string().regex(/^([01]\d|2[0-3]):[0-5]\d$/)

/** Holds on the wall clock of an IANA zone, inside any of the windows. */
export const timeConditionSchema = z.object({
  type: z.literal('AembitTimeCondition'),
  id: z.string(),
  name: z.string(),
  timezone: z.string(),
  schedule: z
    .array(
      z.object({
        startTime: timeOfDay,
        /** Not included; at or before startTime it is on the next day; 24:00 is the end of the day. */
        endTime: z.union([timeOfDay, z.literal('24:00')]),
        weekDay: z.object({
          name: z.enum(['Sunday', 'Monday', 'Tuesday', 'Wednesday', 'Thursday', 'Friday', 'Saturday']),
        }),
      }),
    )
    .min(1),
})

export const geoIpConditionSchema = z.object({
  type: z.literal('AembitGeoIPCondition'),
  id: z.string(),
  name: z.string(),
  locations: z
    .array(
      z.object({
        /** ISO 3166-1. */
        alpha2Code: z.string(),
        /** ISO 3166-2, with or without the country; none means the whole country. */
        subdivisions: z.array(z.string()).default([]),
      }),
    )
    .min(1),
})

/** Ours: an expression over user, client, server, tool and args that must be true. */
export const celConditionSchema = z.object({
  type: z.literal('CelCondition'),
  id: z.string(),
  name: z.string(),
  expression: z.string(),
})

export const accessConditionSchema = z.discriminatedUnion('type', [
  timeConditionSchema,
  geoIpConditionSchema,
  celConditionSchema,
])

export const snapshotSchema = z.object({
  format: z.literal(1),
  tenantId: z.string(),
  version: z.number().int().positive(),
  issuedAt: z.iso.datetime(),
  gateway: z.object({
    /** Canonical URL of the MCP endpoint: the RFC 9728 `resource`. */
    resource: z.string(),
    /** Accepted `aud` values, the resource among them. */
    audiences: z.array(z.string()).min(1),
    /** RFC 9728 `authorization_servers`. */
    authorizationServers: z.array(z.string()).min(1),
    scopes: z.array(z.string()),
  }),
  resourceSetId: z.string(),
  issuers: z.array(issuerSchema),
  clientWorkloads: z.array(clientWorkloadSchema),
  trustProviders: z.array(trustProviderSchema),
  servers: z.array(serverWorkloadSchema),
  policies: z.array(accessPolicySchema),
  accessConditions: z.array(accessConditionSchema).optional(),
  contentSecurity: z.array(contentSecuritySchema).optional(),
  /** Acts on tokens issued at or before `at` (seconds since the epoch) that match every field given. */
  revocations: z.array(
    z.object({
      at: z.number().int(),
      subject: z.string().optional(),
      clientId: z.string().optional(),
      jti: z.string().optional(),
      /** Claim `grant` of our access tokens: everything that came of one authorization. */
      grant: z.string().optional(),
    }),
  ),
  /** The kill switch: refused whatever token or policy says, until an administrator takes it back. */
  blocks: z
    .array(
      z.object({
        kind: z.enum(['user', 'client', 'server', 'token']),
        /** `sub`; OAuth client id or client workload id; server workload id; `jti`. */
        value: z.string(),
      }),
    )
    .optional(),
})

export type Snapshot = z.infer<typeof snapshotSchema>
export type Issuer = z.infer<typeof issuerSchema>
export type ClientWorkload = z.infer<typeof clientWorkloadSchema>
export type MatchRule = z.infer<typeof matchRuleSchema>
export type TrustProvider = z.infer<typeof trustProviderSchema>
export type ServerWorkload = z.infer<typeof serverWorkloadSchema>
export type Block = NonNullable<Snapshot['blocks']>[number]
export type AccessPolicy = z.infer<typeof accessPolicySchema>
export type AccessCondition = z.infer<typeof accessConditionSchema>
export type TimeCondition = z.infer<typeof timeConditionSchema>
export type GeoIpCondition = z.infer<typeof geoIpConditionSchema>
