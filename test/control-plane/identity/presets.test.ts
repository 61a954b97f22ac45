import { generateKeyPairSync } from 'node:crypto'
import { decodeJwt, decodeProtectedHeader, type JWTPayload } from 'jose'
import t, { type Test } from 'tap'
import { proves } from '../../requirements.ts'
import { type Answer, Browser } from './browser.ts'
import { createAnswers, discovery, github, recordOpenId } from './recorded-providers.ts'
import { authorizeUrl, pkce, register, startWorld, type World } from './world.ts'

const secret = { value: 'idp-secret' }

async function scene(t: Test, provider: Record<string, unknown>, answers = createAnswers()) {
  const world = await startWorld({
    idpFetch: answers.idpFetch,
    config: {
      identityProviders: [{ id: 'corp', name: 'Corp', clientId: 'app-1', clientSecret: secret, ...provider }],
    },
  })
  t.teardown(() => world.close())
  return { world, answers, begin: () => begin(world) }
}

async function begin(world: World, fields: Record<string, string> = {}) {
  const browser = new Browser()
  const client = await register(world)
  const page = await browser.follow(
    await browser.get(authorizeUrl(world, client.client_id, pkce().challenge)),
  )
  const away = await browser.submit(page, '/idp', fields)
  return { browser, page, away, sent: new URL(away.location ?? 'http://none').searchParams }
}

type Recorded = Awaited<ReturnType<typeof recordOpenId>>

/** One whole sign-in; the answer of our callback. */
async function signIn(world: World, idp: Recorded, claims: JWTPayload, iss?: string): Promise<Answer> {
  const { browser, away } = await begin(world)
  const query = await idp.approve(away.location ?? '', claims, iss)
  return browser.get(`${world.issuer}/idp/corp/callback?${query}`)
}
const refusal = (world: World): string =>
  String(world.logs.findLast(({ event }) => event === 'sign_in.failed')?.detail)

t.test('Entra ID: object id, tenants, groups that do not fit, no resource', async (t) => {
  proves(t, 'IDP-01')
  const tenant = '11111111-2222-3333-4444-555555555555'
  const other = '99999999-2222-3333-4444-555555555555'
  const base = { type: 'oidc', preset: 'entra-id' }
  const answers = createAnswers()
  const idp = await recordOpenId(
    answers,
    discovery.entra('organizations'),
    'https://login.microsoftonline.com/organizations/v2.0/.well-known/openid-configuration',
  )
  const { world } = await scene(
    t,
    {
      ...base,
      issuer: 'https://login.microsoftonline.com/organizations/v2.0',
      allowedTenants: [tenant],
      groups: ['g-7'],
    },
    answers,
  )
  const person = { sub: 'pairwise', oid: 'o-1', tid: tenant, email: 'ann@example.com', name: 'Ann' }
  answers.routes.set('https://graph.microsoft.com/oidc/userinfo', () => ({ sub: 'pairwise' }))
  const issuerOf = (tid: string) => `https://login.microsoftonline.com/${tid}/v2.0`
  const { sent } = await begin(world)
  t.equal(sent.get('resource'), null, 'Entra refuses RFC 8707')
  t.equal(sent.get('client_id'), 'app-1')
  t.equal(
    (await signIn(world, idp, { ...person, groups: ['g-7', 'g-8'] }, issuerOf(tenant))).status,
    303,
    refusal(world),
  )
  t.match(world.plane.accounts.find(`${tenant}:o-1`), { groups: ['g-7'], email: 'ann@example.com' })
  const foreign = await signIn(world, idp, { ...person, tid: other }, issuerOf(other))
  t.match(foreign.text, /organization that is not let in/)
  const lying = await signIn(world, idp, { ...person, tid: tenant }, issuerOf(other))
  t.equal(lying.status, 400, 'iss and tid are of one tenant')
  t.match(lying.text, /could not be verified/)

  answers.routes.set('https://graph.microsoft.com/v1.0/me/getMemberObjects', ({ authorization }) =>
    authorization === 'Bearer idp-access-token'
      ? { value: ['g-7', ...Array.from({ length: 400 }, (_, n) => `x-${n}`)] }
      : new Response('', { status: 401 }),
  )
  const overage = {
    ...person,
    _claim_names: { groups: 'src1' },
    _claim_sources: { src1: { endpoint: 'https://evil.example/' } },
  }
  t.equal((await signIn(world, idp, overage, issuerOf(tenant))).status, 303, refusal(world))
  t.same(world.plane.accounts.find(`${tenant}:o-1`)?.groups, ['g-7'], 'read from Microsoft Graph')
  t.notOk(
    answers.asked.some(({ url }) => url.includes('evil.example')),
    'never from the address in the token',
  )
  answers.routes.delete('https://graph.microsoft.com/v1.0/me/getMemberObjects')
  t.match(
    (await signIn(world, idp, overage, issuerOf(tenant))).text,
    /rest could not be read/,
    'fails closed',
  )

  for (const [over, why] of [
    [{ issuer: 'https://login.microsoftonline.com/common/v2.0' }, /allowedTenants/],
    [{ issuer: `https://login.microsoftonline.com/${tenant}` }, /v2\.0 endpoint/],
  ] as const) {
    await t.rejects(scene(t, { ...base, ...over }), { code: 'config.invalid', detail: why })
  }

  const own = createAnswers()
  const ownIdp = await recordOpenId(own, discovery.entra(tenant))
  own.routes.set('https://graph.microsoft.com/oidc/userinfo', () => ({ sub: 'pairwise' }))
  const single = await scene(t, { ...base, issuer: `https://login.microsoftonline.com/${tenant}/v2.0` }, own)
  t.equal((await signIn(single.world, ownIdp, { ...person, groups: [] })).status, 303, refusal(single.world))
  t.match(single.world.plane.accounts.find('o-1'), { email: 'ann@example.com' }, 'one tenant needs no prefix')
})

t.test('Google: hd, no groups, proven addresses alone', async (t) => {
  proves(t, 'IDP-02')
  const answers = createAnswers()
  const idp = await recordOpenId(answers, discovery.google)
  const { world } = await scene(
    t,
    {
      type: 'oidc',
      preset: 'google',
      issuer: 'https://accounts.google.com',
      allowedTenants: ['example.com'],
      authorizationParameters: { hd: 'example.com', prompt: 'select_account' },
    },
    answers,
  )
  const { sent } = await begin(world)
  t.equal(sent.get('hd'), 'example.com')
  const person = { sub: '10769', email: 'ann@example.com', email_verified: true, hd: 'example.com' }
  t.equal((await signIn(world, idp, person)).status, 303, refusal(world))
  t.match((await signIn(world, idp, { ...person, hd: undefined })).text, /not let in/, 'a private account')
  t.match((await signIn(world, idp, { ...person, hd: 'evil.example' })).text, /not let in/)
  t.match(
    (await signIn(world, idp, { ...person, email_verified: undefined })).text,
    /not verified your email/,
  )
})

t.test('Okta: the org server and a custom one', async (t) => {
  proves(t, 'IDP-03')
  for (const issuer of ['https://example.okta.com', 'https://example.okta.com/oauth2/default']) {
    const answers = createAnswers()
    const recording = discovery.okta(issuer)
    const { document } = recording
    const idp = await recordOpenId(answers, recording)
    // The org server puts little into ID tokens; the rest is at userinfo.
    answers.routes.set(document.userinfo_endpoint, () => ({
      sub: '00u1',
      email: 'ann@example.com',
      groups: ['Everyone'],
    }))
    const { world } = await scene(t, { type: 'oidc', preset: 'okta', issuer }, answers)
    const { sent } = await begin(world)
    t.match(sent.get('scope'), /\bgroups\b/)
    t.equal((await signIn(world, idp, { sub: '00u1' })).status, 303, refusal(world))
    t.match(world.plane.accounts.find('ann@example.com'), { groups: ['Everyone'] })
  }
})

t.test('Auth0 and Keycloak: where groups are', async (t) => {
  proves(t, 'IDP-04')
  const person = { sub: 'auth0|1', email: 'ann@example.com', email_verified: true }
  for (const [preset, recording, claims] of [
    ['auth0', discovery.auth0, { 'https://example.com/roles': ['a', 'b'] }],
    ['keycloak', discovery.keycloak, { realm_access: { roles: ['a', 'b'] } }],
  ] as const) {
    const answers = createAnswers()
    const idp = await recordOpenId(answers, recording)
    const { issuer } = recording.document
    const { world } = await scene(t, { type: 'oidc', preset, issuer }, answers)
    t.equal((await signIn(world, idp, { ...person, ...claims })).status, 303, refusal(world))
    t.same(world.plane.accounts.find('ann@example.com')?.groups, ['a', 'b'], preset)
    t.match((await signIn(world, idp, { ...person, ...claims, email_verified: false })).text, /not verified/)
  }
})

t.test('towards the provider: private_key_jwt, client_secret_basic; its keys change', async (t) => {
  proves(t, 'IDP-05')
  const { privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' })
  const pem = privateKey.export({ type: 'pkcs8', format: 'pem' }).toString()
  const answers = createAnswers()
  const recording = discovery.okta('https://example.okta.com')
  const { document } = recording
  const idp = await recordOpenId(answers, recording)
  const provider = { type: 'oidc', issuer: document.issuer, clientSecret: undefined }
  const { world } = await scene(t, { ...provider, clientKey: { value: pem }, clientKeyId: 'k1' }, answers)
  const person = { sub: '1', email: 'ann@example.com', groups: [] }
  t.equal((await signIn(world, idp, person)).status, 303, refusal(world))
  const form = new URLSearchParams(answers.asked.find(({ url }) => url === document.token_endpoint)?.body)
  const assertion = form.get('client_assertion') ?? ''
  t.match(decodeProtectedHeader(assertion), { alg: 'ES256', kid: 'k1' })
  t.match(decodeJwt(assertion), { iss: 'app-1', sub: 'app-1', aud: document.issuer })
  t.equal(form.get('client_secret'), null)
  await idp.rotate()
  t.equal((await signIn(world, idp, person)).status, 303, `a new key of the provider: ${refusal(world)}`)
  await t.rejects(scene(t, { ...provider, clientKey: { value: 'no key' } }), {
    code: 'config.invalid',
    detail: /clientKey of corp/,
  })
  await t.rejects(scene(t, { type: 'oidc', issuer: document.issuer, clientKey: { value: pem } }), {
    code: 'config.invalid',
    detail: /one way too many/,
  })

  const basic = await scene(
    t,
    { ...provider, clientSecret: secret, clientAuthentication: 'client_secret_basic' },
    answers,
  )
  await signIn(basic.world, idp, person)
  t.match(answers.asked.findLast(({ url }) => url === document.token_endpoint)?.authorization, /^Basic /)
})

t.test('GitHub: OAuth 2.0, its API says who somebody is', async (t) => {
  proves(t, 'IDP-06')
  const answers = createAnswers()
  const { routes, asked } = answers
  let emails = [
    { email: 'other@example.com', primary: false, verified: true, visibility: null },
    { email: 'Ann@Example.com', primary: true, verified: true, visibility: 'private' },
  ]
  const member = {
    ...github.membership,
    organization: { ...github.membership.organization, login: 'Example-Inc' },
  }
  let orgs = [member]
  routes.set('https://github.com/login/oauth/access_token', () => ({
    ...github.token,
    access_token: 'gho_1',
  }))
  routes.set('https://api.github.com/user', () => ({
    ...github.user,
    login: 'ann-x',
    id: 583231,
    name: 'Ann',
    email: 'unproven@evil.example',
  }))
  routes.set('https://api.github.com/user/emails', () => emails)
  routes.set('https://api.github.com/user/memberships/orgs', () => orgs)
  routes.set('https://api.github.com/user/teams', () => [
    { slug: 'core', organization: { login: 'Example-Inc' } },
    { slug: 'core', organization: { login: 'elsewhere' } },
  ])
  const provider = { type: 'oauth2', preset: 'github', organizations: ['example-inc'] }
  const { world } = await scene(t, provider, answers)
  const finish = async (query: Record<string, string> = { code: 'c' }) => {
    const { browser, sent } = await begin(world)
    const back = new URLSearchParams({ ...query, state: sent.get('state') ?? '' })
    return { sent, answer: await browser.get(`${world.issuer}/idp/corp/callback?${back}`) }
  }
  const { sent, answer } = await finish()
  t.equal(answer.status, 303, refusal(world))
  t.equal(sent.get('code_challenge_method'), 'S256')
  t.match(world.plane.accounts.find('ann@example.com'), {
    idpSubject: '583231',
    name: 'Ann',
    groups: ['Example-Inc', 'Example-Inc/core'],
  })
  const exchange = new URLSearchParams(asked.find(({ method }) => method === 'POST')?.body)
  t.ok(exchange.get('code_verifier'), 'PKCE')
  t.equal(asked.find(({ url }) => url.endsWith('/user'))?.authorization, 'Bearer gho_1')
  orgs = []
  t.match((await finish()).answer.text, /none of the organizations/)
  orgs = [member]
  emails = [{ email: 'ann@example.com', primary: true, verified: false, visibility: null }]
  t.match((await finish()).answer.text, /not verified your primary email/)
  t.match((await finish({ error: 'access_denied' })).answer.text, /did not sign you in/)
  routes.set('https://github.com/login/oauth/access_token', () => github.tokenError)
  t.match((await finish()).answer.text, /could not be verified/, 'an error comes with status 200')
  t.notOk(JSON.stringify(world.logs).includes('gho_1'))
})

t.test('several providers: by address, by the client, on the page', async (t) => {
  proves(t, 'IDP-07')
  const answers = createAnswers()
  const okta = discovery.okta('https://example.okta.com')
  await recordOpenId(answers, okta)
  await recordOpenId(answers, discovery.google)
  const common = { type: 'oidc', clientId: 'app-1', clientSecret: secret }
  const identityProviders = [
    { ...common, id: 'okta', name: 'Okta', issuer: okta.document.issuer, domains: ['example.com'] },
    {
      ...common,
      id: 'google',
      name: 'Google',
      issuer: 'https://accounts.google.com',
      domains: ['eu.example.com'],
    },
    {
      id: 'local',
      name: 'Local',
      type: 'directory',
      users: [{ email: 'x@example.com', password: 'a-password' }],
    },
  ]
  const world = await startWorld({ idpFetch: answers.idpFetch, config: { identityProviders } })
  t.teardown(() => world.close())
  const to = async (email: string) => (await begin(world, { email })).away
  t.match(
    (await begin(world)).page.text,
    /Work email[\s\S]*Continue with Okta[\s\S]*Continue with Google[\s\S]*type="password"/,
  )
  for (const [email, host] of [
    ['ann@example.com', 'https://example.okta.com/'],
    ['ann@us.EXAMPLE.com', 'https://example.okta.com/'],
    ['ann@eu.example.com', 'https://accounts.google.com/'],
  ] as const) {
    const away = await to(email)
    t.ok(away.location?.startsWith(host), `${email} ${away.location}`)
    t.equal(new URL(away.location!).searchParams.get('login_hint'), email)
  }
  for (const email of ['ann@badexample.com', 'ann@example.com.evil.example', 'example.com', '@example.com']) {
    t.match((await to(email)).text, /No way to sign in is known here for that address/, email)
  }
  const agents = (ssoIdentityProviders: string[]) => [
    {
      id: 'agents',
      name: 'Agents',
      identities: [{ type: 'oauthRedirectUri', value: '*' }],
      ssoIdentityProviders,
    },
  ]
  await world.apply({ identityProviders, clientWorkloads: agents(['google']) })
  const { page, browser } = await begin(world)
  t.match(page.text, /Continue with Google/)
  t.notMatch(page.text, /Continue with Okta|type="password"/, 'what the client may not use is not offered')
  for (const fields of [{ idp: 'okta' }, { idp: 'okta', email: 'ann@example.com' }] as Record<
    string,
    string
  >[]) {
    const forced = await browser.submit(page, '/idp', fields)
    t.equal(forced.status, 503, 'nor taken')
    t.match(forced.text, /not offered here/)
  }
})
