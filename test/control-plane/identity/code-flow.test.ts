import { createRemoteJWKSet, jwtVerify } from 'jose'
import t from 'tap'
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
} from './world.ts'

t.test('the whole code flow by hand', async (t) => {
  const world = await startWorld()
  t.teardown(() => world.close())
  const { client, tokens } = await obtainTokens(world)
  const jwks = createRemoteJWKSet(new URL(`${world.origin}/.well-known/openid-configuration/jwks`))
  const { payload, protectedHeader } = await jwtVerify(tokens.access_token, jwks, {
    issuer: world.issuer,
    audience: world.resource,
    typ: 'at+jwt',
    algorithms: ['RS256'],
  })
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
  const again = await refresh(world, client.client_id, tokens.refresh_token!)
  t.equal(again.status, 200)
  t.equal(again.headers.get('cache-control'), 'no-store')
  t.not(again.body.refresh_token, tokens.refresh_token)
})
