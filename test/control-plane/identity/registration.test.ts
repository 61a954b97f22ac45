import t from 'tap'
import { createRateLimit } from '../../../shared/rate-limit.ts'
import { proves } from '../../requirements.ts'
import { Browser } from './browser.ts'
import {
  authorizeUrl,
  callback,
  pkce,
  refresh,
  register,
  signInAndAllow,
  startWorld,
  TestClock,
  token,
  type World,
} from './world.ts'

const post = async (world: World, body: unknown, headers: Record<string, string> = {}) => {
  const response = await fetch(`${world.origin}/register`, {
    method: 'POST',
    headers: { 'content-type': 'application/json', ...headers },
    body: typeof body === 'string' ? body : JSON.stringify(body),
  })
  return {
    status: response.status,
    body: (await response.json()) as Record<string, unknown>,
    headers: response.headers,
  }
}

t.test('redirect URIs: https, loopback http, an app’s own scheme; nothing else', async (t) => {
  proves(t, 'OAUTH-13')
  const world = await startWorld()
  t.teardown(() => world.close())
  for (const uri of [
    'https://claude.ai/api/mcp/auth_callback',
    'http://127.0.0.1:33418/callback',
    'http://localhost/callback',
    'http://[::1]:9000/cb',
    'cursor://anysphere.cursor-retrieval/oauth/user-x/callback',
    'com.example.app:/oauth',
    'https://localhost:8443/callback',
  ]) {
    const { status, body } = await post(world, { redirect_uris: [uri], token_endpoint_auth_method: 'none' })
    t.equal(status, 201, `${uri} ${JSON.stringify(body)}`)
    t.same(body.redirect_uris, [uri])
  }
  for (const uri of [
    'http://agent.example/callback',
    'http://127.0.0.1.evil.example/callback',
    'http://127.0.0.2/callback',
    'https://agent.example/*',
    'https://*.example/callback',
    'http://localhost:*/callback',
    'https://agent.example/callback#fragment',
    'https://user:pass@agent.example/callback',
    'https://agent.example\\@evil.example/callback',
    'https://agent.example/call back',
    'javascript:alert(1)',
    'javascript://agent.example/%0aalert(1)',
    'data:text/html,hello',
    'file:///etc/passwd',
    'mailto:ann@example.com',
    'view-source:https://agent.example/',
    '/callback',
    'callback',
    '',
    `https://agent.example/${'a'.repeat(2100)}`,
  ]) {
    const { status, body, headers } = await post(world, {
      redirect_uris: [uri],
      token_endpoint_auth_method: 'none',
    })
    t.equal(status, 400, uri)
    t.equal(body.error, 'invalid_redirect_uri', `${uri} ${JSON.stringify(body)}`)
    t.equal(headers.get('cache-control'), 'no-store')
  }
})

t.test('metadata: what is refused, left out and given', async (t) => {
  proves(t, 'OAUTH-14')
  const world = await startWorld()
  t.teardown(() => world.close())
  const good = { redirect_uris: [callback] }
  for (const [why, body, error] of [
    ['no redirect URIs', {}, 'invalid_redirect_uri'],
    ['an empty list', { redirect_uris: [] }, 'invalid_redirect_uri'],
    [
      'too many',
      { redirect_uris: Array.from({ length: 21 }, (_, i) => `https://a.example/${i}`) },
      'invalid_redirect_uri',
    ],
    ['no object', '[]', 'invalid_client_metadata'],
    ['no JSON', '{"redirect_uris": [', 'invalid_client_metadata'],
    ['implicit alone', { ...good, grant_types: ['implicit'] }, 'invalid_client_metadata'],
    ['token response', { ...good, response_types: ['token'] }, 'invalid_client_metadata'],
    ['mTLS', { ...good, token_endpoint_auth_method: 'tls_client_auth' }, 'invalid_client_metadata'],
    [
      'key-less private_key_jwt',
      { ...good, token_endpoint_auth_method: 'private_key_jwt' },
      'invalid_client_metadata',
    ],
    [
      'plain http jwks_uri',
      { ...good, token_endpoint_auth_method: 'private_key_jwt', jwks_uri: 'http://a.example/jwks' },
      'invalid_client_metadata',
    ],
  ] as const) {
    const answer = await post(world, body)
    t.equal(answer.status, 400, why)
    t.equal(answer.body.error, error, why)
  }
  const odd = await register(world, {
    client_name: '  Nice\u202e\u0007 Agent \n',
    client_id: 'i-choose-my-own',
    client_secret: 'mine',
    scope: 'everything admin',
    logo_uri: 'https://tracker.example/pixel.png',
    grant_types: ['authorization_code', 'refresh_token', 'urn:ietf:params:oauth:grant-type:device_code'],
  })
  t.not(odd.client_id, 'i-choose-my-own')
  t.equal(odd.client_name, 'Nice Agent')
  t.equal(odd.client_secret, undefined)
  t.notOk('logo_uri' in odd || 'scope' in odd || 'registration_access_token' in odd)
  t.same(odd.grant_types, ['authorization_code', 'refresh_token'])
  const bare = await register(world, {
    grant_types: undefined,
    response_types: undefined,
    token_endpoint_auth_method: undefined,
  })
  t.same(bare.grant_types, ['authorization_code', 'refresh_token'], 'clients that name none can refresh')
  t.type(bare.client_secret, 'string', 'RFC 7591 §2: client_secret_basic is the default')
  t.not(bare.client_id, odd.client_id)
  const options = await fetch(`${world.origin}/register`, { method: 'OPTIONS' })
  t.equal(options.headers.get('access-control-allow-origin'), '*')
  const big = await post(world, { ...good, client_name: 'x'.repeat(70_000) })
  t.equal(big.status, 413)
})

t.test('a confidential client must show its secret', async (t) => {
  proves(t, 'OAUTH-16')
  const world = await startWorld()
  t.teardown(() => world.close())
  const client = await register(world, { token_endpoint_auth_method: 'client_secret_basic' })
  const { verifier, challenge } = pkce()
  const answer = await signInAndAllow(new Browser(), authorizeUrl(world, client.client_id, challenge))
  const fields = {
    grant_type: 'authorization_code',
    code: new URL(answer.location!).searchParams.get('code')!,
    redirect_uri: callback,
    code_verifier: verifier,
  }
  const bare = await token(world, { ...fields, client_id: client.client_id })
  t.equal(bare.status, 401)
  t.equal(bare.body.error, 'invalid_client')
  const basic = (secret: string) => ({
    authorization: `Basic ${Buffer.from(`${client.client_id}:${secret}`).toString('base64')}`,
  })
  t.equal((await token(world, fields, basic('wrong'))).status, 401)
  t.equal((await token(world, fields, basic(client.client_secret!))).status, 200)
})

t.test('pre-registered clients work with registration switched off', async (t) => {
  proves(t, 'OAUTH-17')
  const world = await startWorld({
    config: {
      authorizationServer: {
        dynamicClientRegistration: false,
        clients: [{ clientId: 'desk', name: 'Desk agent', redirectUris: ['http://127.0.0.1/callback'] }],
      },
    },
  })
  t.teardown(() => world.close())
  const refused = await post(world, { redirect_uris: [callback] })
  t.equal(refused.status, 403)
  const metadata = (await (
    await fetch(`${world.origin}/.well-known/oauth-authorization-server`)
  ).json()) as Record<string, unknown>
  t.notOk('registration_endpoint' in metadata)
  const { verifier, challenge } = pkce()
  const browser = new Browser()
  const answer = await signInAndAllow(browser, authorizeUrl(world, 'desk', challenge))
  const { status, body } = await token(world, {
    grant_type: 'authorization_code',
    code: new URL(answer.location!).searchParams.get('code')!,
    redirect_uri: callback,
    client_id: 'desk',
    code_verifier: verifier,
  })
  t.equal(status, 200)
  t.equal((await refresh(world, 'desk', body.refresh_token!)).status, 200)
})

t.test('pre-registered redirect URIs obey the same rules, and every problem is told', async (t) => {
  await t.rejects(
    startWorld({
      config: {
        authorizationServer: {
          clients: [{ clientId: 'a', redirectUris: ['http://agent.example/cb', 'javascript:alert(1)'] }],
        },
      },
    }),
    { code: 'config.invalid', detail: /agent\.example[\s\S]*javascript/ },
  )
})

t.test('registrations are limited per address', async (t) => {
  proves(t, 'OAUTH-15')
  const world = await startWorld()
  t.teardown(() => world.close())
  const from = (address: string) => post(world, { redirect_uris: [callback] }, { 'x-forwarded-for': address })
  const statuses = []
  for (let i = 0; i < 61; i++) statuses.push((await from('203.0.113.9')).status)
  t.equal(statuses.filter((status) => status === 201).length, 60)
  const last = await from('203.0.113.9')
  t.equal(last.status, 429)
  t.ok(Number(last.headers.get('retry-after')) > 0)
  t.equal((await from('203.0.113.10')).status, 201, 'others go on')
})

t.test('rate limit: refills with time, one bucket for an IPv6 /64', async (t) => {
  const clock = new TestClock()
  const limit = createRateLimit(clock, 2, 1000)
  t.equal(limit.take('2001:db8::1'), 0)
  t.equal(limit.take('2001:db8::ffff'), 0)
  t.ok(limit.take('2001:db8::2') > 0)
  t.equal(limit.take('2001:db8:0:1::1'), 0)
  clock.offset += 1001
  t.equal(limit.take('2001:db8::3'), 0)
  t.ok(limit.take('2001:db8::3') > 0)
})

t.test('what only this room can see of a configuration is told whole', async (t) => {
  const user = { email: 'ann@example.com', passwordHash: '$2b$10$bcrypt' }
  await t.rejects(
    startWorld({
      config: {
        identityProviders: [
          { id: 'local', type: 'directory', users: [user, { ...user, email: 'bob@x.example' }] },
        ],
      },
    }),
    { code: 'config.invalid', detail: /ann@example\.com[\s\S]*bob@x\.example/ },
  )
  await t.rejects(startWorld({ config: { authorizationServer: { issuer: 'http://127.0.0.1:1/tenant' } } }), {
    code: 'config.invalid',
    detail: /must be an origin/,
  })
  const world = await startWorld()
  t.teardown(() => world.close())
  await t.rejects(world.apply({ authorizationServer: { issuer: 'http://127.0.0.1:1' } }), {
    code: 'config.invalid',
    detail: /can not change while running/,
  })
})
