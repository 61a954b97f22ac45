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
  startWorld,
  TestClock,
} from './world.ts'

const ann = { email: 'ann@example.com', password }

t.test('lockout grows per account, whoever guesses, and costs unknown people the same', async (t) => {
  proves(t, 'OAUTH-23')
  const clock = new TestClock()
  const world = await startWorld({ clock })
  t.teardown(() => world.close())
  const { browser, page } = await atSignIn(world)
  const attempt = (email: string, secret: string, address: string) => {
    const form = forms(page.text).find(({ action }) => action.endsWith('/password'))!
    return browser.post(
      new URL(form.action, page.url).href,
      { ...form.fields, email, password: secret },
      { 'x-forwarded-for': address },
    )
  }
  for (const email of ['ann@example.com', 'nobody@example.com']) {
    for (let i = 0; i < 5; i++) {
      const answer = await attempt(email, 'wrong', `198.51.100.${i}`)
      t.equal(answer.status, 400)
      t.match(answer.text, /That email and password do not match\./)
    }
    const locked = await attempt(email, password, '203.0.113.1')
    t.equal(locked.status, 429, `${email}: even the right password`)
    t.match(locked.text, /Too many attempts\. Try again in 5 seconds/)
    t.equal(locked.headers.get('retry-after'), '5')
  }
  clock.offset += 5_001
  t.equal((await attempt('ANN@example.com ', 'wrong', '203.0.113.1')).status, 400)
  const doubled = await attempt('ann@example.com', password, '203.0.113.1')
  t.equal(doubled.headers.get('retry-after'), '10', 'twice as long')
  clock.offset += 10_001
  t.equal((await attempt('ann@example.com', password, '203.0.113.1')).status, 303, 'then it works')
  t.ok(world.logs.some((line) => line.event === 'sign_in.failed' && /^locked/.test(String(line.detail))))
})

t.test('lockout per address, over many accounts', async (t) => {
  proves(t, 'OAUTH-24')
  const world = await startWorld()
  t.teardown(() => world.close())
  const { browser, page } = await atSignIn(world)
  const form = forms(page.text).find(({ action }) => action.endsWith('/password'))!
  const attempt = (email: string, address: string) =>
    browser.post(
      new URL(form.action, page.url).href,
      { ...form.fields, email, password: 'wrong' },
      { 'x-forwarded-for': address },
    )
  for (let i = 0; i < 20; i++) t.equal((await attempt(`user${i}@example.com`, '203.0.113.7')).status, 400)
  t.equal((await attempt('fresh@example.com', '203.0.113.7')).status, 429)
  t.equal((await attempt('fresh@example.com', '203.0.113.8')).status, 400)
})

t.test('policy refuses in words, names the reason, and hands access_denied back', async (t) => {
  const world = await startWorld({
    config: {
      clientWorkloads: [
        { id: 'desk', name: 'Desk agent', identities: [{ type: 'oauthRedirectUri', value: callback }] },
      ],
      accessPolicies: [
        {
          id: 'staff-in',
          name: 'Staff may come in',
          client: 'desk',
          server: 'gateway',
          trustProviders: ['staff'],
        },
      ],
    },
  })
  t.teardown(() => world.close())
  const client = await register(world, { redirect_uris: [callback, 'https://unknown.example/cb'] })
  const as = async (email: string, over: Record<string, string> = {}) => {
    const browser = new Browser()
    const page = await browser.follow(
      await browser.get(authorizeUrl(world, client.client_id, pkce().challenge, over)),
    )
    return {
      browser,
      page: await browser.follow(await browser.submit(page, '/password', { email, password }), callback),
    }
  }
  const bob = await as('bob@example.com')
  t.equal(bob.page.status, 403)
  t.match(bob.page.text, /Not allowed by policy/)
  t.match(bob.page.text, /Staff/, 'names the trust provider that does not fit')
  t.match(bob.page.text, /trust_provider_mismatch/)
  t.match(
    world.logs.find((line) => line.event === 'consent.refused'),
    { subject: 'bob@example.com', policyId: 'staff-in' },
  )
  const forced = await bob.browser.submit(bob.page, '/deny', { decision: 'allow' })
  t.match((await bob.browser.follow(forced, callback)).location, /error=access_denied/)
  const stranger = await as('ann@example.com', { redirect_uri: 'https://unknown.example/cb' })
  t.match(stranger.page.text, /No client workload of this gateway has the address/)
  const switched = await as('bob@example.com')
  const again = await switched.browser.follow(await switched.browser.submit(switched.page, '/switch'))
  t.match(again.text, /name="password"/, 'someone else may sign in')
  const consent = await switched.browser.follow(await switched.browser.submit(again, '/password', ann))
  t.match(consent.text, /\/consent"/)
})

t.test('policy that changes between consent and code, and for a remembered consent', async (t) => {
  const world = await startWorld()
  t.teardown(() => world.close())
  const { client, browser } = await obtainTokens(world)
  await world.apply({ accessPolicies: [] })
  const silent = await browser.get(
    authorizeUrl(world, client.client_id, pkce().challenge, { prompt: 'none' }),
  )
  t.match(silent.location, /error=access_denied/)
  const page = await browser.follow(
    await browser.get(authorizeUrl(world, client.client_id, pkce().challenge)),
    callback,
  )
  t.equal(page.status, 403)
  t.match(page.text, /No access policy names client workload/)
})
