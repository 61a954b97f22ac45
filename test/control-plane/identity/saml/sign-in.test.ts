import { createVerify } from 'node:crypto'
import { once } from 'node:events'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { decodeJwt } from 'jose'
import t from 'tap'
import { proves } from '../../../requirements.ts'
import { Browser } from '../browser.ts'
import { callback, token } from '../world.ts'
import { createSamlIdp, keyPair, persistent } from './idp.ts'
import { lastRefusal, samlScene } from './scene.ts'

t.test('signing in through a SAML provider, from metadata XML', async (t) => {
  proves(t, 'SAML-01')
  const { world, idp, ask, deliver } = await samlScene(t)
  const { browser, client, verifier, request, away } = await ask()
  t.equal(request.destination, 'https://idp.example/sso')
  t.equal(request.acs, `${world.issuer}/idp/corp/acs`)
  t.equal(request.issuer, `${world.issuer}/idp/corp/metadata`)
  t.match(request.id, /^_[0-9a-f]{40}$/)
  t.notMatch(away.location, /Signature=/, 'not signed where nobody asks for it')
  const response = idp.respond(request)
  const consent = await browser.follow(await deliver(browser, request, response))
  t.match(consent.text, /ann@example\.com/, `${consent.status} ${lastRefusal(world.logs)}`)
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
  t.match(world.plane.accounts.find('ann@example.com')?.claims, {
    'saml.response.issuer': idp.entityId,
    'saml.response.subject.nameId': 'Ann@Example.com',
    "saml.response.attributes['groups']": ['eng', 'ops'],
  })
  t.notOk(JSON.stringify(world.logs).includes(response.slice(0, 100)), 'the response is in no log')
})

t.test('signed by the provider: the assertion, the response, or both', async (t) => {
  proves(t, 'SAML-02')
  const both = await samlScene(t, { wantResponseSigned: true })
  t.equal((await both.answered({ sign: 'both' })).status, 303)
  t.equal((await both.answered({ sign: 'assertion' })).status, 400, 'a signed response is demanded')
  const { answered, world } = await samlScene(t, { wantAssertionsSigned: false })
  t.equal((await answered({ sign: 'response' })).status, 303, lastRefusal(world.logs))
  t.equal((await answered({ sign: 'assertion' })).status, 303, lastRefusal(world.logs))
  t.equal((await answered({ sign: 'none' })).status, 400, 'never without any signature')
})

t.test('requests are signed where the provider wants that', async (t) => {
  proves(t, 'SAML-03')
  const idp = createSamlIdp()
  const { world, ask } = await samlScene(t, { metadataXml: idp.metadata({ wantSigned: true }) }, { idp })
  const { request, away } = await ask()
  const document = await new Browser().get(`${world.issuer}/idp/corp/metadata`)
  t.match(document.headers.get('content-type'), /^application\/samlmetadata\+xml/)
  t.match(document.text, `entityID="${world.issuer}/idp/corp/metadata"`)
  t.match(document.text, `Location="${world.issuer}/idp/corp/acs"`)
  t.match(document.text, /AuthnRequestsSigned="true"[^>]*WantAssertionsSigned="true"/)
  const certificate = /use="signing"[\s\S]*?<ds:X509Certificate>([^<]*)</.exec(document.text)?.[1] ?? ''
  const pem = `-----BEGIN CERTIFICATE-----\n${certificate.trim()}\n-----END CERTIFICATE-----`
  const signed = away.location!.split('?')[1]!.split('&Signature=')[0]!
  t.equal(request.query.get('SigAlg'), 'http://www.w3.org/2001/04/xmldsig-more#rsa-sha256')
  t.ok(
    createVerify('sha256').update(signed).verify(pem, request.query.get('Signature')!, 'base64'),
    'the certificate of our metadata verifies it',
  )
  const again = await new Browser().get(`${world.issuer}/idp/corp/metadata`)
  t.equal(again.text, document.text, 'the same document each time')
  t.equal((await new Browser().get(`${world.issuer}/idp/other/metadata`)).status, 404)
})

t.test('metadata by URL: fetched, kept, and read anew where the provider changes its key', async (t) => {
  proves(t, 'SAML-04')
  const first = createSamlIdp()
  const second = createSamlIdp(keyPair(), first.entityId)
  let document = first.metadata()
  const server = createServer((_request, response) => response.end(document)).listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.teardown(() => server.close())
  const metadataUrl = `http://127.0.0.1:${(server.address() as AddressInfo).port}/metadata`
  const { world, answered, attempt } = await samlScene(
    t,
    { metadataUrl, allowedNetworks: ['127.0.0.0/8'] },
    { idp: first },
  )
  t.equal((await answered({})).status, 303, lastRefusal(world.logs))
  document = first.metadata({ certificates: [first.certificate, second.certificate] })
  const early = await attempt((request) => second.respond(request, { assertionId: '_early' }))
  t.equal(early.status, 303, 'an unknown key is looked up before anybody is refused')
  document = '<html>'
  t.equal((await answered({ assertionId: '_kept' })).status, 303, 'a broken document changes nothing')
  const blocked = await samlScene(t, { metadataUrl, allowedNetworks: [] }, { idp: first })
  const { browser, page } = await blocked.begin()
  const refused = await browser.submit(page, '/idp')
  t.equal(refused.status, 503, 'the network guard')
  t.match(refused.text, /can not be reached right now/)
})

t.test('who a person is: attributes and NameID', async (t) => {
  proves(t, 'SAML-05')
  const { world, answered } = await samlScene(t)
  const subjects = () =>
    world.logs.filter(({ event }) => event === 'sign_in.succeeded').map((each) => each.subject)
  await answered({ nameId: 'u-17', nameIdFormat: persistent })
  t.same(subjects(), ['u-17'])
  const transient = await answered({ nameIdFormat: 'urn:oasis:names:tc:SAML:2.0:nameid-format:transient' })
  t.match(transient.text, /another name at each sign-in/)
  const mapped = await samlScene(t, {
    subjectAttribute: 'uid',
    emailAttribute: 'work',
    groupsAttribute: 'team',
  })
  await mapped.answered({
    attributes: { uid: ['a17'], work: ['A17@example.com'], team: ['x'], groups: ['y'] },
  })
  t.match(mapped.world.plane.accounts.find('a17'), { email: 'a17@example.com', groups: ['x'] })
  for (const uid of [[], ['a', 'b']]) {
    const refused = await mapped.answered({ attributes: { uid } })
    t.match(refused.text, /attribute &quot;uid&quot; is missing/, `${uid.length} values`)
  }
})

t.test(
  'more groups than are kept: no sign-in, where a rule could miss the one that it forbids',
  async (t) => {
    proves(t, 'SAML-05')
    const { world, answered } = await samlScene(t)
    const groups = Array.from({ length: 200 }, (_, index) => `g-${index}`)
    const refused = await answered({ attributes: { groups: [...groups, 'contractors'] } })
    t.match(refused.text, /in more groups at &quot;[^&]+&quot; than can be taken over/)
    t.equal(world.plane.accounts.find('ann@example.com'), undefined)
    await answered({ attributes: { groups } })
    t.same(world.plane.accounts.find('ann@example.com')?.groups, groups)
  },
)

t.test('metadata that can not be used', async (t) => {
  const idp = createSamlIdp()
  const good = idp.metadata()
  for (const [xml, text] of [
    ['hello', /is no SAML metadata/],
    [`<!DOCTYPE a [<!ENTITY x "y">]>${good}`, /document type/],
    [good.replaceAll('HTTP-Redirect', 'SOAP'), /no single sign-on by HTTP-Redirect/],
    [good.replaceAll('IDPSSODescriptor', 'SPSSODescriptor'), /describes no identity provider/],
    [good.replace(/<md:KeyDescriptor[\s\S]*<\/md:KeyDescriptor>/, ''), /no signing certificate/],
    [createSamlIdp(keyPair(1024)).metadata(), /not RSA of at least 2048 bits/],
    [good.replace(/X509Certificate>[^<]{40}/, 'X509Certificate>'), /certificate that can not be read/],
  ] as const) {
    await t.rejects(
      samlScene(t, { metadataXml: xml }, { idp }),
      { code: 'config.invalid', detail: text },
      String(text),
    )
  }
  const expired = idp.metadata({ validUntil: '2020-01-01T00:00:00Z' })
  const { begin } = await samlScene(t, { metadataXml: expired }, { idp })
  const { browser, page } = await begin()
  t.equal((await browser.submit(page, '/idp')).status, 503, 'validUntil is in the past')
})
