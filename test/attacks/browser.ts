import { strict as assert } from 'node:assert'
import { Browser, forms } from '../control-plane/identity/browser.ts'
import { callback } from '../control-plane/identity/world.ts'
import { users } from '../rig/world.ts'
import { type Area, attack } from './case.ts'
import type { AttackRig } from './rig.ts'

/** A browser at the sign-in page of a new request. */
const signInPage = async (rig: AttackRig, browser = new Browser()) => {
  const client = await rig.register()
  const page = await browser.follow(await browser.get(rig.link(client)), callback)
  assert.match(page.text, /name="password"/)
  return { browser, client, page }
}
const consentPage = async (rig: AttackRig) => {
  const at = await signInPage(rig)
  const { email, password } = users.ann
  const page = await at.browser.follow(
    await at.browser.submit(at.page, '/password', { email, password }),
    callback,
  )
  assert.match(page.text, /\/consent"/)
  return { ...at, page }
}
const formOf = (text: string, suffix: string) => {
  const form = forms(text).find(({ action }) => action.endsWith(suffix))
  assert.ok(form, `no form ${suffix}`)
  return form
}
const noCode = (answer: { location: string | null; status: number }): void => {
  assert.ok(answer.location === null || !/[?&]code=/.test(answer.location), `${answer.location}`)
}

const staysHere = async (rig: AttackRig, targets: readonly string[]): Promise<void> => {
  for (const target of targets) {
    const url = `${rig.origin}/sign-in?return_to=${encodeURIComponent(target)}`
    const { location, text } = await rig.ann.browser.get(url)
    assert.ok(location === null || new URL(location).origin === rig.origin, String(location))
    assert.doesNotMatch(text, /evil\.example/)
  }
}

export const browser: Area = {
  title: 'The browser: sign-in, consent, sessions',
  attacks: [
    attack(
      'CSRF on sign-in: the form without its token',
      'token bound to browser and request',
      async (rig) => {
        const { browser, page } = await signInPage(rig)
        const form = formOf(page.text, '/password')
        const { email, password } = users.ann
        const url = new URL(form.action, page.url).href
        const answer = await browser.post(url, { ...form.fields, csrf: '', email, password })
        assert.equal(answer.status, 403)
      },
    ),
    attack(
      'CSRF on sign-in: the token of another browser',
      'token bound to browser and request',
      async (rig) => {
        const victim = await signInPage(rig)
        const attacker = await signInPage(rig)
        const form = formOf(victim.page.text, '/password')
        const { csrf = '' } = formOf(attacker.page.text, '/password').fields
        const { email, password } = users.bob
        const url = new URL(form.action, victim.page.url).href
        const answer = await victim.browser.post(url, { ...form.fields, csrf, email, password })
        assert.equal(answer.status, 403)
      },
    ),
    attack('CSRF on consent: a form of the attacker', 'token bound to browser and request', async (rig) => {
      const { browser, page } = await consentPage(rig)
      const url = new URL(formOf(page.text, '/consent').action, page.url).href
      const answer = await browser.post(url, { decision: 'allow' }, { origin: 'https://evil.example' })
      assert.equal(answer.status, 403)
      noCode(answer)
    }),
    attack(
      'CSRF on consent: the token of another request',
      'token bound to browser and request',
      async (rig) => {
        const one = await consentPage(rig)
        const other = await signInPage(rig)
        const { csrf = '' } = formOf(other.page.text, '/password').fields
        const url = new URL(formOf(one.page.text, '/consent').action, one.page.url).href
        const answer = await one.browser.post(url, { csrf, decision: 'allow' })
        assert.equal(answer.status, 403)
        noCode(answer)
      },
    ),
    attack('consent by a link (GET)', 'a form alone', async (rig) => {
      const { browser, page } = await consentPage(rig)
      const url = new URL(formOf(page.text, '/consent').action, page.url).href
      const answer = await browser.get(`${url}?decision=allow`)
      assert.equal(answer.status, 404)
    }),
    attack(
      'consent by a person’s request in the attacker’s browser',
      'the request is bound to its browser',
      async (rig) => {
        const { page } = await consentPage(rig)
        const { action, fields } = formOf(page.text, '/consent')
        const answer = await rig.bob.browser.post(new URL(action, page.url).href, {
          ...fields,
          decision: 'allow',
        })
        assert.ok(answer.status === 403 || answer.status === 400, String(answer.status))
        noCode(answer)
      },
    ),
    attack('CSRF on sign-out: a form of the attacker', 'token bound to the browser', async (rig) => {
      const { browser } = await rig.enter('ann')
      const session = browser.cookie(rig.origin, '__Host-session')
      const url = `${rig.origin}/sign-out`
      const answer = await browser.post(url, { csrf: '' }, { origin: 'https://evil.example' })
      assert.equal(answer.status, 403)
      assert.equal(browser.cookie(rig.origin, '__Host-session'), session)
      assert.match((await browser.get(`${rig.origin}/connections`)).text, /ann@example\.com/)
    }),
    attack('clickjacking: the consent page in a frame', 'frame-ancestors none', async (rig) => {
      const { page } = await consentPage(rig)
      assert.match(String(page.headers.get('content-security-policy')), /frame-ancestors 'none'/)
      assert.match(String(page.headers.get('x-frame-options')), /deny/i)
    }),
    attack('a script in the client’s name', 'escaped, and no script runs (CSP)', async (rig) => {
      const client = await rig.register({
        client_name: '<script>alert(1)</script><img src=x onerror=alert(1)>',
      })
      const answer = await rig.ann.browser.follow(await rig.ann.browser.get(rig.link(client)), callback)
      assert.doesNotMatch(answer.text, /<script>alert|<img src=x/)
      assert.match(
        String(answer.headers.get('content-security-policy')),
        /default-src 'none'|script-src 'none'/,
      )
    }),
    attack(
      'a client’s name that turns the text around',
      'control and direction characters are removed',
      async (rig) => {
        const client = await rig.register({ client_name: 'Safe\u202eelgooG\u0007' })
        const answer = await rig.ann.browser.follow(await rig.ann.browser.get(rig.link(client)), callback)
        assert.ok(!answer.text.includes('\u202e') && !answer.text.includes('\u0007'))
      },
    ),
    attack(
      'session fixation: a session cookie that the attacker chose',
      'a new id at sign-in',
      async (rig) => {
        const at = await signInPage(rig)
        const name = '__Host-session'
        const jar = at.browser.jars.get(new URL(rig.origin).host)
        jar?.set(name, { value: 'chosen-by-the-attacker', path: '/' })
        const { email, password } = users.ann
        await at.browser.follow(await at.browser.submit(at.page, '/password', { email, password }), callback)
        const after = at.browser.cookie(rig.origin, name)
        assert.ok(after && after !== 'chosen-by-the-attacker', String(after))
      },
    ),
    attack(
      'session fixation: the attacker’s own session before Ann signs in',
      'the session of another person ends',
      async (rig) => {
        const eve = await rig.enter('bob')
        const before = eve.browser.cookie(rig.origin, '__Host-session')
        const thief = new Browser()
        thief.jars.set(new URL(rig.origin).host, new Map([['__Host-session', { value: before!, path: '/' }]]))
        const page = await eve.browser.follow(
          await eve.browser.get(rig.link(await rig.register(), { prompt: 'login' })),
          callback,
        )
        const { email, password } = users.ann
        await eve.browser.follow(await eve.browser.submit(page, '/password', { email, password }), callback)
        const { location } = await thief.get(rig.link(rig.ann.client, { prompt: 'none' }))
        assert.doesNotMatch(String(location), /[?&]code=/, 'the old id is not Ann’s session')
      },
    ),
    attack(
      'a cookie that scripts or other sites could use',
      'HttpOnly, Secure, SameSite, __Host-',
      async (rig) => {
        const fresh = new Browser()
        const answer = await fresh.get(rig.link(await rig.register()))
        const lines = answer.headers.getSetCookie()
        assert.ok(lines.length > 0)
        for (const line of lines) {
          assert.match(line, /^__(Host|Secure)-/)
          assert.match(line, /httponly/i)
          assert.match(line, /secure/i)
          assert.match(line, /samesite=(lax|strict)/i)
        }
      },
    ),
    attack('an open redirect after sign-in', 'return_to stays here', (rig) =>
      staysHere(rig, ['https://evil.example/', '//evil.example', '/\\evil.example', 'javascript:alert(1)']),
    ),
    attack('an open redirect through dots in the path', 'return_to is checked as it is resolved', (rig) =>
      staysHere(rig, [
        '/.//evil.example/x',
        '/a/..//evil.example',
        '/%2e//evil.example',
        '/.\\/evil.example',
        '/.\t//evil.example',
      ]),
    ),
    attack('guessing a password', 'locked after a few tries, for a while', async (rig) => {
      const { browser, page } = await signInPage(rig)
      let last = 0
      for (let i = 0; i < 25 && last !== 429; i++) {
        const answer = await browser.submit(page, '/password', {
          email: 'eve@example.com',
          password: `guess ${i}`,
        })
        assert.notEqual(answer.status, 303)
        last = answer.status
      }
      assert.equal(last, 429)
    }),
    attack('whether an account exists', 'the same answer for both', async (rig) => {
      const { browser, page } = await signInPage(rig)
      const text = async (email: string) =>
        (await browser.submit(page, '/password', { email, password: 'wrong' })).text.replaceAll(email, '')
      const strip = (html: string) => html.replace(/value="[^"]*"/g, '')
      assert.equal(strip(await text('bob@example.com')), strip(await text('nobody@example.com')))
    }),
  ],
}
