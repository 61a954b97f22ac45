import { createRemoteJWKSet, jwtVerify } from 'jose'
import t from 'tap'
import { proves } from '../../requirements.ts'
import { Browser } from './browser.ts'
import {
  authorizeUrl,
  callback,
  obtainTokens,
  pkce,
  refresh,
  register,
  signInAndAllow,
  startWorld,
  token,
  type World,
} from './world.ts'

const verify = (world: World, jwt: string, algorithms = ['RS256']) =>
  jwtVerify(jwt, createRemoteJWKSet(new URL(`${world.origin}/.well-known/openid-configuration/jwks`)), {
    issuer: world.issuer,
    audience: world.resource,
    typ: 'at+jwt',
    algorithms,
  })

t.test('the code flow gives a token with the claims that the gateway decides on', async (t) => {
  proves(t, 'OAUTH-01')
  const world = await startWorld()
  t.teardown(() => world.close())
  const { client, tokens } = await obtainTokens(world)
  const { payload, protectedHeader } = await verify(world, tokens.access_token)
  t.match(payload, {
    sub: 'ann@example.com',
    client_id: client.client_id,
    scope: 'mcp',
    client_workload: 'agents',
    idp: 'local',
    email: 'ann@example.com',
    name: 'Ann',
    groups: ['dev'],
    jti: String,
    iat: Number,
  })
  t.equal(payload.exp! - payload.iat!, 900)
  t.type(protectedHeader.kid, 'string')
  t.equal(tokens.scope, 'mcp')
  t.equal(tokens.id_token, undefined, 'no id token where openid was not asked for')
  const dump = JSON.stringify(world.logs)
  for (const secret of [tokens.access_token, tokens.refresh_token!, 'correct horse']) {
    t.notOk(dump.includes(secret), 'no secret in the log')
  }
  t.ok(world.logs.some((line) => line.event === 'sign_in.succeeded' && line.subject === 'ann@example.com'))
  t.ok(world.logs.some((line) => line.event === 'consent.given'))
})

t.test('ES256 when the configuration says so, both keys published', async (t) => {
  proves(t, 'OAUTH-02')
  const world = await startWorld({
    config: { authorizationServer: { signingAlgorithm: 'ES256', accessTokenLifetime: '5m' } },
  })
  t.teardown(() => world.close())
  const { tokens } = await obtainTokens(world, { scope: 'mcp openid' })
  const { payload } = await verify(world, tokens.access_token, ['ES256'])
  t.equal(payload.exp! - payload.iat!, 300)
  t.type(tokens.id_token, 'string')
  const jwks = (await (await fetch(`${world.origin}/.well-known/openid-configuration/jwks`)).json()) as {
    keys: Record<string, unknown>[]
  }
  t.same(jwks.keys.map((key) => key.alg).sort(), ['ES256', 'RS256'])
  t.notOk(
    jwks.keys.some((key) => 'd' in key || 'p' in key),
    'no private half',
  )
})

t.test('both discovery documents say what there is, with the issuer as the only host', async (t) => {
  proves(t, 'OAUTH-03')
  const world = await startWorld()
  t.teardown(() => world.close())
  const documents: Record<string, unknown>[] = []
  for (const path of ['oauth-authorization-server', 'openid-configuration']) {
    const response = await fetch(`${world.origin}/.well-known/${path}`, {
      headers: { 'x-forwarded-host': 'evil.example', 'x-forwarded-proto': 'https' },
    })
    t.equal(response.status, 200)
    t.equal(response.headers.get('access-control-allow-origin'), '*')
    documents.push((await response.json()) as Record<string, unknown>)
  }
  t.same(documents[0], documents[1])
  t.match(documents[0], {
    issuer: world.issuer,
    authorization_endpoint: `${world.issuer}/connect/authorize`,
    token_endpoint: `${world.issuer}/connect/token`,
    registration_endpoint: `${world.issuer}/register`,
    revocation_endpoint: `${world.issuer}/connect/revocation`,
    jwks_uri: `${world.issuer}/.well-known/openid-configuration/jwks`,
    code_challenge_methods_supported: ['S256'],
    authorization_response_iss_parameter_supported: true,
    response_types_supported: ['code'],
    response_modes_supported: ['query'],
    grant_types_supported: ['authorization_code', 'refresh_token'],
    protected_resources: [world.resource],
  })
  t.same(documents[0]?.scopes_supported, ['mcp', 'openid', 'profile', 'email', 'offline_access'])
})

t.test('authorization requests that must not pass', async (t) => {
  proves(t, 'OAUTH-04')
  const world = await startWorld()
  t.teardown(() => world.close())
  const client = await register(world)
  const { challenge } = pkce()
  const browser = new Browser()
  const back = async (over: Record<string, string | null>) => {
    const answer = await browser.get(authorizeUrl(world, client.client_id, challenge, over))
    t.ok(
      answer.location?.startsWith(callback),
      `goes back to the client: ${answer.status} ${answer.location}`,
    )
    const query = new URL(answer.location!).searchParams
    t.equal(query.get('iss'), world.issuer, 'with iss')
    t.equal(query.get('state'), 'the-state')
    t.equal(query.get('code'), null)
    return query.get('error')
  }
  t.equal(await back({ code_challenge: null, code_challenge_method: null }), 'invalid_request', 'no PKCE')
  t.equal(await back({ code_challenge_method: 'plain' }), 'invalid_request', 'plain PKCE')
  t.equal(await back({ code_challenge_method: null }), 'invalid_request', 'PKCE method left out')
  t.equal(await back({ resource: 'https://other.example/mcp' }), 'invalid_target', 'another resource')
  t.equal(await back({ resource: `${world.issuer}/mcp/other` }), 'invalid_target', 'a longer path')
  t.equal(await back({ request: 'eyJhbGciOiJub25lIn0.e30.' }), 'request_not_supported', 'request objects')
  t.equal(await back({ prompt: 'none' }), 'login_required', 'prompt=none without a session')

  // Its answer belongs into the fragment (OAuth 2.0 Multiple Response Types §5).
  const implicit = await browser.get(
    authorizeUrl(world, client.client_id, challenge, { response_type: 'token' }),
  )
  t.match(implicit.location, /callback#error=invalid_request&/)

  for (const [why, url] of [
    [
      'another host',
      authorizeUrl(world, client.client_id, challenge, { redirect_uri: 'https://evil.example/callback' }),
    ],
    [
      'another path',
      authorizeUrl(world, client.client_id, challenge, { redirect_uri: 'http://127.0.0.1:33418/callback/x' }),
    ],
    [
      'another loopback host',
      authorizeUrl(world, client.client_id, challenge, { redirect_uri: 'http://localhost:33418/callback' }),
    ],
    ['an added query', authorizeUrl(world, client.client_id, challenge, { redirect_uri: `${callback}?x=1` })],
    ['an unknown client', authorizeUrl(world, 'nobody', challenge)],
  ] as const) {
    const answer = await browser.get(url)
    t.equal(answer.location, null, `${why}: no redirect`)
    t.equal(answer.status, 400)
    t.match(answer.headers.get('content-security-policy'), /frame-ancestors 'none'/)
    t.match(answer.text, /can not go on/)
    t.notMatch(answer.text, /<script/)
  }
  t.match(
    world.logs.find((line) => line.event === 'authorization.refused'),
    { clientId: client.client_id },
  )
})

t.test('resource: slash, case and default port are one; a client that sends none gets it', async (t) => {
  proves(t, 'OAUTH-05')
  const world = await startWorld()
  t.teardown(() => world.close())
  const client = await register(world)
  const browser = new Browser()
  for (const [authorize, exchange] of [
    [`${world.resource}/`, world.resource],
    [world.resource, `${world.resource}/`],
    [world.resource.replace('http:', 'HTTP:'), null],
    [null, null],
    [null, world.resource],
  ] as const) {
    const { verifier, challenge } = pkce()
    const answer = await signInAndAllow(
      browser,
      authorizeUrl(world, client.client_id, challenge, { resource: authorize }),
    )
    const { status, body } = await token(world, {
      grant_type: 'authorization_code',
      code: new URL(answer.location!).searchParams.get('code')!,
      redirect_uri: callback,
      client_id: client.client_id,
      code_verifier: verifier,
      ...(exchange === null ? {} : { resource: exchange }),
    })
    t.equal(status, 200, `${authorize} / ${exchange}: ${JSON.stringify(body.error_description)}`)
    const { payload } = await verify(world, body.access_token)
    t.equal(payload.aud, world.resource)
  }
  const { client: other, tokens } = await obtainTokens(world)
  const refused = await token(world, {
    grant_type: 'refresh_token',
    refresh_token: tokens.refresh_token!,
    client_id: other.client_id,
    resource: 'https://other.example/mcp',
  })
  t.equal(refused.body.error, 'invalid_target')
})

t.test(
  'scope: none and unknown ones become mcp; offline_access is not needed for a refresh token',
  async (t) => {
    const world = await startWorld()
    t.teardown(() => world.close())
    const client = await register(world)
    for (const scope of [null, 'files:read', 'openid email']) {
      const { verifier, challenge } = pkce()
      const answer = await signInAndAllow(
        new Browser(),
        authorizeUrl(world, client.client_id, challenge, { scope }),
      )
      const { body } = await token(world, {
        grant_type: 'authorization_code',
        code: new URL(answer.location!).searchParams.get('code')!,
        redirect_uri: callback,
        client_id: client.client_id,
        code_verifier: verifier,
      })
      t.equal((await verify(world, body.access_token)).payload.scope, 'mcp', String(scope))
      t.type(body.refresh_token, 'string')
    }
  },
)

t.test('the code: once, by its client, with its verifier and redirect URI', async (t) => {
  proves(t, 'OAUTH-06')
  const world = await startWorld()
  t.teardown(() => world.close())
  const client = await register(world)
  const other = await register(world)
  const browser = new Browser()
  const code = async () => {
    const { verifier, challenge } = pkce()
    const answer = await signInAndAllow(browser, authorizeUrl(world, client.client_id, challenge))
    t.equal(new URL(answer.location!).searchParams.get('iss'), world.issuer)
    return { verifier, code: new URL(answer.location!).searchParams.get('code')! }
  }
  const exchange = (grant: { code: string; verifier: string }, over: Record<string, string> = {}) =>
    token(world, {
      grant_type: 'authorization_code',
      code: grant.code,
      redirect_uri: callback,
      client_id: client.client_id,
      code_verifier: grant.verifier,
      ...over,
    })
  const first = await code()
  t.equal(
    (await exchange(first, { code_verifier: pkce().verifier })).body.error,
    'invalid_grant',
    'another verifier',
  )
  t.equal(
    (await exchange(first, { redirect_uri: `${callback}/x` })).body.error,
    'invalid_grant',
    'another redirect',
  )
  t.equal(
    (await exchange(first, { client_id: other.client_id })).body.error,
    'invalid_grant',
    'another client',
  )
  const good = await exchange(first)
  t.equal(good.status, 200)
  t.equal((await exchange(first)).body.error, 'invalid_grant', 'a second time')
  const after = await refresh(world, client.client_id, good.body.refresh_token!)
  t.equal(after.body.error, 'invalid_grant', 'and what the code gave is dead')
  t.equal((await exchange(await code())).status, 200, 'another authorization is not touched')
})

t.test('loopback redirect URIs match on any port', async (t) => {
  proves(t, 'OAUTH-07')
  const world = await startWorld()
  t.teardown(() => world.close())
  const client = await register(world)
  const { verifier, challenge } = pkce()
  const redirect = 'http://127.0.0.1:50123/callback'
  const answer = await signInAndAllow(
    new Browser(),
    authorizeUrl(world, client.client_id, challenge, { redirect_uri: redirect }),
  )
  t.ok(answer.location?.startsWith(`${redirect}?`), answer.location ?? answer.text)
  const { status } = await token(world, {
    grant_type: 'authorization_code',
    code: new URL(answer.location!).searchParams.get('code')!,
    redirect_uri: redirect,
    client_id: client.client_id,
    code_verifier: verifier,
  })
  t.equal(status, 200)
})

t.test('a second start with the same database keeps keys, clients and sessions', async (t) => {
  const first = await startWorld()
  const { client, tokens, browser } = await obtainTokens(first)
  const { port, db } = first
  await first.close()
  const second = await startWorld({ db, port })
  t.teardown(() => second.close())
  t.equal(
    (await verify(second, tokens.access_token)).payload.sub,
    'ann@example.com',
    'the old token verifies',
  )
  t.equal(
    (await refresh(second, client.client_id, tokens.refresh_token!)).status,
    200,
    'the old refresh token works',
  )
  const { challenge } = pkce()
  const answer = await browser.get(authorizeUrl(second, client.client_id, challenge))
  t.ok(answer.location?.startsWith(`${callback}?code=`), 'signed in and consented already')
})
