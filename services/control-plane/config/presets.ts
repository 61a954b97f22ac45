/** What is peculiar about a well-known OpenID provider; everything else is as OpenID Connect says. */
export interface Preset {
  /** Beside openid, profile and email. */
  readonly scopes?: readonly string[]
  readonly subjectClaim?: string
  readonly groupsClaims?: readonly string[]
  /** What is wrong with an issuer of this provider, and what to write. */
  readonly issuerProblem?: (issuer: URL) => string | undefined
  /** `{tenantid}` in the issuer of its metadata stands for the tenant of the token. */
  readonly tenantIssuer?: boolean
  /** An issuer of many tenants needs a list of those that are let in. */
  readonly needsTenants?: boolean
  /** The claim that names the person's organization there. */
  readonly tenantClaim?: string
  /** Whether an address without `email_verified` counts as one that its owner proved. */
  readonly trustsEmail: boolean
  /** A claim that says whether the address is proven, beside `email_verified`. */
  readonly emailProof?: string
  /** Whether an ID token without groups may say that there were too many of them for it. */
  readonly groupsOverage?: boolean
}

export const presetNames = ['entra-id', 'google', 'okta', 'auth0', 'keycloak'] as const
export type PresetName = (typeof presetNames)[number]

export const presets: Readonly<Record<PresetName, Preset>> = {
  // v2.0 endpoint. `email` of Entra can be set by whoever administers a tenant and is marked as verified on request alone
  // (optional claim xms_edov), so a person is named by tenant and object id.
  'entra-id': {
    subjectClaim: 'oid',
    groupsClaims: ['groups', 'roles'],
    issuerProblem: (issuer) =>
      /^\/[^/]+\/v2\.0\/?$/.test(issuer.pathname)
        ? undefined
        : 'is not of the v2.0 endpoint, write https://login.microsoftonline.com/<tenant id>/v2.0',
    tenantIssuer: true,
    needsTenants: true,
    tenantClaim: 'tid',
    trustsEmail: false,
    emailProof: 'xms_edov',
    groupsOverage: true,
  },
  google: {
    groupsClaims: [],
    issuerProblem: (issuer) =>
      issuer.href === 'https://accounts.google.com/' || issuer.hostname === '127.0.0.1'
        ? undefined
        : 'is not Google, write https://accounts.google.com',
    tenantClaim: 'hd',
    trustsEmail: false,
  },
  // The org authorization server is the bare domain; a custom one is /oauth2/<id>. Groups need the scope of that name.
  okta: {
    scopes: ['groups'],
    issuerProblem: (issuer) =>
      issuer.pathname === '/' || /^\/oauth2\/[A-Za-z0-9]+$/.test(issuer.pathname)
        ? undefined
        : 'is no authorization server of Okta, write https://<domain> or https://<domain>/oauth2/<id>',
    trustsEmail: true,
  },
  // Its issuer ends in a slash. Claims of its own carry a namespace, a URL that the tenant chose.
  auth0: {
    groupsClaims: ['groups', 'roles', '*/groups', '*/roles'],
    issuerProblem: (issuer) =>
      issuer.pathname === '/' ? undefined : 'has a path, write https://<tenant>.<region>.auth0.com/',
    tenantClaim: 'org_id',
    trustsEmail: false,
  },
  keycloak: {
    groupsClaims: ['groups', 'realm_access.roles'],
    issuerProblem: (issuer) =>
      /\/realms\/[^/]+$/.test(issuer.pathname)
        ? undefined
        : 'is no realm of Keycloak, write https://<host>/realms/<realm>',
    trustsEmail: false,
  },
}
