import { createHash } from 'node:crypto'
import { decodeJwt } from 'jose'
import { test } from 'tap'
import { proves } from '../../requirements.ts'
import { tokenOf } from '../fleet/credential-rig.ts'
import { exchangeGrant } from './company-idp.ts'
import { jwtBearer, loopback, mcpServer, scene, type } from './enterprise-rig.ts'
import { form, standIn } from './stand-ins.ts'

test('a sign-in at the company opens the server: exchange there, assertion grant at its authorization server', async (t) => {
  proves(t, 'CRED-33')
  const { plane, as, resource, ask, signIn, grants } = await scene(t)
  const { page } = await signIn()
  t.match(page.text, /tracker<\/strong> <span class="badge good">Ready/)
  const answers = await Promise.all(Array.from({ length: 40 }, () => ask()))
  const tokens = new Set(answers.map(tokenOf))
  t.equal(tokens.size, 1, 'one token for all who ask')
  t.match(decodeJwt([...tokens][0]!), {
    iss: as.origin,
    aud: resource,
    sub: 'ann@example.com',
    idp: 'corp',
    client_id: 'agent',
  })
  t.match(
    grants(exchangeGrant),
    [
      {
        client_id: 'gateway',
        requested_token_type: 'urn:ietf:params:oauth:token-type:id-jag',
        audience: as.origin,
        resource,
        scope: 'mcp',
        subject_token_type: 'urn:ietf:params:oauth:token-type:id_token',
      },
    ],
    'asked once',
  )
  const [answer] = answers
  const life = answer?.kind === 'headers' ? Date.parse(answer.expiresAt!) - plane.clock.now() : 0
  t.ok(life > 0 && life <= 300_000, `${life} ms: five minutes at most`)
  plane.clock.offset += 300_000
  t.not(tokenOf(await ask()), [...tokens][0])
  t.equal(grants(exchangeGrant).length, 2)
  t.match(plane.events()[0], {
    outcome: { result: 'Authorized' },
    credentialProvider: { id: 'company', type },
  })
})

test('who has not signed in since is given a link to, and the same question works afterwards', async (t) => {
  proves(t, 'CRED-34')
  const { plane, ask, signIn, config } = await scene(t)
  // Signed in before the provider was there: nothing was kept.
  await plane.apply({ ...config, credentialProviders: [{ id: 'company', type: 'none' }] })
  const { browser } = await signIn()
  await plane.apply(config)
  const answer = await ask()
  t.match(answer, {
    kind: 'authorization_required',
    reason: 'not_signed_in',
    message: /Sign in again to use tracker/,
  })
  if (answer.kind !== 'authorization_required') return
  t.match(plane.events()[0], { outcome: { reason: 'not_signed_in' } })
  t.match((await browser.get(`${plane.origin}/connections`)).text, /Needs you to sign in/)
  const { page } = await signIn(browser, answer.url)
  t.match(page.text, /tracker<\/strong> <span class="badge good">Ready/)
  t.equal((await ask()).kind, 'headers')
})

test('a link to sign in that was made for someone else says so', async (t) => {
  const { plane, ask, signIn, idp } = await scene(t)
  const { browser: ann } = await signIn()
  await ann.submit(await ann.get(`${plane.origin}/sign-out`), '/sign-out')
  const answer = await ask()
  if (answer.kind !== 'authorization_required') return t.fail(answer.kind)
  idp.person = { sub: 'u-2', email: 'bob@example.com', email_verified: true }
  const { browser: bob } = await signIn()
  const page = await bob.get(answer.url)
  t.equal(page.status, 403)
  t.match(page.text, /This link is for someone else/)
  t.equal((await ann.get(answer.url.replace(/.$/, '_'))).status, 410, 'changed')
  t.match(await plane.ask('bob', undefined, 'tracker'), { kind: 'headers' })
})

test('the ID token is over: renewed once for all servers; the sign-in is over: asked for', async (t) => {
  proves(t, 'CRED-35')
  const { plane, idp, ask, signIn, grants } = await scene(t, {}, ['tracker', 'wiki'])
  const { browser } = await signIn()
  plane.clock.offset += 3_600_000
  const asked = await Promise.all([ask(), ask(undefined, 'wiki'), ask(), ask(undefined, 'wiki')])
  for (const answer of asked) t.equal(answer.kind, 'headers')
  t.equal(grants('refresh_token').length, 1)
  plane.clock.offset += 3_600_000
  t.equal((await ask()).kind, 'headers', 'the rotated refresh token is the next one used')
  idp.tokenStatus = 503
  plane.clock.offset += 3_600_000
  await t.rejects(ask(), { code: 'credential.unavailable' }, 'down for now: nobody has to sign in')
  idp.tokenStatus = undefined
  await idp.endSignIns()
  plane.clock.offset += 120_000
  t.match(await ask(), { kind: 'authorization_required', reason: 'invalid_grant' })
  t.match((await browser.get(`${plane.origin}/connections`)).text, /Needs you to sign in/)
  await signIn(browser, `${plane.origin}/connections/tracker/sign-in`)
  idp.withoutIdToken = true
  plane.clock.offset += 3_600_000
  t.match(await ask(), { kind: 'authorization_required', reason: 'no_id_token' })
})

test('an exchange that was refused while another renewed the sign-in: the used refresh token is not used again', async (t) => {
  proves(t, 'CRED-97')
  const { idp, ask, signIn, grants } = await scene(t, {}, ['tracker', 'wiki'])
  await signIn()
  const arrived = Promise.withResolvers<void>()
  const answer = Promise.withResolvers<void>()
  let exchanges = 0
  idp.exchanging = async () => {
    const nth = ++exchanges
    if (nth === 1) arrived.resolve()
    if (nth === 1) await answer.promise
    return nth > 2 ? undefined : 'invalid_grant'
  }
  const first = ask(undefined, 'wiki')
  await arrived.promise
  t.match(await ask(), { kind: 'headers' }, 'the ID token ended early: renewed')
  answer.resolve()
  t.match(await first, { kind: 'headers' }, 'with what the other got')
  t.equal(grants('refresh_token').length, 1)
})

test('signing out ends it, here and at the gateways', async (t) => {
  proves(t, 'CRED-36')
  const { plane, ask, signIn } = await scene(t)
  const { browser } = await signIn()
  const token = tokenOf(await ask())
  const page = await browser.submit(await browser.get(`${plane.origin}/sign-out`), '/sign-out')
  t.match(page.text, /ask you to sign in again/)
  t.match(await ask(), { kind: 'authorization_required', reason: 'not_signed_in' })
  t.equal(plane.db.prepare('SELECT count(*) AS n FROM idp_token').get()!.n, 0)
  await signIn(browser)
  t.not(tokenOf(await ask()), token, 'another sign-in, another token')
})

test('a no of the identity provider, of the authorization server, and of the server itself', async (t) => {
  proves(t, 'CRED-37')
  const { plane, idp, ask, signIn } = await scene(t)
  await signIn()
  idp.refuse = 'access_denied'
  t.match(await ask(), {
    kind: 'denied',
    by: 'provider',
    reason: 'Identity provider: request failed with BadRequest (access_denied)',
  })
  idp.refuse = undefined
  idp.clientAt = 'somebody-else'
  plane.clock.offset += 120_000
  t.match(await ask(), {
    kind: 'denied',
    by: 'provider',
    reason: 'Request failed with BadRequest (invalid_grant)',
  })
  idp.clientAt = 'agent'
  plane.clock.offset += 120_000
  const first = tokenOf(await ask())
  const digest = createHash('sha256').update(`Bearer ${first}`).digest('base64url')
  t.not(tokenOf(await ask(digest)), first, 'refused by the server: another one')
})

test('no line of the log and nothing outside the sealed column holds what the identity provider gave', async (t) => {
  const { plane, idp, ask, signIn, grants } = await scene(t)
  await signIn()
  const token = tokenOf(await ask())
  plane.clock.offset += 3_600_000
  await ask()
  await idp.endSignIns()
  plane.clock.offset += 3_600_000
  await ask()
  const log = plane.lines.join('')
  t.match(log, /sign-in renewed at the identity provider[\s\S]*sign-in not renewed/)
  const secrets = {
    token,
    idToken: grants(exchangeGrant)[0]!.subject_token,
    refresh: grants('refresh_token')[0]!.refresh_token,
  }
  for (const [name, value] of Object.entries(secrets)) {
    t.ok(typeof value === 'string' && value.length > 20, name)
    t.notOk(log.includes(String(value)), `${name} is in no line`)
  }
})

test('discovery: the documented texts, and what a registration asks for', async (t) => {
  proves(t, 'CRED-38')
  const { plane, config, ask, signIn } = await scene(t)
  await signIn()
  const providerOf = (more: Record<string, unknown> = {}) => [
    { id: 'company', type, identityProvider: 'corp', allowedNetworks: loopback, ...more },
  ]
  const at = async (url: string, more: Record<string, unknown> = {}) => {
    await plane.apply({
      ...config,
      serverWorkloads: [{ id: 'tracker', url, allowedNetworks: loopback }],
      credentialProviders: providerOf(more),
    })
    return ask()
  }
  const bare = await mcpServer(t, () => ({}))
  t.match(await at(bare), { reason: 'MCP Server does not support resource metadata discovery' })
  const prm = (origin: string, issuer = origin) => ({
    '/.well-known/oauth-protected-resource/mcp': {
      resource: `${origin}/mcp`,
      authorization_servers: [issuer],
    },
  })
  const alone = await mcpServer(t, (origin) => prm(origin))
  t.match(await at(alone), { reason: 'MCP Server does not support auth metadata discovery' })

  const as = await standIn(t, ({ path }) => {
    if (path === '/register') return registration
    if (path === '/token')
      return { body: { access_token: 'from-there', token_type: 'Bearer', expires_in: 60 } }
    if (path !== '/.well-known/oauth-authorization-server') return { status: 404, body: {} }
    return {
      body: {
        issuer: as.origin,
        authorization_endpoint: `${as.origin}/authorize`,
        token_endpoint: `${as.origin}/token`,
        registration_endpoint: `${as.origin}/register`,
        grant_types_supported: grantTypes,
        token_endpoint_auth_methods_supported: ['none'],
      },
    }
  })
  let registration: { status: number; body: unknown } = {
    status: 400,
    body: { error: 'invalid_client_metadata' },
  }
  let grantTypes = ['authorization_code']
  const server = await mcpServer(t, (origin) => prm(origin, as.origin))
  t.match(await at(server), { reason: /does not take identity assertions/ })
  grantTypes = ['authorization_code', jwtBearer]
  plane.clock.offset += 600_000
  t.match(await at(server), { reason: 'Dynamic Client Registration failed' })
  registration = { status: 201, body: { client_id: 'registered', token_endpoint_auth_method: 'none' } }
  plane.clock.offset += 600_000
  t.equal(tokenOf(await at(server)), 'from-there')
  const registered = as.seen.findLast(({ path }) => path === '/register')!
  t.match(JSON.parse(registered.body), { grant_types: [jwtBearer, 'authorization_code'] })
  const sent = form(as.seen.findLast(({ path }) => path === '/token')!.body)
  t.match(sent, { grant_type: jwtBearer, client_id: 'registered', resource: server })
  t.match(decodeJwt(sent.assertion!), { aud: as.origin, resource: server })

  t.match(await plane.plane.shared()!.discover('company'), {
    oidcIssuerUrl: as.origin,
    oauthTokenUrl: `${as.origin}/token`,
    resource: server,
    clientId: 'registered',
  })
  t.match(await at(server, { allowedNetworks: [] }), {
    kind: 'denied',
    reason: 'The MCP server or its authorization server resolves to an internal address',
  })
})

test('what no sign-in can open is refused when the configuration is read', async (t) => {
  const { plane, config } = await scene(t)
  const refused = (over: Record<string, unknown>, text: RegExp) =>
    t.rejects(async () => plane.apply({ ...config, ...over }), { detail: text } as never)
  const [corp] = config.identityProviders
  await refused({ identityProviders: [{ ...corp, scopes: ['openid'] }] }, /add offline_access to its scopes/)
  await refused(
    { identityProviders: [{ id: 'corp', type: 'directory' }] },
    /is of type directory and gives no ID token to exchange/,
  )
  const [company] = config.credentialProviders
  await refused(
    { credentialProviders: [{ ...company, mcpServerUrl: 'https://other.example/mcp' }] },
    /would send them to/,
  )
  await refused(
    { credentialProviders: [{ ...company, oauthTokenUrl: 'https://other.example/token' }] },
    /goes together with oidcIssuerUrl/,
  )
})
