import { z } from 'zod'
import { isSpiffeId } from '../../../shared/spiffe.ts'
import {
  algorithmType,
  customClaims,
  customParameters,
  endpoints,
  endpointsFit,
  endpointsProblem,
  header,
  ownToken,
  queryName,
  scheme,
  scopes,
  subject,
  subjectFits,
  subjectProblem,
} from './credential-fields.ts'
import { duration, headerName, id, networks, text, webUrl } from './fields.ts'
import type { Secret } from './secret.ts'

/**
 * How the gateway gets in at a server, by `type`. The names are those of the public API and its Terraform provider, in
 * camel case. `secret` reads one from a file, the environment or the configuration itself.
 */
export function createCredentialProviderSchema(secret: z.ZodType<Secret>) {
  const common = { id, name: text.optional() }
  /** Private networks that the addresses of this provider may be in. */
  const reach = { allowedNetworks: networks }

  return z.discriminatedUnion('type', [
    z.strictObject({ ...common, type: z.literal('none') }),
    z
      .strictObject({
        ...common,
        type: z.literal('apikey'),
        header: z.strictObject({ name: headerName, value: secret, scheme: scheme.optional() }).optional(),
        query: z.strictObject({ name: queryName, value: secret }).optional(),
      })
      .refine((value) => (value.header === undefined) !== (value.query === undefined), {
        message: 'has no single place for its key, write exactly one of header and query',
      }),
    z.strictObject({
      ...common,
      type: z.literal('username-password'),
      username: z
        .string()
        .min(1)
        .max(200)
        // RFC 7617 §2: the first colon ends the user name.
        .regex(/^[^:\p{Cc}]+$/u, 'is no user name of HTTP Basic, leave out ":" and control characters'),
      password: secret,
    }),
    z
      .strictObject({
        ...common,
        type: z.literal('mcp-user-based-access-token'),
        /** Where discovery starts; the server workload's url unless told. */
        mcpServerUrl: webUrl.optional(),
        /** Absent: our client metadata document, or registering there (RFC 7591). */
        clientId: text.optional(),
        clientSecret: secret.optional(),
        /** Our client id is the address of our metadata document, where the server takes such; false: registers there. */
        clientIdMetadataDocument: z.boolean().default(true),
        /** Absent: what the server asks for, else what it supports, else none. */
        scopes: scopes.optional(),
        /** RFC 8707 value; what the server's metadata says unless told. */
        resource: webUrl.optional(),
        ...endpoints,
        isPkceRequired: z.boolean().default(true),
        customParameters,
        ...reach,
      })
      .refine(endpointsFit, endpointsProblem)
      .refine((value) => value.oauthTokenUrl === undefined || value.clientId !== undefined, {
        path: ['clientId'],
        message: 'is missing, add the client id that is registered at oauthTokenUrl',
      }),
    z
      .strictObject({
        ...common,
        type: z.literal('mcp-enterprise-managed-access-token'),
        /** Who makes the assertion: the identity provider that the person signed in at. */
        assertionIssuerMode: z.literal('Corporate Identity Provider').default('Corporate Identity Provider'),
        /** An identity provider of type oidc whose scopes have offline_access. */
        identityProvider: id,
        /** Where discovery starts; the server workload's url unless told. */
        mcpServerUrl: webUrl.optional(),
        /** Issuer of the MCP server's authorization server: the audience of the assertion. Given with oauthTokenUrl. */
        oidcIssuerUrl: webUrl.optional(),
        oauthTokenUrl: webUrl.optional(),
        /** Absent: registers there (RFC 7591). */
        clientId: text.optional(),
        clientSecret: secret.optional(),
        /** Absent: what the server asks for, else what it supports, else none. */
        scopes: scopes.optional(),
        /** RFC 8707 value; what the server's metadata says unless told. */
        resource: webUrl.optional(),
        ...reach,
      })
      .refine((value) => (value.oidcIssuerUrl === undefined) === (value.oauthTokenUrl === undefined), {
        path: ['oauthTokenUrl'],
        message: 'goes together with oidcIssuerUrl, write both or leave both to discovery',
      })
      .refine((value) => value.oauthTokenUrl === undefined || value.clientId !== undefined, {
        path: ['clientId'],
        message: 'is missing, add the client id that is registered at oauthTokenUrl',
      }),
    z
      .strictObject({
        ...common,
        type: z.literal('oauth-authorization-code'),
        clientId: text,
        clientSecret: secret.optional(),
        scopes: scopes.default([]),
        /** Issuer, or the whole address of its metadata document. */
        oauthDiscoveryUrl: webUrl.optional(),
        ...endpoints,
        isPkceRequired: z.boolean().default(true),
        /** How long an authorization counts before an administrator has to give it again; refreshing does not extend it. */
        lifetime: duration('365d', '3650d'),
        customParameters,
        header: header.optional(),
        ...reach,
      })
      .refine(endpointsFit, endpointsProblem)
      .refine((value) => (value.oauthTokenUrl === undefined) !== (value.oauthDiscoveryUrl === undefined), {
        path: ['oauthDiscoveryUrl'],
        message: 'is one of two ways, write it or oauthAuthorizationUrl and oauthTokenUrl',
      }),
    z.strictObject({
      ...common,
      type: z.literal('oauth-client-credential'),
      tokenUrl: webUrl,
      clientId: text,
      clientSecret: secret,
      scopes: scopes.default([]),
      /** RFC 6749 §2.3.1: in the Authorization header, or in the form. */
      credentialStyle: z.enum(['authHeader', 'bodyForm']).default('authHeader'),
      resource: webUrl.optional(),
      customParameters,
      header: header.optional(),
      ...reach,
    }),
    z
      .strictObject({
        ...common,
        type: z.literal('oidc-id-token'),
        ...ownToken,
      })
      .refine(subjectFits, subjectProblem),
    z
      .strictObject({
        ...common,
        type: z.literal('jwt-svid-token'),
        ...ownToken,
      })
      .refine(subjectFits, subjectProblem)
      .refine((value) => value.subjectType === 'dynamic' || isSpiffeId(value.subject), {
        path: ['subject'],
        message: 'is no SPIFFE ID, write one like spiffe://example.com/agents',
      })
      .refine((value) => value.subject.startsWith('spiffe://'), {
        path: ['subject'],
        message: 'becomes no SPIFFE ID, begin it with spiffe://',
      }),
    z.strictObject({
      ...common,
      type: z.literal('aembit-access-token'),
      /** What the token may do at the administration API. */
      roleId: z.enum(['auditor', 'administrator']),
      lifetime: duration('15m', '1h'),
    }),
    z
      .strictObject({
        ...common,
        type: z.literal('vaultClientToken'),
        vaultHost: z
          .string()
          .regex(/^[A-Za-z0-9.-]{1,253}$/, 'is no host name, write one like vault.example.com'),
        vaultPort: z.number().int().min(1).max(65_535).default(8200),
        vaultTls: z.boolean().default(true),
        /** Where the JWT auth method is mounted. */
        vaultPath: z
          .string()
          .regex(/^[A-Za-z0-9_-]+(\/[A-Za-z0-9_-]+)*$/, 'is no mount path, write one like jwt or teams/jwt')
          .default('jwt'),
        vaultRole: text.optional(),
        vaultNamespace: z
          .string()
          .min(1)
          .max(200)
          .regex(/^[\x21-\x7e]+$/)
          .optional(),
        vaultForwarding: z.enum(['conditional', 'unconditional']).optional(),
        ...subject,
        audience: text.optional(),
        algorithmType,
        /** Of the assertion that is exchanged; the client token lives as long as Vault says. */
        lifetime: duration('5m', '1h'),
        customClaims,
        header: header.optional(),
        ...reach,
      })
      .refine(subjectFits, subjectProblem),
    z
      .strictObject({
        ...common,
        type: z.literal('aws-sts-oidc'),
        roleArn: z
          .string()
          .regex(
            /^arn:aws[a-z-]*:iam::\d{12}:role\/[\w+=,.@/-]{1,512}$/,
            'is no role, write arn:aws:iam::<account>:role/<name>',
          ),
        ...subject,
        audience: text.default('sts.amazonaws.com'),
        lifetime: duration('1h', '12h'),
        region: z.string().regex(/^[a-z]{2}(-[a-z]+)+-\d$/, 'is no region, write one like eu-central-1'),
        /** Signing name of the service that the MCP server stands behind, as in execute-api or bedrock-agentcore. */
        service: z.string().regex(/^[a-z0-9-]{1,64}$/, 'is no service, write one like execute-api'),
        /** Regional address of STS unless told. */
        stsUrl: webUrl.optional(),
        algorithmType,
        ...reach,
      })
      .refine(subjectFits, subjectProblem)
      .refine(({ lifetime }) => lifetime >= 900, {
        path: ['lifetime'],
        message: 'is shorter than what AWS gives, write at least 15m',
      }),
    z
      .strictObject({
        ...common,
        type: z.literal('gcp-identity-federation'),
        /** `//iam.googleapis.com/projects/<n>/locations/global/workloadIdentityPools/<pool>/providers/<provider>` */
        audience: text,
        serviceAccount: z
          .string()
          .regex(/^[^\s/@]+@[^\s/@]+$/, 'is no service account, write its e-mail address')
          .optional(),
        ...subject,
        scopes: scopes.min(1).default(['https://www.googleapis.com/auth/cloud-platform']),
        lifetime: duration('1h', '12h'),
        stsUrl: webUrl.default('https://sts.googleapis.com/v1/token'),
        iamCredentialsUrl: webUrl.default('https://iamcredentials.googleapis.com'),
        algorithmType,
        ...reach,
      })
      .refine(subjectFits, subjectProblem),
    z
      .strictObject({
        ...common,
        type: z.literal('azure-entra-federation'),
        azureTenant: z.string().regex(/^[A-Za-z0-9.-]{1,253}$/, 'is no tenant, write its id or domain'),
        clientId: text,
        audience: text.default('api://AzureADTokenExchange'),
        ...subject,
        scope: text,
        authorityUrl: webUrl.default('https://login.microsoftonline.com'),
        ...reach,
      })
      .refine(subjectFits, subjectProblem),
  ])
}
