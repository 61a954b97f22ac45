import t from 'tap'
import { proves } from '../../requirements.ts'
import { Browser } from './browser.ts'
import { authorizeUrl, obtainTokens, pkce, refresh, startWorld } from './world.ts'

t.test('a person withdraws what they allowed: tokens end, and the agent has to ask again', async (t) => {
  proves(t, 'OAUTH-50')
  const world = await startWorld()
  t.teardown(() => world.close())
  const { client, tokens, browser } = await obtainTokens(world)
  const bob = await obtainTokens(world, { client, email: 'bob@example.com' })
  const page = await browser.get(`${world.origin}/agents`)
  t.equal(page.status, 200)
  t.match(page.text, /Test Agent/)
  const forged = await browser.post(`${world.origin}/agents/withdraw`, { client_id: client.client_id })
  t.equal(forged.status, 403, 'not without the form')
  t.equal((await browser.submit(page, '/withdraw')).status, 303)
  t.same(world.revoked, [{ subject: 'ann@example.com', clientId: client.client_id }], 'gateways are told')
  t.equal((await refresh(world, client.client_id, tokens.refresh_token!)).body.error, 'invalid_grant')
  t.notMatch((await browser.get(`${world.origin}/agents`)).text, /Test Agent/)
  const silent = await browser.get(
    authorizeUrl(world, client.client_id, pkce().challenge, { prompt: 'none' }),
  )
  t.match(silent.location, /error=(consent|interaction)_required/)
  const other = await refresh(world, client.client_id, bob.tokens.refresh_token!)
  t.equal(other.status, 200, 'another person’s consent to the same agent stays')
  t.match(
    (await new Browser().get(`${world.origin}/agents`)).location,
    /sign-in/,
    'and nobody sees it unsigned',
  )
})
