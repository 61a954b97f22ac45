import { decodeJwt } from 'jose'
import t from 'tap'
import { proves } from '../../requirements.ts'
import { obtainTokens, refresh, register, startWorld, TestClock, token, type World } from './world.ts'

/** RFC 7662 and RFC 7009 for our JWT access tokens as well. */
const watcher = {
  clientId: 'watcher',
  clientSecret: { value: 'a long enough secret' },
  redirectUris: ['https://watcher.example/cb'],
  introspection: true,
}
const basic = (id: string, secret: string) => ({
  authorization: `Basic ${Buffer.from(`${id}:${secret}`).toString('base64')}`,
})
const post = async (
  world: World,
  path: string,
  fields: Record<string, string>,
  headers: Record<string, string> = {},
) => {
  const response = await fetch(`${world.origin}/connect/${path}`, {
    method: 'POST',
    headers,
    body: new URLSearchParams(fields),
  })
  const text = await response.text()
  return { status: response.status, body: text === '' ? {} : (JSON.parse(text) as Record<string, unknown>) }
}
const start = (clock = new TestClock()) =>
  startWorld({ clock, config: { authorizationServer: { clients: [watcher] } } })
const asWatcher = basic('watcher', 'a long enough secret')

t.test('introspection of access and refresh tokens, by those who may', async (t) => {
  proves(t, 'OAUTH-34')
  const world = await start()
  t.teardown(() => world.close())
  const { client, tokens } = await obtainTokens(world)
  const { jti, exp } = decodeJwt(tokens.access_token)
  const look = (token: string, headers = asWatcher) => post(world, 'introspection', { token }, headers)
  t.match(await look(tokens.access_token), {
    status: 200,
    body: {
      active: true,
      sub: 'ann@example.com',
      client_id: client.client_id,
      client_workload: 'agents',
      aud: world.resource,
      iss: world.issuer,
      scope: 'mcp',
      exp,
      username: 'ann@example.com',
    },
  })
  t.match((await look(tokens.refresh_token!)).body, { active: true, sub: 'ann@example.com' })
  const [head, payload] = tokens.access_token.split('.')
  for (const [name, value] of [
    ['unknown', 'nothing'],
    ['another signature', `${head}.${payload}.c2lnbmF0dXJl`],
    ['its jti alone', String(jti)],
    ['no JWT', 'a.b.c'],
  ] as const) {
    t.same((await look(value)).body, { active: false }, name)
  }
  const stranger = await register(world, { token_endpoint_auth_method: 'client_secret_basic' })
  const asStranger = basic(stranger.client_id, stranger.client_secret!)
  t.same((await look(tokens.access_token, asStranger)).body, { active: false }, 'a stranger learns nothing')
  t.equal((await look(tokens.access_token, basic('watcher', 'wrong'))).status, 401)
  t.same(
    (await post(world, 'introspection', { token: tokens.access_token, client_id: client.client_id })).body,
    { active: false },
    'a client that can not prove itself learns nothing, even of its own',
  )
})

t.test('a token that is over is not active: expired, revoked, or without a policy', async (t) => {
  proves(t, 'OAUTH-35')
  const clock = new TestClock()
  const world = await start(clock)
  t.teardown(() => world.close())
  const { tokens } = await obtainTokens(world)
  const active = async () =>
    (await post(world, 'introspection', { token: tokens.access_token }, asWatcher)).body.active
  t.equal(await active(), true)
  await world.apply({ authorizationServer: { clients: [watcher] }, accessPolicies: [] })
  t.equal(await active(), false)
  await world.apply({ authorizationServer: { clients: [watcher] } })
  t.equal(await active(), true)
  const at = Math.floor(clock.now() / 1000) + 1
  await world.apply({ authorizationServer: { clients: [watcher] } }, [{ subject: 'ann@example.com', at }])
  t.equal(await active(), false, 'revoked, as gateways have it')
  await world.apply({ authorizationServer: { clients: [watcher] } })
  t.equal(await active(), true)
  clock.offset += 16 * 60_000
  t.equal(await active(), false)
})

t.test('revoking an access token tells the gateways and ends its grant', async (t) => {
  proves(t, 'OAUTH-36')
  const world = await start()
  t.teardown(() => world.close())
  const { client, tokens } = await obtainTokens(world)
  const { jti, grant } = decodeJwt(tokens.access_token)
  const stranger = await register(world)
  const revoke = (clientId: string) =>
    post(world, 'revocation', { token: tokens.access_token, client_id: clientId })
  t.equal((await revoke(stranger.client_id)).status, 200)
  t.same(world.revoked, [], 'another client can not')
  t.equal((await revoke(client.client_id)).status, 200)
  t.same(world.revoked, [{ jti }, { grant }])
  t.equal((await refresh(world, client.client_id, tokens.refresh_token!)).body.error, 'invalid_grant')
})

t.test('a token that policy or the kill switch denies can be revoked all the same', async (t) => {
  proves(t, 'OAUTH-36')
  const world = await start()
  t.teardown(() => world.close())
  for (const [name, deny] of [
    ['policy', () => world.apply({ accessPolicies: [] })],
    ['the kill switch of its user', () => world.apply({}, [], [{ kind: 'user', value: 'ann@example.com' }])],
    ['the kill switch of it', (value: string) => world.apply({}, [], [{ kind: 'token', value }])],
  ] as const) {
    const { client, tokens } = await obtainTokens(world)
    const { jti, grant } = decodeJwt(tokens.access_token)
    await deny(String(jti))
    const fields = { token: tokens.access_token, client_id: client.client_id }
    t.equal((await post(world, 'revocation', fields)).status, 200)
    t.same(world.revoked.splice(0), [{ jti }, { grant }], name)
    await world.apply({})
    const again = await refresh(world, client.client_id, tokens.refresh_token!)
    t.equal(again.body.error, 'invalid_grant', `${name}: over when it lets in again`)
  }
})

t.test('revocations of one client are limited', async (t) => {
  proves(t, 'OAUTH-43')
  const world = await start()
  t.teardown(() => world.close())
  const { client, tokens } = await obtainTokens(world)
  const revoke = (clientId: string, token = 'x') => post(world, 'revocation', { token, client_id: clientId })
  let answer = await revoke(client.client_id)
  for (let i = 0; i < 400 && answer.status === 200; i++) answer = await revoke(client.client_id)
  t.match(answer, { status: 503, body: { error: 'temporarily_unavailable' } })
  t.same(world.revoked, [])
  const other = await obtainTokens(world)
  t.equal((await revoke(other.client.client_id, other.tokens.access_token)).status, 200, 'of that one alone')
  t.equal(world.revoked.length, 2)
  t.equal((await post(world, 'introspection', { token: tokens.access_token }, asWatcher)).body.active, true)
})

t.test('revoking a refresh token, and replaying one, takes its access tokens with it', async (t) => {
  proves(t, 'OAUTH-51')
  const clock = new TestClock()
  const world = await start(clock)
  t.teardown(() => world.close())
  const one = await obtainTokens(world)
  await post(world, 'revocation', { token: one.tokens.refresh_token!, client_id: one.client.client_id })
  t.same(world.revoked.splice(0), [{ grant: decodeJwt(one.tokens.access_token).grant }])
  const two = await obtainTokens(world)
  const first = two.tokens.refresh_token!
  await refresh(world, two.client.client_id, first)
  clock.offset += 11_000
  t.equal((await refresh(world, two.client.client_id, first)).body.error, 'invalid_grant')
  t.same(world.revoked, [{ grant: decodeJwt(two.tokens.access_token).grant }])
})

t.test('a token of a client alone', async (t) => {
  const world = await startWorld({
    config: {
      authorizationServer: {
        clients: [
          {
            clientId: 'bot',
            clientSecret: { value: 'a long enough secret' },
            grantTypes: ['client_credentials'],
          },
        ],
      },
      clientWorkloads: [{ id: 'bots', identities: [{ type: 'oauthClientId', value: 'bot' }] }],
      accessPolicies: [{ id: 'in', client: 'bots', server: 'gateway', subjects: ['client'] }],
    },
  })
  t.teardown(() => world.close())
  const asBot = basic('bot', 'a long enough secret')
  const { body } = await token(world, { grant_type: 'client_credentials' }, asBot)
  const look = await post(world, 'introspection', { token: body.access_token }, asBot)
  t.match(look.body, { active: true, sub: 'client:bot', client_id: 'bot', subject_type: 'client' })
  await post(world, 'revocation', { token: body.access_token }, asBot)
  t.same(world.revoked, [{ jti: decodeJwt(body.access_token).jti }])
})
