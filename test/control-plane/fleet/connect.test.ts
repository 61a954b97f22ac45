import { test } from 'tap'
import { createVault } from '../../../services/control-plane/credentials/vault.ts'
import { proves } from '../../requirements.ts'
import { Browser } from '../identity/browser.ts'
import { connect, link, password, scene, signIn, tokenOf } from './credential-rig.ts'

test('a person connects through the link, and the same question gets a credential', async (t) => {
  const { upstream, plane } = await scene(t)
  const browser = new Browser()
  const answer = await plane.ask('ann')
  t.match(answer, { kind: 'authorization_required', message: /Connect your Notes account/ })
  const page = await connect(plane, upstream, 'ann', browser)
  t.equal(page.status, 200, page.text)
  t.match(page.text, /Your Notes account is connected/)
  t.match(plane.changed, [{ issuer: plane.origin, subject: 'ann@example.com', serverId: 'notes' }])

  const token = tokenOf(await plane.ask('ann'))
  t.equal(await upstream.accountOf(token), 'ann-at-notes')
  t.match(await plane.ask('bob'), { kind: 'authorization_required' }, 'another person has none')
  t.ok(upstream.requests.includes('POST /reg'), 'registered itself')

  const list = await browser.get(`${plane.origin}/connections`)
  t.match(list.text, /Notes<\/strong> <span class="badge good">Connected</)
  t.match(list.text, /<code>notes<\/code>/)
  t.match(list.text, /until \d{4}-\d\d-\d\d \d\d:\d\d UTC, renewed by itself/)
  t.match(list.text, /Last used<\/dt><dd>\d{4}-/)
})

test('no line of the log holds a secret of a whole life: link, answer, tokens, refresh, failure, end', async (t) => {
  proves(t, 'CRED-17')
  const { upstream, plane } = await scene(t)
  const browser = await signIn(plane, 'ann')
  const url = await link(plane, 'ann')
  upstream.person = 'ann-at-notes'
  const left = await browser.submit(await browser.get(url), '/connect')
  const back = (await browser.follow(left, plane.origin)).location!
  await browser.get(back)
  const first = tokenOf(await plane.ask('ann'))
  plane.clock.offset += 3_600_000
  const second = tokenOf(await plane.ask('ann'))
  const key = {
    issuer: plane.origin,
    subject: 'ann@example.com',
    serverId: 'notes',
    providerId: 'notes-account',
  }
  const { refreshToken } = createVault(plane.db, plane.sealer, plane.clock).open(key)
  upstream.tokenStatus = 500
  plane.clock.offset += 3_600_000
  await t.rejects(plane.ask('ann'), { code: 'credential.unavailable' })
  await browser.submit(await browser.get(`${plane.origin}/connections`), '/disconnect')

  const query = new URL(back).searchParams
  const secrets = {
    first,
    second,
    refreshToken,
    password,
    ticket: new URL(url).searchParams.get('ticket'),
    code: query.get('code'),
    state: query.get('state'),
  }
  const log = plane.lines.join('')
  t.match(log, /account connected[\s\S]*token refreshed[\s\S]*refresh failed[\s\S]*account disconnected/)
  for (const [name, secret] of Object.entries(secrets)) {
    t.ok(typeof secret === 'string' && secret.length > 10, name)
    t.notOk(log.includes(secret!), `${name} is in no line`)
  }
})

test('two people keep their own accounts; registration happens once', async (t) => {
  const { upstream, plane } = await scene(t)
  await connect(plane, upstream, 'ann')
  await connect(plane, upstream, 'bob')
  t.equal(await upstream.accountOf(tokenOf(await plane.ask('ann'))), 'ann-at-notes')
  t.equal(await upstream.accountOf(tokenOf(await plane.ask('bob'))), 'bob-at-notes')
  t.equal(upstream.requests.filter((line) => line === 'POST /reg').length, 1)
})

test('a link that was made for someone else says so and connects nothing', async (t) => {
  proves(t, 'CRED-16')
  const { upstream, plane } = await scene(t)
  const browser = await signIn(plane, 'bob')
  const url = await link(plane, 'ann')
  const page = await browser.get(url)
  t.equal(page.status, 403)
  t.match(page.text, /This link is for someone else/)
  t.match(page.text, /bob@example\.com/)
  t.notMatch(page.text, /ann@example\.com/, 'does not tell whose it is')
  t.equal(upstream.requests.length, 0, 'nothing went out')
})

test('a link works once, and not for another server or when it was changed', async (t) => {
  proves(t, 'CRED-44')
  const { upstream, plane } = await scene(t)
  const browser = await signIn(plane, 'ann')
  const url = await link(plane, 'ann')
  const page = await browser.get(url)
  t.match(page.text, /You sign in at/)
  t.match(page.text, /ann@example\.com/)
  t.match(page.text, /<code>notes<\/code>/, 'names the scopes')
  const first = await browser.submit(page, '/connect')
  t.equal(first.status, 303)
  t.ok(first.location?.startsWith(upstream.issuer))
  t.equal((await browser.submit(page, '/connect')).status, 410, 'the same form again')
  t.equal((await browser.get(url)).status, 410, 'the same link again')
  t.equal((await browser.get(url.replace(/.$/, (last) => (last === 'A' ? 'B' : 'A')))).status, 410, 'changed')
  const fresh = await link(plane, 'ann')
  t.equal((await browser.get(fresh.replace('/notes/', '/keyed/'))).status, 410, 'another server')
  plane.clock.offset += 11 * 60_000
  t.equal((await browser.get(fresh)).status, 410, 'after ten minutes')
})

test('the form needs its CSRF value, and the authorization request what RFC 8707 and 7636 ask for', async (t) => {
  proves(t, 'CRED-18')
  const { plane, upstream } = await scene(t)
  const browser = await signIn(plane, 'ann')
  const page = await browser.get(await link(plane, 'ann'))
  t.equal((await browser.submit(page, '/connect', { csrf: 'x' })).status, 403)
  const { location } = await browser.submit(page, '/connect')
  const query = new URL(location!).searchParams
  t.equal(query.get('resource'), upstream.resource)
  t.equal(query.get('code_challenge_method'), 'S256')
  t.equal(query.get('scope'), 'notes offline_access')
  t.equal(query.get('redirect_uri'), `${plane.origin}/mcp-auth/userauth/notes-account/callback`)
})

test('an answer is for the browser and the person that left, once, from the server they left to', async (t) => {
  const { plane, upstream } = await scene(t)
  const start = async (browser: Browser) => {
    const page = await browser.get(await link(plane, 'ann'))
    upstream.person = 'ann-at-notes'
    const left = await browser.submit(page, '/connect')
    return (await browser.follow(left, plane.origin)).location!
  }
  const exchanges = () => upstream.grants.length

  const ann = await signIn(plane, 'ann')
  t.equal(
    (await (await signIn(plane, 'ann')).get(await start(ann))).status,
    400,
    'another browser of the same person',
  )
  t.equal((await new Browser().get(await start(ann))).status, 400, 'a browser without a session')

  const answer = await start(ann)
  await ann.submit(await ann.get(`${plane.origin}/sign-out`), '/sign-out')
  await signIn(plane, 'bob', ann)
  t.equal((await ann.get(answer)).status, 403, 'another person in the same browser')

  const again = await signIn(plane, 'ann')
  const wrongIssuer = new URL(await start(again))
  t.equal(wrongIssuer.searchParams.get('iss'), upstream.issuer)
  wrongIssuer.searchParams.set('iss', 'https://evil.example')
  t.equal((await again.get(wrongIssuer.href)).status, 502, 'iss of another server')
  const noIssuer = new URL(await start(again))
  noIssuer.searchParams.delete('iss')
  t.equal((await again.get(noIssuer.href)).status, 502, 'iss is advertised and absent')
  const otherProvider = (await start(again)).replace('notes-account', 'key')
  t.equal((await again.get(otherProvider)).status, 400, 'the callback of another provider')
  t.equal(exchanges(), 0, 'nothing was exchanged so far')

  const good = await start(again)
  t.equal((await again.get(good)).status, 200)
  t.equal((await again.get(good)).status, 400, 'a second time')
  t.equal(exchanges(), 1)
})

test("the server's no is told without its words", async (t) => {
  const { plane, upstream } = await scene(t)
  const browser = await signIn(plane, 'ann')
  const page = await browser.get(await link(plane, 'ann'))
  const { location } = await browser.submit(page, '/connect')
  const query = new URL(location!).searchParams
  const back = new URL(query.get('redirect_uri')!)
  back.searchParams.set('state', query.get('state')!)
  back.searchParams.set('iss', upstream.issuer)
  back.searchParams.set('error', 'access_denied')
  back.searchParams.set('error_description', 'Call 555-0100 <b>now</b>')
  const answer = await browser.get(back.href)
  t.match(answer.text, /declined/)
  t.notMatch(answer.text, /555-0100/)
})

test('policy decides: who may not use the server gets neither link nor page', async (t) => {
  proves(t, 'CRED-45')
  const { plane } = await scene(t)
  const eve = await signIn(plane, 'eve')
  t.match(await plane.ask('eve'), { kind: 'denied', reason: 'trust_provider_mismatch' })
  t.match(await plane.ask('mallory'), { kind: 'denied', reason: 'user_unknown' })
  t.match(await plane.ask('ann', undefined, 'nothing'), { kind: 'denied', reason: 'server_unknown' })
  t.equal((await eve.get(`${plane.origin}/connections/notes/connect`)).status, 403)
  t.match((await eve.get(`${plane.origin}/connections`)).text, /No server within your reach/)
  const answer = await plane.plane.issue({
    issuer: 'https://other.example',
    subject: 'ann@example.com',
    clientId: 'a',
    serverId: 'notes',
  })
  t.match(answer, { kind: 'denied', reason: 'issuer_unknown' })
})

test('a policy that is gone takes the credential with it, and disconnecting still works', async (t) => {
  proves(t, 'CRED-46')
  const { plane, upstream } = await scene(t)
  const browser = new Browser()
  await connect(plane, upstream, 'ann', browser)
  await plane.apply({ accessPolicies: [{ id: 'in', client: 'agents', server: 'gateway' }] })
  t.match(await plane.ask('ann'), { kind: 'denied', reason: 'no_policy' })
  const list = await browser.get(`${plane.origin}/connections`)
  t.match(list.text, /Policy no longer lets you use this server/)
  const done = await browser.follow(await browser.submit(list, '/disconnect'))
  t.match(done.text, /No server within your reach/)
})

test('disconnecting forgets here and revokes there', async (t) => {
  proves(t, 'CRED-15')
  const { plane, upstream } = await scene(t)
  const browser = new Browser()
  await connect(plane, upstream, 'ann', browser)
  await connect(plane, upstream, 'bob')
  const token = tokenOf(await plane.ask('ann'))
  const list = await browser.get(`${plane.origin}/connections`)
  t.equal((await browser.submit(list, '/disconnect', { csrf: 'x' })).status, 403)
  const done = await browser.follow(await browser.submit(list, '/disconnect'))
  t.match(done.text, /told to end the access/)
  t.match(done.text, /Not connected/)
  t.equal(await upstream.accountOf(token), undefined, 'the token is dead at the server')
  t.match(await plane.ask('ann'), { kind: 'authorization_required' })
  t.equal(await upstream.accountOf(tokenOf(await plane.ask('bob'))), 'bob-at-notes', 'nobody else is touched')
  t.equal(plane.changed.at(-1)?.subject, 'ann@example.com')
})

test('a client of the configuration is used as it is, and only at the server it was first used at', async (t) => {
  proves(t, 'CRED-47')
  const redirect = (origin: string) => `${origin}/mcp-auth/userauth/notes-account/callback`
  const { plane, upstream } = await scene(t, {
    registration: false,
    provider: {
      clientId: 'ours',
      clientSecret: { value: 'the-client-secret' },
      scopes: ['notes', 'offline_access'],
    },
  })
  // The upstream knows no such client: what counts is that nothing registered and that the id is sent.
  const browser = await signIn(plane, 'ann')
  const { location } = await browser.submit(await browser.get(await link(plane, 'ann')), '/connect')
  t.equal(new URL(location!).searchParams.get('client_id'), 'ours')
  t.equal(new URL(location!).searchParams.get('redirect_uri'), redirect(plane.origin))
  t.equal(upstream.requests.filter((line) => line === 'POST /reg').length, 0)
  plane.db.prepare("UPDATE oauth_client SET authorization_server = 'https://former.example'").run()
  const page = await browser.get(`${plane.origin}/connections/notes/connect`)
  t.equal((await browser.submit(page, '/connect')).status, 502, 'another authorization server now')
  t.match(plane.lines.join(''), /its client belongs to https:\/\/former\.example/)
  t.notMatch(plane.lines.join(''), /the-client-secret/)
})

test('API keys and open servers', async (t) => {
  const { plane } = await scene(t)
  // The event of the answer, for the chain of the calls that follow.
  const authorizationId = /^[0-9a-f-]{36}$/
  const open = await plane.ask('ann', undefined, 'open')
  t.match(open, { kind: 'none', authorizationId })
  t.same(Object.keys(open).sort(), ['authorizationId', 'kind'])
  const answer = await plane.ask('ann', undefined, 'keyed')
  t.match(answer, {
    kind: 'headers',
    headers: [{ name: 'Authorization', value: 'Bearer the-api-key' }],
    expiresAt: null,
    credentialProviderId: 'key',
  })
  const { createHash } = await import('node:crypto')
  const digest = createHash('sha256').update('Bearer the-api-key').digest('base64url')
  t.match(await plane.ask('ann', digest, 'keyed'), { kind: 'denied', reason: 'credential_rejected' })
})
