import { createHash } from 'node:crypto'
import { test } from 'tap'
import { proves } from '../../requirements.ts'
import { type Plane, signIn, startPlane, tokenOf } from '../fleet/credential-rig.ts'
import { Browser } from '../identity/browser.ts'
import { form, standIn } from './stand-ins.ts'

test('a shared account: an administrator authorizes it once, everyone whom policy lets through uses it', async (t) => {
  proves(t, 'CRED-53')
  let count = 0
  const as = await standIn(t, ({ path, body }) => {
    if (path.endsWith('/.well-known/openid-configuration')) {
      return {
        body: {
          issuer: as.origin,
          authorization_endpoint: `${as.origin}/authorize`,
          token_endpoint: `${as.origin}/token`,
          revocation_endpoint: `${as.origin}/revoke`,
          code_challenge_methods_supported: ['S256'],
        },
      }
    }
    if (path === '/revoke') return { body: {} }
    if (path !== '/token') return { status: 404, body: {} }
    if (form(body).refresh_token === 'ended') return { status: 400, body: { error: 'invalid_grant' } }
    const refresh_token = ++count > 1 ? 'ended' : 'first'
    return {
      body: { access_token: `shared-${count}`, token_type: 'Bearer', expires_in: 3600, refresh_token },
    }
  })
  const plane: Plane = await startPlane('https://server.example/mcp')
  t.teardown(() => plane.close())
  await plane.apply({
    serverWorkloads: [{ id: 'server', url: 'https://server.example/mcp' }],
    credentialProviders: [
      {
        id: 'cp',
        name: 'Ticket system',
        type: 'oauth-authorization-code',
        clientId: 'ours',
        clientSecret: { value: 'the-client-secret' },
        scopes: ['tickets'],
        oauthDiscoveryUrl: `${as.origin}/.well-known/openid-configuration`,
        lifetime: '90d',
        customParameters: [{ key: 'prompt', value: 'consent' }],
        allowedNetworks: ['127.0.0.0/8'],
      },
    ],
    accessPolicies: [
      { id: 'in', client: 'agents', server: 'gateway' },
      { id: 'use', server: 'server', trustProviders: ['staff'], credentialProvider: 'cp' },
    ],
  })
  for (const name of ['ann', 'bob']) await signIn(plane, name)
  const ask = (name: string, rejected?: string) => plane.ask(name, rejected, 'server')
  const administration = plane.plane.shared()!
  proves(t, 'CRED-94')
  t.match(await ask('ann'), { kind: 'denied', by: 'provider', reason: 'not_authorized' })
  t.equal(administration.authorize('key'), undefined, 'another type')
  t.match(administration.verification('cp'), { state: 'NotAuthorized' })

  const { userAuthorizationUrl } = administration.authorize('cp')!
  const browser = new Browser()
  const page = await browser.get(userAuthorizationUrl)
  t.match(page.text, /Ticket system/)
  t.match(page.text, /shared account/)
  t.equal((await browser.submit(page, '/authorize', { csrf: 'x' })).status, 410)
  const left = new URL((await browser.submit(page, '/authorize')).location!)
  t.match(Object.fromEntries(left.searchParams), {
    client_id: 'ours',
    scope: 'tickets',
    prompt: 'consent',
    code_challenge_method: 'S256',
    redirect_uri: `${plane.origin}/api/v1/credential-providers/cp/callback`,
  })
  t.equal((await browser.get(userAuthorizationUrl)).status, 410, 'the link works once')
  const back = `${left.searchParams.get('redirect_uri')}?code=c&state=${left.searchParams.get('state')}`
  t.equal((await new Browser().get(back)).status, 400, 'another browser')
  const second = await browser.get(administration.authorize('cp')!.userAuthorizationUrl)
  const again = new URL((await browser.submit(second, '/authorize')).location!)
  const done = `${again.searchParams.get('redirect_uri')}?code=c&state=${again.searchParams.get('state')}`
  t.match((await browser.get(done)).text, /Authorized/)
  t.equal((await browser.get(done)).status, 400, 'a code is exchanged once')

  t.equal(tokenOf(await ask('ann')), 'shared-1')
  t.equal(tokenOf(await ask('bob')), 'shared-1', 'the same for all')
  t.match(administration.verification('cp'), { state: 'Authorized' })
  plane.clock.offset += 3_590_000
  const answers = await Promise.all(Array.from({ length: 30 }, (_, at) => ask(at % 2 ? 'ann' : 'bob')))
  t.same([...new Set(answers.map(tokenOf))], ['shared-2'], 'one refresh for all')

  const digest = createHash('sha256').update('Bearer shared-2').digest('base64url')
  t.match(await ask('ann', digest), {
    kind: 'denied',
    by: 'provider',
    reason: 'authorization_ended (invalid_grant)',
  })
  t.match(administration.verification('cp'), { state: 'Ended' })
  t.equal(
    (await browser.get(`${plane.origin}/shared-accounts`)).status,
    410,
    'the page is nobody’s without a link',
  )
  const link = administration.pageLink()
  const list = await browser.follow(await browser.get(link))
  t.equal((await new Browser().get(link)).status, 410, 'the link works once')
  t.match(list.text, /Needs to be authorized again/)
  t.match(list.text, /authorized by administrator, \d{4}-/)
  t.match(list.text, /last problem: the access ended or was taken back at the server \(invalid_grant\)/)
  const leave = await browser.submit(list, '/cp/authorize')
  t.match(leave.location, /\/credential-providers\/cp\/authorize\?ticket=/)
  t.match((await browser.follow(leave)).text, /Ticket system/)
  t.equal((await browser.submit(list, '/cp/revoke', { csrf: 'x' })).status, 410)
  t.equal((await new Browser().get(`${plane.origin}/shared-accounts`)).status, 410, 'another browser')
  const gone = await browser.follow(await browser.submit(list, '/cp/revoke'))
  t.match(gone.text, /Revoked\. The server was told/)
  t.match(gone.text, /Not authorized/)
  plane.clock.offset += 601_000
  t.equal((await browser.get(`${plane.origin}/shared-accounts`)).status, 410, 'for ten minutes')
  t.match(await ask('ann'), { kind: 'denied', reason: 'not_authorized' })
  t.notMatch(plane.lines.join(''), /the-client-secret|shared-1|code=c/)
})
