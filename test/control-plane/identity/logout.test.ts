import { randomUUID } from 'node:crypto'
import { generateKeyPair, type JWTPayload, SignJWT } from 'jose'
import t, { type Test } from 'tap'
import { proves } from '../../requirements.ts'
import { Browser } from './browser.ts'
import { createAnswers, discovery, recordOpenId } from './recorded-providers.ts'
import {
  authorizeUrl,
  callback,
  pkce,
  refresh,
  register,
  startWorld,
  type Tokens,
  token,
  type World,
} from './world.ts'

const event = 'http://schemas.openid.net/event/backchannel-logout'
const { issuer } = discovery.keycloak.document
const ann = { sub: 'f:1:ann', email: 'ann@example.com', email_verified: true, groups: ['dev'] }
const bob = { sub: 'f:1:bob', email: 'bob@example.com', email_verified: true, groups: [] }

/** A gateway whose people sign in at Keycloak as it publishes itself. */
async function scene(t: Test, provider: Record<string, unknown> = {}) {
  const answers = createAnswers()
  const idp = await recordOpenId(answers, discovery.keycloak)
  const corp = {
    id: 'corp',
    name: 'Corp',
    type: 'oidc',
    preset: 'keycloak',
    issuer,
    clientId: 'app-1',
    clientSecret: { value: 'idp-secret' },
    ...provider,
  }
  const world = await startWorld({ idpFetch: answers.idpFetch, config: { identityProviders: [corp] } })
  t.teardown(() => world.close())

  /** Signs a person in for an agent; their browser and the agent's tokens. */
  const signIn = async (claims: JWTPayload) => {
    const browser = new Browser()
    const client = await register(world)
    const { verifier, challenge } = pkce()
    const page = await browser.follow(await browser.get(authorizeUrl(world, client.client_id, challenge)))
    const away = await browser.submit(page, '/idp')
    const query = await idp.approve(away.location ?? '', claims)
    const consent = await browser.follow(await browser.get(`${world.issuer}/idp/corp/callback?${query}`))
    const answer = await browser.follow(
      await browser.submit(consent, '/consent', { decision: 'allow' }),
      callback,
    )
    const { body } = await token(world, {
      grant_type: 'authorization_code',
      code: new URL(answer.location!).searchParams.get('code')!,
      redirect_uri: callback,
      client_id: client.client_id,
      code_verifier: verifier,
    })
    return { browser, clientId: client.client_id, tokens: body as Tokens }
  }
  const now = (): number => Math.floor(Date.now() / 1000)
  const logoutClaims = (over: Record<string, unknown> = {}): JWTPayload => ({
    iss: issuer,
    aud: 'app-1',
    sub: ann.sub,
    sid: 'session-1',
    iat: now(),
    exp: now() + 120,
    jti: randomUUID(),
    events: { [event]: {} },
    ...over,
  })
  const post = async (logoutToken: string | undefined, id = 'corp') => {
    const response = await fetch(`${world.origin}/idp/${id}/backchannel-logout`, {
      method: 'POST',
      body: new URLSearchParams(logoutToken === undefined ? {} : { logout_token: logoutToken }),
    })
    return { status: response.status, headers: response.headers, text: await response.text() }
  }
  return { world, answers, idp, signIn, logoutClaims, post }
}

const signedIn = async (world: World, browser: Browser): Promise<boolean> =>
  (await browser.get(`${world.issuer}/agents`)).status === 200

t.test('back-channel logout ends every session of that person, and nobody else’s', async (t) => {
  proves(t, 'LOGOUT-01')
  const { world, idp, signIn, logoutClaims, post } = await scene(t)
  const one = await signIn(ann)
  const two = await signIn(ann)
  const other = await signIn(bob)
  const answer = await post(await idp.sign(logoutClaims(), { typ: 'logout+jwt' }))
  t.equal(answer.status, 200, answer.text)
  t.equal(answer.headers.get('cache-control'), 'no-store')
  t.notOk(await signedIn(world, one.browser))
  t.notOk(await signedIn(world, two.browser))
  t.ok(await signedIn(world, other.browser))
  const again = await refresh(world, one.clientId, one.tokens.refresh_token!)
  t.equal(again.status, 200, 'agents go on, as after a sign-out here')
  t.same(world.revoked, [])
  const unknown = await post(await idp.sign(logoutClaims({ sub: 'nobody' })))
  t.equal(unknown.status, 200, 'of somebody who never came: nothing to end')
})

t.test('logoutEndsAgents: agents lose their tokens too', async (t) => {
  const { world, idp, signIn, logoutClaims, post } = await scene(t, { logoutEndsAgents: true })
  const one = await signIn(ann)
  const other = await signIn(bob)
  t.equal((await post(await idp.sign(logoutClaims()))).status, 200)
  t.match(await refresh(world, one.clientId, one.tokens.refresh_token!), {
    status: 400,
    body: { error: 'invalid_grant' },
  })
  t.same(world.revoked, [{ subject: 'ann@example.com' }], 'gateways are told')
  t.equal((await refresh(world, other.clientId, other.tokens.refresh_token!)).status, 200)
})

t.test('what is no logout token of this provider ends nothing', async (t) => {
  proves(t, 'LOGOUT-02')
  const { world, idp, signIn, logoutClaims, post } = await scene(t)
  const { browser } = await signIn(ann)
  const stranger = await generateKeyPair('RS256')
  const forged = await new SignJWT(logoutClaims())
    .setProtectedHeader({ alg: 'RS256', kid: 'first' })
    .sign(stranger.privateKey)
  const unsigned = `${Buffer.from('{"alg":"none"}').toString('base64url')}.${Buffer.from(JSON.stringify(logoutClaims())).toString('base64url')}.`
  const past = Math.floor(Date.now() / 1000) - 600
  const cases: [string, string | undefined, string?][] = [
    ['nothing', undefined],
    ['rubbish', 'a.b.c'],
    ['another key', forged],
    ['no signature', unsigned],
    ['an ID token', await idp.sign(logoutClaims({ events: undefined, nonce: 'n' }))],
    ['a nonce', await idp.sign(logoutClaims({ nonce: 'n' }))],
    ['another event', await idp.sign(logoutClaims({ events: { 'https://other.example': {} } }))],
    ['another audience', await idp.sign(logoutClaims({ aud: 'app-2' }))],
    ['another issuer', await idp.sign(logoutClaims({ iss: 'https://other.example' }))],
    ['expired', await idp.sign(logoutClaims({ iat: past, exp: past + 60 }))],
    ['good for a day', await idp.sign(logoutClaims({ exp: past + 86_400 }))],
    ['a session alone', await idp.sign(logoutClaims({ sub: undefined }))],
    ['no jti', await idp.sign(logoutClaims({ jti: undefined }))],
    ['another kind of token', await idp.sign(logoutClaims(), { typ: 'at+jwt' })],
    ['another provider', await idp.sign(logoutClaims()), 'other'],
  ]
  for (const [what, logoutToken, id] of cases) {
    const answer = await post(logoutToken, id)
    t.equal(answer.status, 400, what)
    t.match(JSON.parse(answer.text), { error: 'invalid_request' })
    t.match(
      world.logs.findLast(({ reference }) => reference),
      { event: 'logout.refused' },
      `${what}: record`,
    )
  }
  t.ok(await signedIn(world, browser))
  const good = await idp.sign(logoutClaims())
  t.equal((await post(good)).status, 200)
  await signIn(ann)
  t.equal((await post(good)).status, 400, 'used twice')
})

t.test('logout tokens, which anybody can bring, are no reason to ask the provider each time', async (t) => {
  proves(t, 'LOGOUT-05')
  const { world, answers, idp, signIn, logoutClaims, post } = await scene(t)
  const { browser } = await signIn(ann)
  const stranger = await generateKeyPair('RS256')
  const before = answers.asked.length
  for (let index = 0; index < 10; index++) {
    const forged = await new SignJWT(logoutClaims())
      .setProtectedHeader({ alg: 'RS256', kid: `unknown-${index}` })
      .sign(stranger.privateKey)
    t.equal((await post(forged)).status, 400)
  }
  t.ok(answers.asked.length - before <= 2, `${answers.asked.length - before} requests`)
  t.equal((await post(await idp.sign(logoutClaims()))).status, 200)
  t.notOk(await signedIn(world, browser))
})

t.test('signing out here shows where to sign out at the provider', async (t) => {
  proves(t, 'LOGOUT-03')
  const { world, signIn } = await scene(t)
  const { browser } = await signIn(ann)
  const page = await browser.get(`${world.issuer}/sign-out`)
  const done = await browser.submit(page, '/sign-out')
  const link = /<a href="([^"]*protocol\/openid-connect\/logout[^"]*)"/.exec(done.text)?.[1] ?? ''
  const url = new URL(link.replaceAll('&amp;', '&'))
  t.equal(url.searchParams.get('client_id'), 'app-1')
  t.equal(url.searchParams.get('post_logout_redirect_uri'), `${world.issuer}/signed-out`)
  t.notOk(await signedIn(world, browser))
  t.match((await browser.get(`${world.issuer}/signed-out`)).text, /Signed out/)
})
