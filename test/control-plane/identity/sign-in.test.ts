import { once } from 'node:events'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import Fastify from 'fastify'
import t from 'tap'
import { proves } from '../../requirements.ts'
import { Browser, forms } from './browser.ts'
import {
  atSignIn,
  authorizeUrl,
  callback,
  obtainTokens,
  password,
  pkce,
  register,
  signInAndAllow,
  startWorld,
} from './world.ts'

const ann = { email: 'ann@example.com', password }

t.test('the pages: what a browser is told about them', async (t) => {
  const world = await startWorld()
  t.teardown(() => world.close())
  const { browser, page } = await atSignIn(world, new Browser(), { login_hint: '"><script>ann' })
  t.equal(page.status, 200)
  t.match(page.text, /<strong>Test Agent<\/strong> wants to use MCP servers/)
  t.match(page.text, /value="&quot;&gt;&lt;script&gt;ann"/, 'what a client sends is text')
  const consent = await browser.follow(await browser.submit(page, '/password', ann))
  t.equal(consent.status, 200)
  for (const answer of [page, consent]) {
    t.match(answer.headers.get('content-security-policy'), /default-src 'none'.*frame-ancestors 'none'/)
    t.equal(answer.headers.get('x-frame-options'), 'DENY')
    t.equal(answer.headers.get('cache-control'), 'no-store')
    t.equal(answer.headers.get('x-content-type-options'), 'nosniff')
    t.notMatch(answer.text, /<script/)
  }
  t.match(consent.text, /Allow Test Agent\?/)
  t.match(consent.text, /Team wiki<small>wiki\.example</, 'the servers within reach')
  t.match(consent.text, /<strong>127\.0\.0\.1<\/strong>/, 'where the answer goes')
  t.match(consent.text, /a program on this computer/, 'the loopback warning')
  t.match(consent.text, /ann@example\.com/)
  const style = /href="(\/assets\/style[^"]+)"/.exec(page.text)?.[1]
  t.equal((await browser.get(`${world.origin}${style}`)).status, 200)
})

t.test('denying and cancelling answer access_denied', async (t) => {
  proves(t, 'OAUTH-21')
  const world = await startWorld()
  t.teardown(() => world.close())
  const { browser, page } = await atSignIn(world)
  const cancelled = await browser.follow(await browser.submit(page, '/cancel'), callback)
  t.match(cancelled.location, /error=access_denied.*iss=/)
  const second = await atSignIn(world)
  const consent = await second.browser.follow(await second.browser.submit(second.page, '/password', ann))
  const denied = await second.browser.follow(
    await second.browser.submit(consent, '/consent', { decision: 'deny' }),
    callback,
  )
  t.match(denied.location, /error=access_denied/)
  t.notOk(world.logs.some((line) => line.event === 'consent.given'))
})

t.test('consent is remembered per client, person and redirect URI', async (t) => {
  proves(t, 'OAUTH-22')
  const world = await startWorld()
  t.teardown(() => world.close())
  const both = ['https://agent.example/cb', callback]
  const client = await register(world, { redirect_uris: both })
  const { browser } = await obtainTokens(world, { client })
  const start = (over: Record<string, string | null> = {}) =>
    browser.get(authorizeUrl(world, client.client_id, pkce().challenge, over))
  t.match((await start()).location, /code=/, 'the same again: straight through')
  t.match(
    (await start({ redirect_uri: 'http://127.0.0.1:1/callback' })).location,
    /code=/,
    'another loopback port',
  )
  t.match((await start({ prompt: 'none' })).location, /code=/)
  const elsewhere = await browser.follow(await start({ redirect_uri: both[0]! }), both[0]!)
  t.match(elsewhere.text, /agent\.example/, 'another redirect URI is asked for')
  t.match(elsewhere.text, /gave its name itself/)
  const more = await browser.follow(await start({ scope: 'mcp email' }), callback)
  t.match(more.text, /\/consent"/, 'a further scope is asked for')
  const asked = await browser.follow(await start({ prompt: 'consent' }), callback)
  t.match(asked.text, /\/consent"/, 'prompt=consent asks')
  const other = await register(world)
  const page = await browser.follow(
    await browser.get(authorizeUrl(world, other.client_id, pkce().challenge)),
    callback,
  )
  t.match(page.text, /\/consent"/, 'another client is asked for, without signing in again')
  const bob = await signInAndAllow(
    new Browser(),
    authorizeUrl(world, client.client_id, pkce().challenge),
    'bob@example.com',
  )
  t.match(bob.location, /code=/)
  t.equal(world.logs.filter((line) => line.event === 'consent.given').length, 2, 'Ann once and Bob once')
})

t.test('forms without the right token, from elsewhere, or of another browser: 403', async (t) => {
  proves(t, 'OAUTH-18')
  const world = await startWorld()
  t.teardown(() => world.close())
  const { browser, page } = await atSignIn(world)
  const [form] = forms(page.text)
  const action = new URL(form!.action, page.url).href
  const fields = { ...form!.fields, ...ann }
  t.equal((await browser.post(action, ann)).status, 403, 'no token')
  t.equal((await browser.post(action, { ...fields, csrf: 'x' })).status, 403, 'a wrong one')
  const foreign = await browser.post(action, fields, { 'sec-fetch-site': 'cross-site' })
  t.equal(foreign.status, 403, 'from another site')
  t.equal((await new Browser().post(action, fields)).status, 403, 'no cookies')
  const other = await atSignIn(world)
  t.equal((await other.browser.post(action, fields)).status, 403, 'another browser')
  const [otherForm] = forms(other.page.text)
  const crossed = await other.browser.post(action, { ...otherForm!.fields, ...ann })
  t.equal(crossed.status, 403, 'the token of another interaction')
  const mine = await atSignIn(world, browser)
  const moved = forms(mine.page.text)[0]!
  t.equal(
    (await browser.post(action, { ...moved.fields, ...ann })).status,
    403,
    'my own token of another interaction',
  )
  t.equal((await browser.post(`${world.origin}/sign-out`, {})).status, 403)
  const consent = await browser.follow(await browser.post(action, fields))
  t.match(consent.text, /\/consent"/, 'and the right one works')
  const uid = new URL(consent.url).pathname
  t.equal((await browser.post(`${world.origin}${uid}/consent`, { decision: 'allow' })).status, 403)
})

t.test('an old link, a link of another browser, a finished one: told in words', async (t) => {
  const world = await startWorld()
  t.teardown(() => world.close())
  const { browser, page } = await atSignIn(world)
  const elsewhere = await new Browser().get(page.url)
  t.equal(elsewhere.status, 400)
  t.match(elsewhere.text, /This link has expired/)
  const consent = await browser.follow(await browser.submit(page, '/password', ann))
  const done = await browser.follow(
    await browser.submit(consent, '/consent', { decision: 'allow' }),
    callback,
  )
  t.match(done.location, /code=/)
  t.match((await browser.get(consent.url)).text, /Start again from your agent/)
  t.match((await browser.get(page.url)).text, /Start again from your agent/)
  const resumed = await browser.get(
    `${world.origin}/connect/authorize/${new URL(page.url).pathname.split('/')[2]}`,
  )
  t.match(resumed.text, /This link has expired/)
})

t.test('a session gets a new id at sign-in, and one that was planted is worth nothing', async (t) => {
  proves(t, 'OAUTH-19')
  const world = await startWorld()
  t.teardown(() => world.close())
  const attacker = await obtainTokens(world, { email: 'bob@example.com' })
  const planted = attacker.browser.cookie(world.origin, 'session')!
  const victim = new Browser()
  victim.jars.set(
    new URL(world.origin).host,
    new Map([['session', { value: 'chosen-by-an-attacker', path: '/' }]]),
  )
  await obtainTokens(world, { browser: victim })
  const own = victim.cookie(world.origin, 'session')
  t.not(own, 'chosen-by-an-attacker')
  t.not(own, planted)
  const { client } = attacker
  const page = await victim.follow(
    await victim.get(authorizeUrl(world, client.client_id, pkce().challenge, { prompt: 'login' })),
    callback,
  )
  t.match(page.text, /name="password"/)
  await victim.follow(await victim.submit(page, '/password', ann), callback)
  t.not(victim.cookie(world.origin, 'session'), own, 'a new id after signing in again')
})

t.test('signing in as someone else at the same browser leaves the first one’s agents alone', async (t) => {
  const world = await startWorld()
  t.teardown(() => world.close())
  const { browser, client, tokens } = await obtainTokens(world)
  const page = await browser.follow(
    await browser.get(authorizeUrl(world, client.client_id, pkce().challenge, { prompt: 'login' })),
    callback,
  )
  const consent = await browser.follow(
    await browser.submit(page, '/password', { email: 'bob@example.com', password }),
    callback,
  )
  t.match(consent.text, /bob@example\.com/, 'Bob is asked for himself')
  const done = await browser.follow(
    await browser.submit(consent, '/consent', { decision: 'allow' }),
    callback,
  )
  t.match(done.location, /code=/)
  const refreshed = await fetch(`${world.origin}/connect/token`, {
    method: 'POST',
    body: new URLSearchParams({
      grant_type: 'refresh_token',
      refresh_token: tokens.refresh_token!,
      client_id: client.client_id,
    }),
  })
  t.equal(refreshed.status, 200)
})

t.test('sign-in for a page of ours, and out again', async (t) => {
  proves(t, 'OAUTH-42')
  const world = await startWorld()
  t.teardown(() => world.close())
  const app = Fastify()
  app.get('/mine', async (request, reply) => {
    const user = await world.plane.sessions.requireUser(request, reply, '/mine?x=1')
    return user ? reply.send(user) : reply
  })
  await app.ready()
  const server = createServer((request, response) => app.routing(request, response))
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.teardown(() => {
    server.closeAllConnections()
    server.close()
  })
  const mine = `http://127.0.0.1:${(server.address() as AddressInfo).port}/mine`
  const browser = new Browser()
  const away = await browser.get(mine)
  t.equal(away.status, 303)
  t.equal(
    new URL(away.location!).pathname + new URL(away.location!).search,
    '/sign-in?return_to=%2Fmine%3Fx%3D1',
  )
  const page = await browser.get(`${world.origin}/sign-in?return_to=%2Fmine%3Fx%3D1`)
  const wrong = await browser.submit(page, '/password', { ...ann, password: 'no' })
  t.equal(wrong.status, 400)
  const back = await browser.submit(wrong, '/password', ann)
  t.equal(back.location, `${world.origin}/mine?x=1`)
  const session = browser.cookie(world.origin, 'session')!
  const signedIn = await fetch(mine, { headers: { cookie: `session=${session}` } })
  t.same(await signedIn.json(), {
    issuer: world.issuer,
    subject: 'ann@example.com',
    idp: 'local',
    email: 'ann@example.com',
    name: 'Ann',
    groups: ['dev'],
  })
  const consent = await browser.follow(
    await browser.get(authorizeUrl(world, (await register(world)).client_id, pkce().challenge)),
  )
  t.match(consent.text, /\/consent"/, 'the same session serves agents')
  for (const evil of [
    ...['https://evil.example/', '//evil.example/', '/\\evil.example', '\t//evil.example'],
    ...['/.//evil.example', '/a/..//evil.example'],
  ]) {
    const answer = await browser.get(`${world.origin}/sign-in?return_to=${encodeURIComponent(evil)}`)
    t.equal(new URL(answer.location!).origin, world.origin, evil)
  }
  const out = await browser.submit(await browser.get(`${world.origin}/sign-out`), '/sign-out')
  t.equal(out.status, 200)
  const gone = await fetch(mine, { headers: { cookie: `session=${session}` }, redirect: 'manual' })
  t.equal(gone.status, 303, 'the old cookie is worth nothing')
})

t.test('over https: __Host- and __Secure- cookies, with the attributes that make them so', async (t) => {
  proves(t, 'OAUTH-20')
  const world = await startWorld({ issuer: 'https://gateway.example' })
  t.teardown(() => world.close())
  const client = await register(world)
  const first = await fetch(
    authorizeUrl(world, client.client_id, pkce().challenge, { resource: 'https://gateway.example/mcp' }),
    {
      redirect: 'manual',
      headers: { 'x-forwarded-for': '203.0.113.5' },
    },
  )
  const location = first.headers.get('location')!
  t.ok(location.startsWith('/interaction/') || location.startsWith('https://gateway.example/interaction/'))
  const cookies = first.headers.getSetCookie()
  t.equal(cookies.length, 2)
  for (const cookie of cookies) {
    t.match(cookie, /^__Secure-(interaction|resume)=[^;]+;.*secure/i)
    t.match(cookie, /httponly/i)
    t.match(cookie, /samesite=lax/i)
    t.notMatch(cookie, /domain=/i)
  }
  const { pathname } = new URL(location, 'https://gateway.example')
  const page = await fetch(`${world.origin}${pathname}`, {
    headers: { cookie: cookies.map((cookie) => cookie.split(';')[0]).join('; ') },
  })
  t.equal(page.status, 200)
  const [binding] = page.headers.getSetCookie()
  t.match(binding, /^__Host-browser=[^;]+; Path=\/; HttpOnly; SameSite=Lax; Secure$/)
  const [form] = forms(await page.text())
  const signedIn = await fetch(`${world.origin}${form!.action}`, {
    method: 'POST',
    redirect: 'manual',
    headers: { cookie: [...cookies, binding!].map((cookie) => cookie.split(';')[0]).join('; ') },
    body: new URLSearchParams({ ...form!.fields, ...ann }),
  })
  const resume = signedIn.headers.get('location')!
  t.ok(resume.startsWith('https://gateway.example/connect/authorize/'), resume)
  const resumed = await fetch(`${world.origin}${new URL(resume).pathname}`, {
    redirect: 'manual',
    headers: { cookie: cookies.map((cookie) => cookie.split(';')[0]).join('; ') },
  })
  const session = resumed.headers.getSetCookie().find((cookie) => cookie.startsWith('__Host-session='))
  t.match(session, /path=\/;/i)
  t.match(session, /secure/i)
  t.match(session, /httponly/i)
})
