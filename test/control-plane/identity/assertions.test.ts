import { once } from 'node:events'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { decodeJwt, exportJWK, generateKeyPair, SignJWT } from 'jose'
import t, { type Test } from 'tap'
import { proves } from '../../requirements.ts'
import { callback, register, startWorld, token, type World } from './world.ts'

/** Enterprise-managed authorization: identity assertions (ID-JAG) of a trusted identity provider as a grant. */
const { publicKey, privateKey } = await generateKeyPair('RS256')
const stranger = await generateKeyPair('RS256')
const grantType = 'urn:ietf:params:oauth:grant-type:jwt-bearer'
const secret = 'a long enough secret'

async function scene(t: Test, over: Record<string, unknown> = {}) {
  const server = createServer(async (request, response) => {
    const keys = [{ ...(await exportJWK(publicKey)), kid: 'idp-1', alg: 'RS256' }]
    const documents: Record<string, unknown> = {
      '/.well-known/openid-configuration': { issuer: idp, jwks_uri: `${idp}/keys` },
      '/keys': { keys },
    }
    const body = documents[request.url ?? '']
    response
      .writeHead(body ? 200 : 404, { 'content-type': 'application/json' })
      .end(JSON.stringify(body ?? {}))
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const idp = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
  const provider = {
    id: 'corp',
    type: 'oidc',
    issuer: idp,
    clientId: 'gateway',
    allowedNetworks: ['127.0.0.0/8'],
    identityAssertions: true,
  }
  const config = {
    identityProviders: [provider],
    authorizationServer: {
      clients: [
        { clientId: 'agent', clientSecret: { value: secret }, grantTypes: [grantType] },
        { clientId: 'other', clientSecret: { value: secret }, grantTypes: [grantType] },
      ],
    },
    clientWorkloads: [{ id: 'agents', identities: [{ type: 'oauthClientId', value: 'agent' }] }],
    ...over,
  }
  const world = await startWorld({ config })
  t.teardown(async () => {
    await world.close()
    server.close()
    server.closeAllConnections()
  })
  return { world, idp, config, provider }
}

const assertion = (
  world: World,
  idp: string,
  over: Record<string, unknown> = {},
  header: Record<string, unknown> = {},
  key = privateKey,
): Promise<string> => {
  const now = Math.floor(Date.now() / 1000)
  return new SignJWT({
    iss: idp,
    sub: 'u-1',
    email: 'ann@example.com',
    email_verified: true,
    aud: world.issuer,
    client_id: 'agent',
    resource: world.resource,
    scope: 'mcp',
    jti: crypto.randomUUID(),
    iat: now,
    exp: now + 300,
    ...over,
  })
    .setProtectedHeader({ alg: 'RS256', kid: 'idp-1', typ: 'oauth-id-jag+jwt', ...header })
    .sign(key)
}
const ask = (
  world: World,
  jag: string,
  fields: Record<string, string> = {},
  client = 'agent',
  key = secret,
) =>
  token(
    world,
    { grant_type: grantType, assertion: jag, ...fields },
    { authorization: `Basic ${Buffer.from(`${client}:${key}`).toString('base64')}` },
  )

t.test('an assertion is a token for that person and client, once', async (t) => {
  proves(t, 'OAUTH-28')
  const { world, idp } = await scene(t)
  const jag = await assertion(world, idp)
  const { status, body } = await ask(world, jag, { resource: world.resource })
  t.equal(status, 200, JSON.stringify(body))
  t.match(body, { token_type: 'Bearer', scope: 'mcp' })
  t.equal(body.refresh_token, undefined, 'the client asks its identity provider again')
  t.match(decodeJwt(body.access_token), {
    sub: 'ann@example.com',
    idp: 'corp',
    client_id: 'agent',
    client_workload: 'agents',
    aud: world.resource,
  })
  t.match(await ask(world, jag), {
    status: 400,
    body: { error: 'invalid_grant', error_description: /before/ },
  })
  const metadata = (await (await fetch(`${world.origin}/.well-known/oauth-authorization-server`)).json()) as {
    grant_types_supported: string[]
  }
  t.ok(metadata.grant_types_supported.includes(grantType))
})

t.test('what an assertion does not say stays as the sign-in said', async (t) => {
  proves(t, 'OAUTH-28')
  const { world, idp } = await scene(t)
  const { accounts } = world.plane
  const signedIn = {
    idp: 'corp',
    idpSubject: 'pairwise-1',
    subject: 'ann@example.com',
    email: 'ann@example.com',
    name: 'Ann',
    groups: ['staff', 'contractors'],
    claims: { department: 'sales' },
  }
  accounts.signedIn(signedIn)
  const { body } = await ask(world, await assertion(world, idp, { level: 3 }))
  t.same(decodeJwt(body.access_token).groups, signedIn.groups)
  const { claims, ...rest } = accounts.find('ann@example.com') ?? {}
  t.match({ ...rest, claims }, { ...signedIn, claims: { department: 'sales', level: 3 } })
  await ask(world, await assertion(world, idp, { groups: ['staff'], name: 'Ann B' }))
  t.match(accounts.find('ann@example.com'), { idpSubject: 'pairwise-1', name: 'Ann B' })
  t.same(accounts.find('ann@example.com')?.groups, ['staff'], 'groups that it does say count')
  await ask(world, await assertion(world, idp, { groups: [] }))
  t.same(accounts.find('ann@example.com')?.groups, [], 'and none, where it says none')
})

t.test('assertions that are not taken', async (t) => {
  proves(t, 'OAUTH-29')
  const { world, idp } = await scene(t)
  const now = Math.floor(Date.now() / 1000)
  const head = { alg: 'none', typ: 'oauth-id-jag+jwt' }
  const [, payload] = (await assertion(world, idp)).split('.')
  const unsigned = `${Buffer.from(JSON.stringify(head)).toString('base64url')}.${payload}.`
  for (const [name, jag] of [
    ['another key', await assertion(world, idp, {}, {}, stranger.privateKey)],
    ['alg none', unsigned],
    ['an ID token', await assertion(world, idp, {}, { typ: 'JWT' })],
    ['an access token', await assertion(world, idp, {}, { typ: 'at+jwt' })],
    ['no typ', await assertion(world, idp, {}, { typ: undefined })],
    ['another issuer', await assertion(world, 'https://idp.evil.example')],
    ['another audience', await assertion(world, idp, { aud: 'https://other.example' })],
    ['our resource as the audience', await assertion(world, idp, { aud: world.resource })],
    ['several audiences', await assertion(world, idp, { aud: [world.issuer, 'https://other.example'] })],
    ['another client', await assertion(world, idp, { client_id: 'other' })],
    ['no client', await assertion(world, idp, { client_id: undefined })],
    ['another resource', await assertion(world, idp, { resource: 'https://other.example/mcp' })],
    ['no resource', await assertion(world, idp, { resource: undefined })],
    [
      'two resources',
      await assertion(world, idp, { resource: [world.resource, 'https://other.example/mcp'] }),
    ],
    ['no jti', await assertion(world, idp, { jti: undefined })],
    ['no subject', await assertion(world, idp, { sub: undefined })],
    ['expired', await assertion(world, idp, { iat: now - 600, exp: now - 300 })],
    ['of the future', await assertion(world, idp, { iat: now + 600, exp: now + 900 })],
    ['for a day', await assertion(world, idp, { exp: now + 86_400 })],
    ['other scopes', await assertion(world, idp, { scope: 'admin' })],
    ['an address nobody verified', await assertion(world, idp, { email_verified: false })],
    ['no email', await assertion(world, idp, { email: undefined })],
    ['rubbish', 'rubbish'],
  ] as const) {
    const answer = await ask(world, jag)
    t.match(answer, { status: 400, body: { error: 'invalid_grant' } }, name)
    t.equal(answer.body.access_token, undefined)
  }
  const good = await assertion(world, idp)
  t.equal((await ask(world, good, {}, 'agent', 'wrong')).status, 401, 'the client must prove itself')
  t.equal((await ask(world, good, { resource: 'https://other.example/mcp' })).body.error, 'invalid_target')
  t.match((await ask(world, good, {}, 'other')).body, { error: 'invalid_grant' }, 'somebody else’s client')
  t.equal((await ask(world, good)).status, 200, 'a refusal does not spend it')
})

t.test('a client that registered itself, a switched-off provider, and policy', async (t) => {
  const { world, idp, config, provider } = await scene(t)
  const own = await register(world, {
    token_endpoint_auth_method: 'client_secret_basic',
    redirect_uris: [callback],
  })
  const jag = await assertion(world, idp, { client_id: own.client_id })
  t.equal((await ask(world, jag, {}, own.client_id, own.client_secret!)).status, 400)
  await world.apply({ ...config, accessPolicies: [] })
  t.match((await ask(world, await assertion(world, idp))).body, {
    error: 'invalid_grant',
    error_description: /policy/,
  })
  await world.apply({ ...config, identityProviders: [{ ...provider, identityAssertions: false }] })
  t.equal((await ask(world, await assertion(world, idp))).body.error, 'unsupported_grant_type')
})
