import { z } from 'zod'
import { email, id, networks, text, webUrl } from './fields.ts'
import { presetNames, presets } from './presets.ts'
import { Secret } from './secret.ts'

/** Where people sign in: the embedded directory, OpenID Connect, SAML 2.0, and OAuth 2.0 of GitHub. */
export function createIdentityProviderSchema<S extends z.ZodType<Secret>>(secret: S) {
  const inlineSecret = z
    .string()
    .min(1)
    .transform((value) => new Secret(value))
  const directoryUser = z
    .strictObject({
      email,
      name: text.optional(),
      groups: z.array(text).default([]),
      password: z.union([inlineSecret, secret]).optional(),
      passwordHash: z.string().min(1).optional(),
    })
    .refine((user) => (user.password === undefined) !== (user.passwordHash === undefined), {
      message: 'has no single password, write exactly one of password and passwordHash',
    })

  const common = {
    id,
    name: text.optional(),
    /** Mail domains whose people sign in here, in lower case: chosen by what they type. */
    domains: z.array(domain).max(1000).default([]),
  }

  const oidc = z
    .strictObject({
      ...common,
      type: z.literal('oidc'),
      /** Fills in what is known of a provider: see presets.ts. */
      preset: z.enum(presetNames).optional(),
      issuer: webUrl,
      clientId: text,
      clientSecret: secret.optional(),
      /** Private key, PKCS #8 PEM, of a client that authenticates by private_key_jwt (RFC 7523). */
      clientKey: secret.optional(),
      /** `kid` that the provider knows the key by; its SHA-256 thumbprint (RFC 7638) unless told. */
      clientKeyId: text.optional(),
      /** How a clientSecret is sent (OpenID Connect Core §9). */
      clientAuthentication: z
        .enum(['client_secret_post', 'client_secret_basic'])
        .default('client_secret_post'),
      scopes: z.array(text).optional(),
      /** Further parameters of the authorization request, as in prompt, hd or organization. */
      authorizationParameters: z
        .record(z.string().regex(/^[A-Za-z0-9_]{1,50}$/), text)
        .default({})
        .refine((parameters) => Object.keys(parameters).every((name) => !fixedParameters.has(name)), {
          message: 'names a parameter that the gateway sets itself, remove it',
        }),
      /** Claim that becomes our tokens' `sub`. */
      subjectClaim: text.optional(),
      /** Claims that groups are taken from; a dot steps into an object. */
      groupsClaims: z.array(text).max(10).optional(),
      /** `hd` of Google or `tid` of Entra, any of these: who else signs in is refused. */
      allowedTenants: z.array(text).max(1000).default([]),
      /** Where people are in many groups: those that policy names. All where empty. */
      groups: z.array(text).max(1000).default([]),
      /** Whether its identity assertions (ID-JAG) are taken as a grant: enterprise-managed authorization. */
      identityAssertions: z.boolean().default(false),
      /** Whether signing out at the provider (back-channel logout) ends agents too, beside browser sessions. */
      logoutEndsAgents: z.boolean().default(false),
      allowedNetworks: networks,
    })
    .superRefine((provider, context) => {
      const problem = (path: string, message: string): void =>
        context.addIssue({ code: 'custom', path: [path], message })
      if (provider.clientKey !== undefined && provider.clientSecret !== undefined) {
        problem('clientKey', 'is one way too many to authenticate, keep one of clientSecret and clientKey')
      }
      if (provider.preset === undefined) return
      const preset = presets[provider.preset]
      const wrong = URL.canParse(provider.issuer) && preset.issuerProblem?.(new URL(provider.issuer))
      if (wrong) problem('issuer', wrong)
      if (preset.needsTenants && provider.allowedTenants.length === 0 && sharedIssuer(provider.issuer)) {
        problem(
          'allowedTenants',
          'is empty, name the tenant ids whose people may sign in: this issuer is everybody’s',
        )
      }
    })
    .transform(({ scopes, subjectClaim, groupsClaims, ...provider }) => {
      const preset = provider.preset === undefined ? undefined : presets[provider.preset]
      return {
        ...provider,
        scopes: scopes ?? ['openid', 'profile', 'email', ...(preset?.scopes ?? [])],
        subjectClaim: subjectClaim ?? preset?.subjectClaim ?? 'email',
        groupsClaims: groupsClaims ?? preset?.groupsClaims ?? ['groups'],
      }
    })

  const saml = z
    .strictObject({
      ...common,
      type: z.literal('saml'),
      /** The provider's metadata document: exactly one of the two. */
      metadataUrl: webUrl.optional(),
      metadataXml: z.union([inlineSecret, secret]).optional(),
      /** The provider's entityID, where its metadata hold several. */
      idpEntityId: text.optional(),
      /** What the provider calls the gateway; `<issuer>/idp/<id>/metadata` unless told. */
      entityId: z.string().min(1).max(1024).optional(),
      /** Whether the assertion itself must be signed, not only the response around it. */
      wantAssertionsSigned: z.boolean().default(true),
      wantResponseSigned: z.boolean().default(false),
      /** Absent: where the provider's metadata ask for it. */
      signRequests: z.boolean().optional(),
      /** `urn:oasis:names:tc:SAML:1.1:nameid-format:emailAddress` and the like; absent: the provider chooses. */
      nameIdFormat: text.optional(),
      /** Attribute that becomes our tokens' `sub`; the NameID unless told. */
      subjectAttribute: text.optional(),
      emailAttribute: text.optional(),
      nameAttribute: text.optional(),
      groupsAttribute: text.optional(),
      /** As for an OpenID provider, of a logout request. */
      logoutEndsAgents: z.boolean().default(false),
      allowedNetworks: networks,
    })
    .refine(({ metadataUrl, metadataXml }) => (metadataUrl === undefined) !== (metadataXml === undefined), {
      message: 'has no single metadata document, write exactly one of metadataUrl and metadataXml',
    })

  const oauth2 = z.strictObject({
    ...common,
    type: z.literal('oauth2'),
    preset: z.literal('github'),
    /** github.com unless told; an Enterprise Server is its own origin. */
    baseUrl: webUrl.default('https://github.com'),
    clientId: text,
    clientSecret: secret,
    /** Organizations, any of which a person must be an active member of; anybody with an account where empty. */
    organizations: z.array(text).max(100).default([]),
    /** `login` names people by their account, `email` by their verified primary address. */
    subjectClaim: z.enum(['email', 'login', 'id']).default('email'),
    allowedNetworks: networks,
  })

  const directory = z.strictObject({
    ...common,
    type: z.literal('directory'),
    users: z.array(directoryUser).max(10_000).default([]),
  })
  return z.discriminatedUnion('type', [directory, oidc, saml, oauth2])
}

const domain = z
  .string()
  .regex(
    /^[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)+$/,
    'is no mail domain, write one like example.com in lower case',
  )

/** What makes an authorization request safe is not the configuration's to change. */
const fixedParameters = new Set([
  ...[
    'client_id',
    'client_secret',
    'redirect_uri',
    'response_type',
    'response_mode',
    'scope',
    'state',
    'nonce',
  ],
  ...['code_challenge', 'code_challenge_method', 'request', 'request_uri', 'login_hint', 'resource'],
])

/** An issuer of many tenants: its tokens are signed by one set of keys for all of them. */
function sharedIssuer(issuer: string): boolean {
  return /\/(common|organizations|consumers)\//.test(issuer)
}
