import t from 'tap'
import type { OidcConfig } from '../../../services/control-plane/config/schema.ts'
import { mapClaims } from '../../../services/control-plane/identity/mapping.ts'
import { proves } from '../../requirements.ts'

const provider = (over: Partial<OidcConfig>): OidcConfig => ({
  type: 'oidc',
  id: 'corp',
  name: 'Corp',
  issuer: 'https://idp.example',
  clientId: 'gateway',
  clientAuthentication: 'client_secret_post',
  authorizationParameters: {},
  domains: [],
  scopes: ['openid'],
  subjectClaim: 'sub',
  groupsClaims: ['groups'],
  groups: [],
  allowedTenants: [],
  allowedNetworks: [],
  identityAssertions: false,
  logoutEndsAgents: false,
  ...over,
})
const claims = { sub: 'mallory', email: 'Ann@corp.example' }
const tenants = ['11111111-2222-3333-4444-555555555555', '99999999-2222-3333-4444-555555555555']
const personal = '9188040d-6c67-4c5b-b112-36a304b66dad'
const entra = (issuer: string, allowedTenants: string[] = []) =>
  provider({
    preset: 'entra-id',
    subjectClaim: 'oid',
    issuer: `https://login.microsoftonline.com/${issuer}/v2.0`,
    allowedTenants,
  })
const inEntra = (tid: string | undefined, more: Record<string, unknown> = {}) => ({
  ...claims,
  oid: 'o-1',
  ...(tid === undefined ? {} : { tid }),
  ...more,
})

t.test('an address counts where its provider proved it, whoever the subject is', async (t) => {
  proves(t, 'IDP-09')
  const [own, other] = tenants as [string, string]
  const several = entra('organizations', tenants)
  for (const [name, config, said, email] of [
    ['not verified', provider({}), { ...claims, email_verified: false }, undefined],
    ['not a truth', provider({}), { ...claims, email_verified: 'no' }, undefined],
    ['nothing, as a text', provider({}), { ...claims, email_verified: '' }, undefined],
    ['verified', provider({}), { ...claims, email_verified: true }, 'ann@corp.example'],
    ['verified, as a text', provider({}), { ...claims, email_verified: 'true' }, 'ann@corp.example'],
    ['a provider that never says', provider({}), claims, 'ann@corp.example'],
    ['Okta, which need not say', provider({ preset: 'okta' }), claims, 'ann@corp.example'],
    ['Okta, denied', provider({ preset: 'okta' }), { ...claims, email_verified: false }, undefined],
    ['Keycloak, not said', provider({ preset: 'keycloak' }), claims, undefined],
    ['Google, not said', provider({ preset: 'google' }), claims, undefined],
    [
      'Auth0, verified',
      provider({ preset: 'auth0' }),
      { ...claims, email_verified: true },
      'ann@corp.example',
    ],
    [
      'another claim proves nothing',
      provider({}),
      { ...claims, email_verified: false, xms_edov: 1 },
      undefined,
    ],
    ['Entra, several tenants', several, inEntra(other), undefined],
    ['Entra, an owner of the domain', several, inEntra(other, { xms_edov: true }), 'ann@corp.example'],
    ['Entra, as older tokens say it', several, inEntra(other, { xms_edov: '1' }), 'ann@corp.example'],
    ['Entra, no owner of the domain', several, inEntra(other, { xms_edov: false }), undefined],
    ['Entra, one tenant listed', entra('organizations', [own]), inEntra(own), 'ann@corp.example'],
    ['Entra, one tenant’s issuer', entra(own), inEntra(own), 'ann@corp.example'],
    ['… and no owner of the domain', entra(own), inEntra(own, { xms_edov: 0 }), undefined],
    ['… and not verified', entra(own), inEntra(own, { email_verified: false, xms_edov: 1 }), undefined],
    ['… whose token names none', entra(own), inEntra(undefined), undefined],
    ['Entra, personal accounts', entra('consumers', [personal]), inEntra(personal), undefined],
  ] as const) {
    const identity = mapClaims(config, said)
    t.equal(identity.email, email, name)
    t.notOk(identity.subject.includes('corp.example'), `${name}: the sign-in goes on`)
    const asSubject = { ...config, subjectClaim: 'email' }
    if (email === undefined)
      t.throws(() => mapClaims(asSubject, said), { message: /not verified your email/ }, name)
    else t.equal(mapClaims(asSubject, said).subject.split(':').at(-1), email, name)
  }
})
