import { decodeJwt } from 'jose'
import { test } from 'tap'
import type { CredentialAnswer } from '../../../shared/wire/credential.ts'
import { proves } from '../../requirements.ts'
import { type Plane, startPlane } from '../fleet/credential-rig.ts'
import { exchangeGrant } from './company-idp.ts'
import { scene } from './enterprise-rig.ts'
import { bearerOf, email } from './provider-rig.ts'

const payload = (claim: string): string => `$\{oidc.identityToken.decode.payload.${claim}}`
const [east, west] = ['https://east.example', 'https://west.example']

/** A plane that trusts the tokens of two other issuers, with one server behind `provider`. */
async function planeOf(t: { teardown(end: () => unknown): void }, provider: Record<string, unknown>) {
  const plane = await startPlane('https://server.example/mcp')
  t.teardown(() => plane.close())
  const trusted = (id: string, issuer: string) => ({
    id,
    oidcIdToken: { issuer, jwksUri: `${issuer}/jwks` },
  })
  await plane.apply({
    clientWorkloads: [
      { id: 'agents', identities: [{ type: 'oauthRedirectUri', value: '*' }] },
      { id: 'jobs', identities: [east, west].map((value) => ({ type: 'oidcIdTokenIssuer', value })) },
    ],
    trustProviders: [trusted('east', east), trusted('west', west)],
    serverWorkloads: [{ id: 'server', url: 'https://server.example/mcp' }],
    credentialProviders: [{ id: 'cp', ...provider }],
    accessPolicies: [
      { id: 'in', client: 'agents', server: 'gateway' },
      { id: 'jobs', client: 'jobs', server: 'gateway' },
      { id: 'use', server: 'server', credentialProvider: 'cp' },
    ],
  })
  return plane
}

const ask = (
  plane: Plane,
  issuer: string,
  subject: string,
  claims: Record<string, unknown>,
  serverId = 'server',
): Promise<CredentialAnswer> =>
  plane.plane.issue({
    issuer,
    subject,
    clientId: String(claims.client_id ?? ''),
    serverId,
    claims: { iss: issuer, sub: subject, ...claims },
  })

test('a token made from claims is for these claims of this issuer alone', async (t) => {
  proves(t, 'CRED-24')
  const plane = await planeOf(t, {
    type: 'oidc-id-token',
    subject: email,
    subjectType: 'dynamic',
    audience: 'https://server.example',
    lifetime: '12h',
    customClaims: [
      { key: 'agent', value: payload('client_id'), valueType: 'dynamic' },
      { key: 'groups', value: payload('groups'), valueType: 'dynamic' },
    ],
  })
  const agent = 'system:serviceaccount:default:agent'
  const of = async (issuer: string, claims: Record<string, unknown>) =>
    decodeJwt(bearerOf(await ask(plane, issuer, agent, claims)))
  const ann = { email: 'ann@east.example', client_id: 'one', groups: ['staff', 'admins'] }
  const first = await of(east, ann)
  t.match(first, { sub: 'ann@east.example', agent: 'one', groups: ['staff', 'admins'] })
  t.match(await of(west, { ...ann, email: 'bob@west.example' }), { sub: 'bob@west.example' })
  t.not((await of(west, ann)).jti, first.jti, 'the same words of another issuer are another token')
  t.match(await of(east, { ...ann, client_id: 'two' }), { agent: 'two' }, 'another agent')
  t.match(await of(east, { ...ann, groups: ['staff'] }), { groups: 'staff' }, 'a group that was lost')
  const none = await ask(plane, east, agent, { ...ann, groups: [] })
  t.match(none, { kind: 'denied', reason: 'claim_unresolved' }, 'all that were lost')
  t.equal((await of(east, { ...ann, iat: 5 })).jti, first.jti, 'what is not in it makes no other one')
})

test('no token of another issuer is somebody who signed in here, whatever it says', async (t) => {
  proves(t, 'CRED-99')
  const { plane, config, ask: askAnn, signIn, grants } = await scene(t)
  await plane.apply({
    ...config,
    clientWorkloads: [
      { id: 'agents', identities: [{ type: 'oauthRedirectUri', value: '*' }] },
      { id: 'jobs', identities: [{ type: 'oidcIdTokenIssuer', value: east }] },
    ],
    trustProviders: [{ id: 'east', oidcIdToken: { issuer: east, jwksUri: `${east}/jwks` } }],
    accessPolicies: [...config.accessPolicies, { id: 'jobs', client: 'jobs', server: 'gateway' }],
  })
  await signIn()
  t.match(await askAnn(), { kind: 'headers' })
  const asked = grants(exchangeGrant).length
  for (const more of [{}, { idp: 'corp' }, { idp: 'corp', subject_type: 'person' }]) {
    t.match(
      await ask(plane, east, 'ann@example.com', more, 'tracker'),
      { kind: 'denied', by: 'provider', reason: 'signed_in_elsewhere' },
      JSON.stringify(more),
    )
  }
  t.equal(grants(exchangeGrant).length, asked, 'the identity provider is asked nothing')
})

test('claims that only we may set are dropped from tokens of other issuers', async (t) => {
  proves(t, 'CRED-99')
  for (const name of ['idp', 'subject_type', 'client_workload', 'browser_ip']) {
    const plane = await planeOf(t, {
      type: 'oidc-id-token',
      subject: payload(name),
      subjectType: 'dynamic',
      audience: 'https://server.example',
    })
    const said = await ask(plane, east, 'ann', { [name]: 'corp' })
    t.match(said, { kind: 'denied', reason: 'subject_unresolved' }, name)
  }
})
