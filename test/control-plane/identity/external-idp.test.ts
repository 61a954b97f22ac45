import { once } from 'node:events'
import { createServer, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { decodeJwt } from 'jose'
import { Provider } from 'oidc-provider'
import t, { type Test } from 'tap'
import { proves } from '../../requirements.ts'
import { type Answer, Browser } from './browser.ts'
import { authorizeUrl, callback, pkce, register, startWorld, token, type World } from './world.ts'

/** An identity provider that signs in whoever the test says, on its own origin. */
interface Idp {
  readonly issuer: string
  readonly requests: string[]
  person: Record<string, unknown>
  close(): Promise<void>
}

async function startIdp(redirects: () => string[]): Promise<Idp> {
  const server: Server = createServer()
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const issuer = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
  const idp: Idp = {
    issuer,
    requests: [],
    person: {},
    close: async () => {
      server.closeAllConnections()
      await new Promise((resolve) => server.close(resolve))
    },
  }
  const client = (id: string) => ({
    client_id: id,
    client_secret: 'idp-secret',
    redirect_uris: redirects(),
    token_endpoint_auth_method: 'client_secret_post' as const,
  })
  let provider: Provider | undefined
  const make = () => {
    const made = new Provider(issuer, {
      clients: [client('gateway')],
      cookies: { keys: ['k'] },
      claims: { openid: ['sub'], email: ['email', 'email_verified'], profile: ['name', 'groups'] },
      conformIdTokenClaims: false,
      features: { devInteractions: { enabled: false } },
      interactions: { url: (_ctx, { uid }) => `/login/${uid}` },
      pkce: { required: () => true },
      findAccount: async (_ctx, sub) => ({ accountId: sub, claims: async () => ({ ...idp.person, sub }) }),
      loadExistingGrant: async (ctx) => {
        const grant = new ctx.oidc.provider.Grant({
          accountId: ctx.oidc.session!.accountId!,
          clientId: ctx.oidc.client!.clientId,
        })
        grant.addOIDCScope('openid profile email')
        await grant.save()
        return grant
      },
    })
    return made
  }
  server.on('request', async (request, response) => {
    idp.requests.push(`${request.method} ${request.url}`)
    provider ??= make()
    if (!request.url?.startsWith('/login/')) return provider.callback()(request, response)
    await provider.interactionDetails(request, response)
    await provider.interactionFinished(request, response, { login: { accountId: String(idp.person.sub) } })
  })
  return idp
}

async function scene(t: Test, over: Record<string, unknown> = {}, more: unknown[] = []) {
  let world: World | undefined
  const idp = await startIdp(() => [`${world!.issuer}/idp/corp/callback`])
  t.teardown(() => idp.close())
  world = await startWorld({
    config: {
      identityProviders: [
        {
          id: 'corp',
          name: 'Corp SSO',
          type: 'oidc',
          issuer: idp.issuer,
          clientId: 'gateway',
          clientSecret: { value: 'idp-secret' },
          allowedNetworks: ['127.0.0.0/8'],
          ...over,
        },
        ...more,
      ],
    },
  })
  const running = world
  t.teardown(() => running.close())
  idp.person = {
    sub: 'u-1',
    email: 'Ann@Example.com',
    email_verified: true,
    name: 'Ann Corp',
    groups: ['eng', 'ops'],
  }
  const begin = async (browser = new Browser()) => {
    const client = await register(running)
    const { verifier, challenge } = pkce()
    const page = await browser.follow(await browser.get(authorizeUrl(running, client.client_id, challenge)))
    return { browser, client, verifier, page }
  }
  /** To the IdP and through it, up to (not into) our callback. */
  const toCallback = async (browser: Browser, page: Answer): Promise<string> => {
    const away = await browser.submit(page, '/idp')
    t.ok(away.location?.startsWith(idp.issuer), `${away.status} ${away.location} ${away.text}`)
    const back = await browser.follow(away, `${running.issuer}/idp/corp/callback`)
    t.ok(back.location, `${back.status} ${back.text}`)
    return back.location!
  }
  return { world: running, idp, begin, toCallback }
}

t.test('signing in through an OpenID provider', async (t) => {
  proves(t, 'OAUTH-25')
  const { world, idp, begin, toCallback } = await scene(t)
  const { browser, client, verifier, page } = await begin()
  t.match(page.text, /Continue with Corp SSO/)
  t.notMatch(page.text, /type="password"/, 'no password form where there is no directory')
  t.equal(idp.requests.length, 0, 'nothing was sent upstream before the person chose')
  const away = await browser.submit(page, '/idp')
  const sent = new URL(away.location!).searchParams
  t.equal(sent.get('code_challenge_method'), 'S256')
  t.ok(sent.get('nonce') && sent.get('state'))
  t.equal(sent.get('redirect_uri'), `${world.issuer}/idp/corp/callback`)
  const back = await toCallback(browser, page)
  const consent = await browser.follow(await browser.get(back))
  t.match(consent.text, /ann@example\.com/)
  const done = await browser.follow(
    await browser.submit(consent, '/consent', { decision: 'allow' }),
    callback,
  )
  const { body } = await token(world, {
    grant_type: 'authorization_code',
    code: new URL(done.location!).searchParams.get('code')!,
    redirect_uri: callback,
    client_id: client.client_id,
    code_verifier: verifier,
  })
  t.match(decodeJwt(body.access_token), {
    sub: 'ann@example.com',
    idp: 'corp',
    email: 'ann@example.com',
    name: 'Ann Corp',
    groups: ['eng', 'ops'],
  })
  const dump = JSON.stringify(world.logs)
  t.notOk(dump.includes('idp-secret'))
  t.notOk(dump.includes(new URL(back).searchParams.get('code')!), 'the code is in no log')
})

t.test('state: of another browser, used, unknown, missing, of another provider', async (t) => {
  proves(t, 'OAUTH-26')
  const { world, begin, toCallback } = await scene(t)
  const { browser, page } = await begin()
  const back = await toCallback(browser, page)
  const refused = async (who: Browser, url: string, why: string) => {
    const answer = await who.get(url)
    t.equal(answer.status, 400, why)
    t.match(answer.text, /You are not signed in/, why)
    t.equal(who.cookie(world.origin, 'session'), undefined, `${why}: no session`)
  }
  await refused(new Browser(), back, 'a browser without our cookie (login CSRF)')
  const other = await begin()
  await refused(other.browser, back, 'a browser with a sign-in of its own')
  await refused(browser, back.replace('/idp/corp/', '/idp/other/'), 'a provider that is none')
  const unknown = new URL(back)
  unknown.searchParams.set('state', 'x'.repeat(43))
  await refused(browser, unknown.href, 'an unknown state')
  unknown.searchParams.delete('state')
  await refused(browser, unknown.href, 'no state')
  const good = await browser.get(back)
  t.equal(good.status, 303, 'the right browser is let in all the same')
  const again = await browser.get(back)
  t.equal(again.status, 400, 'once')
})

t.test('a code of another sign-in, another issuer, an error answer', async (t) => {
  proves(t, 'OAUTH-27')
  const { world, idp, begin, toCallback } = await scene(t)
  const victim = await begin()
  const attacker = await begin()
  idp.person = { sub: 'evil', email: 'evil@example.com', email_verified: true }
  const theirs = new URL(await toCallback(attacker.browser, attacker.page))
  idp.person = { sub: 'u-1', email: 'ann@example.com', email_verified: true }
  const mine = new URL(await toCallback(victim.browser, victim.page))
  const injected = new URL(mine)
  injected.searchParams.set('code', theirs.searchParams.get('code')!)
  const answer = await victim.browser.get(injected.href)
  t.equal(answer.status, 400, 'PKCE and nonce stop an injected code')
  t.match(answer.text, /could not be verified/)

  const mixed = await begin()
  const other = new URL(await toCallback(mixed.browser, mixed.page))
  other.searchParams.set('iss', 'https://evil.example')
  t.equal((await mixed.browser.get(other.href)).status, 400, 'iss of another (mix-up)')

  const failing = await begin()
  const away = await failing.browser.submit(failing.page, '/idp')
  const error = new URL(`${world.issuer}/idp/corp/callback`)
  error.search = new URLSearchParams({
    error: 'access_denied',
    error_description: '<b>call 555</b>',
    state: new URL(away.location!).searchParams.get('state')!,
    iss: idp.issuer,
  }).toString()
  const told = await failing.browser.get(error.href)
  t.match(told.text, /did not sign you in/)
  t.notMatch(told.text, /555/, 'nothing of the provider’s words')
})

t.test('claims: who is refused', async (t) => {
  const { idp, begin, toCallback } = await scene(t)
  for (const [person, text] of [
    [{ sub: 'u-2', email: 'x@example.com', email_verified: false }, /has not verified your email/],
    [{ sub: 'u-3' }, /claim &quot;email&quot; is missing/],
    [{ sub: 'u-4', email: ['a@example.com', 'b@example.com'] }, /claim &quot;email&quot; is missing/],
  ] as const) {
    idp.person = { ...person }
    const { browser, page } = await begin()
    const answer = await browser.get(await toCallback(browser, page))
    t.equal(answer.status, 400)
    t.match(answer.text, text)
  }
})

t.test('a subject has one provider, until that one is gone', async (t) => {
  const directory = {
    id: 'local',
    name: 'Local users',
    type: 'directory',
    users: [{ email: 'ann@example.com', password: 'local-secret' }],
  }
  const { world, idp, begin, toCallback } = await scene(t, {}, [directory])
  const local = await begin()
  t.match(local.page.text, /Continue with Corp SSO[\s\S]*type="password"/, 'both are offered')
  const first = await local.browser.submit(local.page, '/password', {
    email: 'ann@example.com',
    password: 'local-secret',
  })
  t.equal(first.status, 303)
  const external = await begin()
  const refused = await external.browser.get(await toCallback(external.browser, external.page))
  t.equal(refused.status, 400)
  t.match(refused.text, /belongs to &quot;Local users&quot; here/)
  const corp = world.config.identityProviders.find(({ id }) => id === 'corp')!
  await world.apply({
    identityProviders: [
      {
        id: 'corp',
        type: 'oidc',
        issuer: idp.issuer,
        clientId: 'gateway',
        clientSecret: { value: 'idp-secret' },
        allowedNetworks: ['127.0.0.0/8'],
      },
    ],
  })
  t.ok(corp)
  const moved = await begin()
  t.equal((await moved.browser.get(await toCallback(moved.browser, moved.page))).status, 303, 'then it moves')
  t.ok(world.logs.some((line) => /moved to another identity provider/.test(String(line.msg))))
})

t.test('the network guard: a provider in private space that no one allowed', async (t) => {
  const { idp, begin } = await scene(t, { allowedNetworks: [] })
  const { browser, page } = await begin()
  const answer = await browser.submit(page, '/idp')
  t.equal(answer.status, 503)
  t.match(answer.text, /can not be reached right now/)
  t.equal(idp.requests.length, 0, 'not one request went out')
})
