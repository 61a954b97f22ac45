import { decodeJwt, exportJWK, generateKeyPair, SignJWT } from 'jose'
import t from 'tap'
import { proves } from '../../requirements.ts'
import { Browser } from './browser.ts'
import {
  authorizeUrl,
  callback,
  obtainTokens,
  pkce,
  register,
  startWorld,
  token,
  type World,
} from './world.ts'

/** Clients without a person: client credentials, SSO that is not enforced; and where clients come from. */
const { publicKey, privateKey } = await generateKeyPair('ES256')
const jwks = { keys: [{ ...(await exportJWK(publicKey)), kid: 'k1', alg: 'ES256' }] }
const bot = { clientId: 'bot', name: 'Build bot', jwks, grantTypes: ['client_credentials'] }
const secretive = {
  clientId: 'old-bot',
  clientSecret: { value: 'a long enough secret' },
  grantTypes: ['client_credentials'],
}
const config = (policy: Record<string, unknown> = {}, workload: Record<string, unknown> = {}) => ({
  authorizationServer: { clients: [bot, secretive] },
  clientWorkloads: [{ id: 'bots', identities: [{ type: 'oauthClientId', value: 'bot' }], ...workload }],
  accessPolicies: [{ id: 'bots-in', client: 'bots', server: 'gateway', subjects: ['client'], ...policy }],
})

const assertion = (world: World, over: Record<string, unknown> = {}, key = privateKey): Promise<string> => {
  const now = Math.floor(Date.now() / 1000)
  const claims = {
    iss: 'bot',
    sub: 'bot',
    aud: world.issuer,
    jti: crypto.randomUUID(),
    iat: now,
    exp: now + 60,
    ...over,
  }
  return new SignJWT(claims).setProtectedHeader({ alg: 'ES256', kid: 'k1' }).sign(key)
}
const ask = async (world: World, fields: Record<string, string> = {}, over: Record<string, unknown> = {}) =>
  token(world, {
    grant_type: 'client_credentials',
    client_assertion_type: 'urn:ietf:params:oauth:client-assertion-type:jwt-bearer',
    client_assertion: await assertion(world, over),
    resource: world.resource,
    scope: 'mcp',
    ...fields,
  })

t.test('private_key_jwt: a token of the client’s own, where a policy names clients', async (t) => {
  proves(t, 'OAUTH-39')
  const world = await startWorld({ config: config() })
  t.teardown(() => world.close())
  const { status, body } = await ask(world)
  t.equal(status, 200, JSON.stringify(body))
  t.equal(body.refresh_token, undefined)
  t.match(decodeJwt(body.access_token), {
    sub: 'client:bot',
    client_id: 'bot',
    aud: world.resource,
    scope: 'mcp',
    subject_type: 'client',
    client_workload: 'bots',
  })
  t.notOk('email' in decodeJwt(body.access_token))
  const bare = await ask(world, { resource: '', scope: '' })
  t.match(bare, { status: 200 }, 'the one resource is the default')
  t.equal(decodeJwt(bare.body.access_token).aud, world.resource)
})

t.test('client assertions that prove nothing', async (t) => {
  const world = await startWorld({ config: config() })
  t.teardown(() => world.close())
  const stranger = await generateKeyPair('ES256')
  const spent = await assertion(world)
  t.equal((await ask(world, { client_assertion: spent })).status, 200)
  const past = Math.floor(Date.now() / 1000) - 600
  for (const [name, client_assertion] of [
    ['used twice', spent],
    ['another key', await assertion(world, {}, stranger.privateKey)],
    ['another audience', await assertion(world, { aud: 'https://other.example' })],
    ['expired', await assertion(world, { exp: past + 60, iat: past })],
    ['another subject', await assertion(world, { sub: 'old-bot' })],
    ['no jti', await assertion(world, { jti: undefined })],
    ['rubbish', 'a.b.c'],
  ] as const) {
    const answer = await ask(world, { client_assertion })
    t.equal(answer.body.error, name === 'rubbish' ? 'invalid_request' : 'invalid_client', name)
    t.equal(answer.body.access_token, undefined)
  }
  const { error } = (await token(world, { grant_type: 'client_credentials', client_id: 'bot' })).body
  t.equal(error, 'invalid_client', 'its name alone is not enough')
})

t.test('deny by default: no policy, a policy for people, another workload, a blocked client', async (t) => {
  proves(t, 'OAUTH-40')
  for (const [name, over] of [
    ['no policy', { ...config(), accessPolicies: [] }],
    ['a policy for people', config({ subjects: ['person'] })],
    ['a policy that says nothing of it', config({ subjects: undefined })],
    ['inactive', config({ active: false })],
    [
      'not identified',
      { ...config(), clientWorkloads: [{ id: 'bots', identities: [{ type: 'oauthClientId', value: 'x' }] }] },
    ],
  ] as const) {
    const world = await startWorld({ config: over })
    t.match(await ask(world), { status: 400, body: { error: 'unauthorized_client' } }, name)
    await world.close()
  }
})

t.test('a client may use the grants it is registered for and no other', async (t) => {
  const world = await startWorld({ config: config() })
  t.teardown(() => world.close())
  const page = await new Browser().get(authorizeUrl(world, 'bot', pkce().challenge))
  t.equal(page.status, 400, 'no code for a client without redirect URIs')
  const person = await register(world)
  const answer = await token(world, { grant_type: 'client_credentials', client_id: person.client_id })
  t.equal(answer.status, 400, 'and no credentials of its own for one that registered itself')
})

t.test('configurations of clients that make no sense are told', async (t) => {
  for (const [client, problem] of [
    [{ clientId: 'a', grantTypes: ['client_credentials'] }, /prove itself/],
    [{ clientId: 'a' }, /redirectUris/],
    [{ ...bot, clientSecret: { value: 'x' } }, /one way too many/],
    [{ ...bot, jwks: { keys: [{ kty: 'EC', d: 'secret' }] } }, /private key/],
    [{ clientId: 'a', redirectUris: [callback], introspection: true }, /prove itself/],
  ] as const) {
    await t.rejects(startWorld({ config: { authorizationServer: { clients: [client] } } }), {
      code: 'config.invalid',
      detail: problem,
    })
  }
})

const direct = (over: Record<string, unknown> = {}, policy: Record<string, unknown> = {}) => ({
  clientWorkloads: [
    { id: 'kiosk', identities: [{ type: 'oauthRedirectUri', value: callback }], enforceSso: false, ...over },
  ],
  accessPolicies: [{ id: 'in', client: 'kiosk', server: 'gateway', subjects: ['client'], ...policy }],
})

t.test('SSO that is not enforced: no sign-in, and the token is the client’s alone', async (t) => {
  proves(t, 'OAUTH-41')
  const world = await startWorld({ config: direct() })
  t.teardown(() => world.close())
  const client = await register(world)
  const { verifier, challenge } = pkce()
  const browser = new Browser()
  const answer = await browser.follow(
    await browser.get(authorizeUrl(world, client.client_id, challenge)),
    callback,
  )
  const back = new URL(answer.location!)
  t.equal(back.searchParams.get('state'), 'the-state')
  t.equal(back.searchParams.get('iss'), world.issuer)
  const fields = {
    grant_type: 'authorization_code',
    code: back.searchParams.get('code')!,
    redirect_uri: callback,
    client_id: client.client_id,
  }
  t.equal(
    (await token(world, { ...fields, code_verifier: pkce().verifier })).body.error,
    'invalid_grant',
    'PKCE',
  )
  const again = await browser.follow(
    await browser.get(authorizeUrl(world, client.client_id, challenge)),
    callback,
  )
  const code = new URL(again.location!).searchParams.get('code')!
  const { status, body } = await token(world, { ...fields, code, code_verifier: verifier })
  t.equal(status, 200, JSON.stringify(body))
  const claims = decodeJwt(body.access_token)
  t.match(claims, { sub: `client:${client.client_id}`, subject_type: 'client', client_workload: 'kiosk' })
  t.equal(claims.idp, undefined)
  const page = await browser.get(`${world.origin}/sign-out`)
  t.notMatch(page.text, /client:/, 'the browser is signed in as nobody')
  const next = await token(world, {
    grant_type: 'refresh_token',
    refresh_token: body.refresh_token!,
    client_id: client.client_id,
  })
  t.equal(next.status, 200)
  await world.apply(direct({ enforceSso: true }))
  const late = await token(world, {
    grant_type: 'refresh_token',
    refresh_token: next.body.refresh_token!,
    client_id: client.client_id,
  })
  t.equal(late.body.error, 'invalid_grant', 'over once people have to sign in')
})

t.test('SSO that is not enforced still needs a policy for clients', async (t) => {
  const world = await startWorld({ config: direct({}, { subjects: ['person'] }) })
  t.teardown(() => world.close())
  const client = await register(world)
  const browser = new Browser()
  const answer = await browser.follow(
    await browser.get(authorizeUrl(world, client.client_id, pkce().challenge)),
    callback,
  )
  t.match(answer.location, /iss=.*error=access_denied/)
})

t.test('a client workload for the people of one identity provider', async (t) => {
  const world = await startWorld({
    config: {
      clientWorkloads: [
        {
          id: 'agents',
          identities: [{ type: 'oauthRedirectUri', value: '*' }],
          ssoIdentityProviders: ['local'],
        },
      ],
    },
  })
  t.teardown(() => world.close())
  t.ok((await obtainTokens(world)).tokens.access_token)
  await t.rejects(
    world.apply({
      clientWorkloads: [
        {
          id: 'agents',
          identities: [{ type: 'oauthRedirectUri', value: '*' }],
          ssoIdentityProviders: ['nobody'],
        },
      ],
    }),
    { code: 'config.invalid', detail: /identityProviders/ },
  )
})

t.test('a source address is looked at when tokens are issued', async (t) => {
  const identities = (value: string) => [
    { type: 'oauthRedirectUri', value: '*' },
    { type: 'sourceIPAddress', value },
  ]
  const world = await startWorld({
    config: { clientWorkloads: [{ id: 'agents', identities: identities('127.0.0.0/8') }] },
  })
  t.teardown(() => world.close())
  const { client, browser } = await obtainTokens(world)
  await world.apply({ clientWorkloads: [{ id: 'agents', identities: identities('192.0.2.7') }] })
  const page = await browser.follow(
    await browser.get(authorizeUrl(world, client.client_id, pkce().challenge)),
    callback,
  )
  t.equal(page.status, 403)
})
