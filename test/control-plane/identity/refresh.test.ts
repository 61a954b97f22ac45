import { decodeJwt } from 'jose'
import t from 'tap'
import { proves } from '../../requirements.ts'
import {
  authorizeUrl,
  callback,
  obtainTokens,
  pkce,
  refresh,
  register,
  startWorld,
  TestClock,
} from './world.ts'

t.test('rotation: the last one lives, one used before the grace window ends the grant', async (t) => {
  proves(t, 'OAUTH-08')
  const clock = new TestClock()
  const world = await startWorld({ clock })
  t.teardown(() => world.close())
  const { client, tokens, browser } = await obtainTokens(world)
  const bystander = await obtainTokens(world, { browser, client })
  const first = tokens.refresh_token!
  const second = (await refresh(world, client.client_id, first)).body.refresh_token!
  const third = (await refresh(world, client.client_id, second)).body.refresh_token!
  t.equal(new Set([first, second, third]).size, 3)
  clock.offset += 11_000
  const replay = await refresh(world, client.client_id, first)
  t.equal(replay.status, 400)
  t.equal(replay.body.error, 'invalid_grant')
  t.equal(
    (await refresh(world, client.client_id, third)).body.error,
    'invalid_grant',
    'the whole grant is dead',
  )
  t.ok(world.logs.some((line) => line.event === 'grant.revoked'))
  const other = await refresh(world, client.client_id, bystander.tokens.refresh_token!)
  t.equal(other.status, 200, 'another authorization of the same person and client lives on')
  const again = await browser.get(authorizeUrl(world, client.client_id, pkce().challenge))
  t.match(again.location, /code=/, 'and the consent is not forgotten')
})

t.test('grace: parallel and repeated refreshes all get the newest token of the one chain', async (t) => {
  proves(t, 'OAUTH-09')
  const clock = new TestClock()
  const world = await startWorld({ clock })
  t.teardown(() => world.close())
  const { client, tokens } = await obtainTokens(world)
  const first = tokens.refresh_token!
  const parallel = await Promise.all(
    Array.from({ length: 20 }, () => refresh(world, client.client_id, first)),
  )
  t.ok(
    parallel.every(({ status }) => status === 200),
    'none failed',
  )
  const given = new Set(parallel.map(({ body }) => body.refresh_token))
  t.equal(given.size, 1, 'all got the same successor: no second branch')
  t.equal(new Set(parallel.map(({ body }) => decodeJwt(body.access_token).jti)).size, 20)
  clock.offset += 5_000
  const late = await refresh(world, client.client_id, first)
  t.equal(late.body.refresh_token, [...given][0], 'an answer lost on the way is given again')
  const second = [...given][0]!
  const third = (await refresh(world, client.client_id, second)).body.refresh_token!
  t.equal(
    (await refresh(world, client.client_id, first)).body.refresh_token,
    third,
    'the newest, not a spent one',
  )
  clock.offset += 11_000
  t.equal((await refresh(world, client.client_id, third)).status, 200)
  const rows = world.db
    .prepare("SELECT count(*) AS n FROM oidc_artefact WHERE model = 'RefreshToken' AND consumed_at IS NULL")
    .get()
  t.equal(rows?.n, 1, 'one live token in the database')
})

t.test('grace is the same client’s alone', async (t) => {
  const world = await startWorld()
  t.teardown(() => world.close())
  const { client, tokens } = await obtainTokens(world)
  const thief = await register(world)
  await refresh(world, client.client_id, tokens.refresh_token!)
  const stolen = await refresh(world, thief.client_id, tokens.refresh_token!)
  t.equal(stolen.body.error, 'invalid_grant')
})

t.test('absolute lifetime: rotation does not extend it', async (t) => {
  proves(t, 'OAUTH-10')
  const world = await startWorld({ config: { authorizationServer: { refreshTokenLifetime: '1h' } } })
  t.teardown(() => world.close())
  const { client, tokens } = await obtainTokens(world)
  const realNow = Date.now
  t.teardown(() => {
    Date.now = realNow
  })
  const start = realNow()
  let current = tokens.refresh_token!
  for (const minutes of [20, 40, 59]) {
    Date.now = () => start + minutes * 60_000
    const answer = await refresh(world, client.client_id, current)
    t.equal(answer.status, 200, `${minutes} minutes`)
    current = answer.body.refresh_token!
  }
  Date.now = () => start + 61 * 60_000
  const late = await refresh(world, client.client_id, current)
  t.equal(late.body.error, 'invalid_grant', '61 minutes after the first')
})

t.test('revocation ends the refresh token and its grant', async (t) => {
  proves(t, 'OAUTH-11')
  const world = await startWorld()
  t.teardown(() => world.close())
  const { client, tokens } = await obtainTokens(world)
  const revoke = (fields: Record<string, string>) =>
    fetch(`${world.origin}/connect/revocation`, { method: 'POST', body: new URLSearchParams(fields) })
  const foreign = await register(world)
  await revoke({ token: tokens.refresh_token!, client_id: foreign.client_id })
  const alive = await refresh(world, client.client_id, tokens.refresh_token!)
  t.equal(alive.status, 200, 'another client can not revoke it')
  const response = await revoke({ token: alive.body.refresh_token!, client_id: client.client_id })
  t.equal(response.status, 200)
  t.equal((await refresh(world, client.client_id, alive.body.refresh_token!)).body.error, 'invalid_grant')
  const unknown = await revoke({ token: 'never-was-one', client_id: client.client_id })
  t.equal(unknown.status, 200, 'RFC 7009 §2.2')
})

t.test('a client without the refresh_token grant gets none', async (t) => {
  const world = await startWorld()
  t.teardown(() => world.close())
  const client = await register(world, { grant_types: ['authorization_code'] })
  const { tokens } = await obtainTokens(world, { client })
  t.equal(tokens.refresh_token, undefined)
})

t.test('policy and accounts count at each refresh, and a refusal spends nothing', async (t) => {
  const world = await startWorld()
  t.teardown(() => world.close())
  const { client, tokens } = await obtainTokens(world)
  await world.apply({ accessPolicies: [{ id: 'in', client: 'agents', server: 'gateway', active: false }] })
  const denied = await refresh(world, client.client_id, tokens.refresh_token!)
  t.equal(denied.body.error, 'invalid_grant')
  t.match(denied.body.error_description, /access policy/)
  t.match(
    world.logs.find((line) => line.event === 'token.refused'),
    { reason: 'policy_inactive', policyId: 'in', subject: 'ann@example.com' },
  )
  await world.apply({})
  const allowed = await refresh(world, client.client_id, tokens.refresh_token!)
  t.equal(allowed.status, 200, 'works again with the policy')
  await world.apply({
    identityProviders: [
      { id: 'local', type: 'directory', users: [{ email: 'zoe@example.com', password: 'x' }] },
    ],
  })
  const gone = await refresh(world, client.client_id, allowed.body.refresh_token!)
  t.equal(gone.body.error, 'invalid_grant', 'a person who was removed')
})

t.test('what lies in the database is no token', async (t) => {
  proves(t, 'OAUTH-12')
  const world = await startWorld()
  t.teardown(() => world.close())
  const { client, tokens, browser } = await obtainTokens(world)
  const confidential = await register(world, { token_endpoint_auth_method: 'client_secret_post' })
  const dump = JSON.stringify(
    world.db
      .prepare('SELECT * FROM oidc_artefact')
      .all()
      .map((row) =>
        Object.values(row).map((value) =>
          value instanceof Uint8Array ? Buffer.from(value).toString('latin1') : value,
        ),
      ),
  )
  for (const secret of [
    tokens.refresh_token!,
    browser.cookie(world.origin, 'session')!,
    confidential.client_secret!,
  ]) {
    t.ok(secret.length > 20)
    t.notOk(dump.includes(secret))
  }
  t.notOk(dump.includes(callback), 'not even a redirect URI')
  t.ok(dump.includes(client.client_id), 'client ids are no secret')
})
