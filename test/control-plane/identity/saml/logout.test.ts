import { once } from 'node:events'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { inflateRawSync } from 'node:zlib'
import t from 'tap'
import { proves } from '../../../requirements.ts'
import { Browser } from '../browser.ts'
import { createSamlIdp, keyPair } from './idp.ts'
import { samlScene } from './scene.ts'

t.test('a logout request of the provider ends the sessions of its person and is answered', async (t) => {
  proves(t, 'LOGOUT-04')
  const { world, idp, ask, deliver } = await samlScene(t)
  const slo = `${world.issuer}/idp/corp/slo`
  const metadata = await (await fetch(`${world.origin}/idp/corp/metadata`)).text()
  t.match(
    metadata,
    `SingleLogoutService Binding="urn:oasis:names:tc:SAML:2.0:bindings:HTTP-Redirect" Location="${slo}"`,
  )
  const signIn = async (nameId: string) => {
    const { browser, request } = await ask()
    const email = nameId.toLowerCase()
    const response = idp.respond(request, { nameId, attributes: { email: [email] } })
    await browser.follow(await deliver(browser, request, response))
    return browser
  }
  const signedIn = async (browser: Browser): Promise<boolean> =>
    (await browser.get(`${world.issuer}/agents`)).status === 200
  const ann = await signIn('Ann@Example.com')
  const elsewhere = await signIn('Ann@Example.com')
  const bob = await signIn('Bob@Example.com')
  t.ok(await signedIn(ann))

  const stranger = keyPair()
  const send = (query: string, browser = new Browser()) => browser.get(`${slo}?${query}`)
  const good = idp.logoutQuery(slo)
  const cases: [string, string][] = [
    ['no request', 'RelayState=x'],
    ['no signature', good.replace(/&Signature=.*/, '')],
    ['another key', idp.logoutQuery(slo, { key: stranger.key })],
    ['SHA-1', idp.logoutQuery(slo, { algorithm: 'http://www.w3.org/2000/09/xmldsig#rsa-sha1' })],
    ['another relay state than signed', good.replace('&SigAlg', '&RelayState=x&SigAlg')],
    ['a second request', `SAMLRequest=x&${good}`],
    ['another issuer', idp.logoutQuery(slo, { issuer: 'https://other.example' })],
    ['another address', idp.logoutQuery('https://other.example/slo')],
    ['old', idp.logoutQuery(slo, { issued: -600_000 })],
    ['of the future', idp.logoutQuery(slo, { issued: 600_000 })],
    ['over', idp.logoutQuery(slo, { notOnOrAfter: new Date(Date.now() - 120_000).toISOString() })],
    ['another message', idp.logoutQuery(slo, { root: 'LogoutResponse' })],
    ['nobody', idp.logoutQuery(slo, { nameId: ' ' })],
  ]
  for (const [what, query] of cases) {
    const answer = await send(query)
    t.equal(answer.status, 400, what)
    t.match(answer.text, /You were not signed out[\s\S]*<code>[0-9a-f]{12}<\/code>/)
    t.match(
      world.logs.findLast(({ reference }) => reference),
      { event: 'logout.refused' },
      `${what}: record`,
    )
  }
  t.ok(await signedIn(ann), 'none of them ended anything')

  const asked = idp.logoutQuery(slo, { id: '_asked', relayState: 'back-there' })
  const answer = await send(asked, ann)
  t.equal(answer.status, 303, answer.text)
  const back = new URL(answer.location!)
  t.equal(`${back.origin}${back.pathname}`, 'https://idp.example/slo')
  t.equal(back.searchParams.get('RelayState'), 'back-there')
  t.ok(back.searchParams.get('Signature'), 'signed')
  const response = inflateRawSync(
    Buffer.from(back.searchParams.get('SAMLResponse') ?? '', 'base64'),
  ).toString()
  t.match(response, /InResponseTo="_asked"/)
  t.match(response, /status:Success/)
  t.notOk(await signedIn(ann))
  t.notOk(await signedIn(elsewhere), 'in every browser')
  t.ok(await signedIn(bob))
  t.equal((await send(asked)).status, 400, 'and once')
})

t.test('logout requests, which anybody can send, are no reason to ask the provider each time', async (t) => {
  proves(t, 'LOGOUT-05')
  const idp = createSamlIdp()
  let asked = 0
  const server = createServer((_request, response) => {
    asked += 1
    response.setHeader('content-type', 'application/xml').end(idp.metadata())
  }).listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.teardown(() => server.close())
  const metadataUrl = `http://127.0.0.1:${(server.address() as AddressInfo).port}/metadata`
  const { world } = await samlScene(t, { metadataUrl, allowedNetworks: ['127.0.0.0/8'] }, { idp })
  const slo = `${world.issuer}/idp/corp/slo`
  for (let index = 0; index < 5; index++) {
    t.equal((await new Browser().get(`${slo}?SAMLRequest=${index}`)).status, 400)
  }
  t.ok(asked <= 1, `${asked} requests`)
  t.equal((await new Browser().get(`${slo}?${idp.logoutQuery(slo)}`)).status, 303)
})
