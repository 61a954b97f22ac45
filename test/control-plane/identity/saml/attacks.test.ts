import t from 'tap'
import { proves } from '../../../requirements.ts'
import { Browser } from '../browser.ts'
import { type AuthnRequest, createSamlIdp, keyPair, type Over, type SamlIdp } from './idp.ts'
import { lastRefusal, samlScene } from './scene.ts'

const at = (ms: number): string => new Date(Date.now() + ms).toISOString()
const base64 = (xml: string): string => Buffer.from(xml).toString('base64')

/** Every way below is refused for its own reason and leaves no session; the control at the end gets in. */
const conditions: readonly (readonly [name: string, over: Over, why: RegExp])[] = [
  ['for another service', { audience: 'https://other.example' }, /another audience|audience mismatch/],
  ['without audience', { conditions: `<saml:Conditions NotOnOrAfter="${at(60_000)}"/>` }, /udience/],
  ['without conditions', { conditions: '' }, /.+/],
  ['with conditions twice', { conditions: '<saml:Conditions/><saml:Conditions/>' }, /.+/],
  ['for another address', { recipient: 'https://other.example/acs' }, /another recipient/],
  ['destined for another address', { destination: 'https://other.example/acs' }, /another address/],
  ['answer to another request', { inResponseTo: '_other' }, /another request/],
  ['answer to another request inside', { subjectInResponseTo: '_other' }, /request|InResponseTo/],
  ['answer to no request', { inResponseTo: '', subjectInResponseTo: '' }, /another request/],
  ['expired', { notOnOrAfter: at(-120_000) }, /expired|subject confirmation/],
  ['not valid yet', { notBefore: at(120_000) }, /not (yet )?valid/],
  ['confirmation expired', { confirmationEnd: at(-120_000) }, /expired|subject confirmation/],
  ['confirmation without end', { confirmationEnd: null }, /without end|NotOnOrAfter/],
  ['a time that is none', { notOnOrAfter: 'tomorrow' }, /.+/],
  ['a session that has ended', { sessionEnd: at(-120_000) }, /session that has ended/],
  ['nobody signed in', { authnStatement: '' }, /anybody signed in/],
  ['holder of key', { method: 'urn:oasis:names:tc:SAML:2.0:cm:holder-of-key' }, /no bearer confirmation/],
  ['of another issuer', { issuer: 'https://evil.example' }, /another issuer/],
  ['status of failure', { status: 'urn:oasis:names:tc:SAML:2.0:status:Responder' }, /status Responder/],
  ['an empty name', { nameId: ' ' }, /NameID/],
  ['a name with elements in it', { nameId: 'ann@example.com<saml:X/>' }, /NameID/],
  ['not signed', { sign: 'none' }, /[Ii]nvalid signature/],
  [
    'signed with SHA-1',
    { algorithms: { signature: 'http://www.w3.org/2000/09/xmldsig#rsa-sha1' } },
    /rsa-sha1, which is not accepted/,
  ],
  [
    'digested with SHA-1',
    { algorithms: { digest: 'http://www.w3.org/2000/09/xmldsig#sha1' } },
    /sha1, which is not accepted/,
  ],
]

t.test('conditions of an assertion', async (t) => {
  proves(t, 'SAML-06')
  const { world, answered } = await samlScene(t)
  for (const [name, over, why] of conditions) {
    const answer = await answered({ assertionId: '_same', ...over })
    t.equal(answer.status, 400, name)
    t.match(lastRefusal(world.logs), why, name)
  }
  const control = await answered({ assertionId: '_same' })
  t.equal(control.status, 303, `the control: ${lastRefusal(world.logs)}`)
  t.equal((await answered({ notOnOrAfter: at(-30_000) })).status, 303, 'a small difference of clocks is none')
})

const evil = 'root@example.com'
const assertionOf = (xml: string): string => /<saml:Assertion[\s\S]*<\/saml:Assertion>/.exec(xml)?.[0] ?? ''
const signatureOf = (xml: string): string => /<Signature[\s\S]*<\/Signature>/.exec(xml)?.[0] ?? ''
const forged = (assertion: string, id = '_evil'): string =>
  assertion
    .replace(/ ID="[^"]*"/, ` ID="${id}"`)
    .replace(signatureOf(assertion), '')
    .replaceAll(/ann@example\.com/gi, evil)

/** What an attacker who holds one good response can make of it. */
const wrappings: readonly (readonly [
  string,
  (xml: string, request: AuthnRequest, idp: SamlIdp) => string,
])[] = [
  ['name changed', (xml) => xml.replaceAll(/ann@example\.com/gi, evil)],
  ['signature taken out', (xml) => xml.replace(signatureOf(xml), '').replaceAll(/ann@example\.com/gi, evil)],
  ['signature value emptied', (xml) => xml.replace(/<SignatureValue>[^<]*</, '<SignatureValue><')],
  ['digest changed', (xml) => xml.replace(/<DigestValue>[^<]*</, '<DigestValue>AAAA<')],
  [
    'forged one before the signed',
    (xml) => xml.replace('<saml:Assertion', `${forged(assertionOf(xml))}<saml:Assertion`),
  ],
  [
    'forged one after the signed',
    (xml) => xml.replace('</samlp:Response>', `${forged(assertionOf(xml))}</samlp:Response>`),
  ],
  [
    'forged one of the same ID',
    (xml) =>
      xml.replace(
        '<saml:Assertion',
        `${forged(assertionOf(xml), /<saml:Assertion ID="([^"]*)"/.exec(xml)?.[1])}<saml:Assertion`,
      ),
  ],
  [
    'signed one inside of Extensions',
    (xml) =>
      xml.replace(
        assertionOf(xml),
        `<samlp:Extensions>${assertionOf(xml)}</samlp:Extensions>${forged(assertionOf(xml))}`,
      ),
  ],
  [
    'signed one inside of the forged',
    (xml) =>
      xml.replace(
        assertionOf(xml),
        forged(assertionOf(xml)).replace(
          '</saml:Assertion>',
          `<saml:Advice>${assertionOf(xml)}</saml:Advice></saml:Assertion>`,
        ),
      ),
  ],
  [
    'signed one as Object of the signature',
    (xml) => {
      const whole = assertionOf(xml)
      const wrapped = signatureOf(xml).replace('</Signature>', `<Object>${whole}</Object></Signature>`)
      return xml.replace(whole, forged(whole).replace('</saml:Issuer>', `</saml:Issuer>${wrapped}`))
    },
  ],
  [
    'signed response inside of a forged one',
    (xml) => {
      const whole = assertionOf(xml)
      return xml
        .replace(whole, forged(whole))
        .replace('</samlp:Response>', `<samlp:Extensions>${xml}</samlp:Extensions></samlp:Response>`)
    },
  ],
  [
    'signature moved to the response',
    (xml) => {
      const signature = signatureOf(xml)
      return xml
        .replace(signature, '')
        .replaceAll(/ann@example\.com/gi, evil)
        .replace('</saml:Issuer>', `</saml:Issuer>${signature}`)
    },
  ],
  ['two signatures', (xml) => xml.replace(signatureOf(xml), signatureOf(xml).repeat(2))],
  ['reference to the whole document', (xml) => xml.replace(/URI="#[^"]*"/, 'URI=""')],
  [
    'another transform',
    (xml) =>
      xml.replace(
        'http://www.w3.org/2000/09/xmldsig#enveloped-signature',
        'http://www.w3.org/TR/1999/REC-xpath-19991116',
      ),
  ],
  [
    'HMAC with the certificate as the key',
    (xml) =>
      xml.replace(
        'http://www.w3.org/2001/04/xmldsig-more#rsa-sha256',
        'http://www.w3.org/2000/09/xmldsig#hmac-sha1',
      ),
  ],
  [
    'signed by a key of its own',
    (_xml, request) => createSamlIdp(keyPair(), 'https://idp.example/saml').xml(request, { nameId: evil }),
  ],
  [
    'an assertion of another namespace',
    (xml) => xml.replace(assertionOf(xml), `<Assertion xmlns="urn:x" ID="_x"/>${assertionOf(xml)}`),
  ],
  [
    'an encrypted one besides',
    (xml) => xml.replace('</samlp:Response>', '<saml:EncryptedAssertion/></samlp:Response>'),
  ],
  ['no assertion', (xml) => xml.replace(assertionOf(xml), '')],
  ['no response', (xml) => assertionOf(xml)],
]

t.test('signatures: wrapped, forged, stripped', async (t) => {
  proves(t, 'SAML-07')
  const { world, idp, attempt } = await samlScene(t)
  for (const [name, change] of wrappings) {
    const answer = await attempt((request) => base64(change(idp.xml(request), request, idp)))
    t.equal(answer.status, 400, `${name}: ${lastRefusal(world.logs)}`)
  }
  t.equal(world.plane.accounts.find(evil), undefined, 'nobody by that name was ever here')
})

const documents: readonly (readonly [string, (xml: string) => string])[] = [
  [
    'external entity',
    (xml) => `<!DOCTYPE r [<!ENTITY x SYSTEM "file:///etc/passwd">]>${xml.replace('Ann@', '&x;@')}`,
  ],
  [
    'entity bomb',
    (xml) =>
      `<!DOCTYPE r [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;">]>${xml.replace('Ann@', '&b;@')}`,
  ],
  ['external document type', (xml) => `<!DOCTYPE r SYSTEM "http://127.0.0.1:1/x.dtd">${xml}`],
  ['parameter entity', (xml) => `<!DOCTYPE r [<!ENTITY % x SYSTEM "http://127.0.0.1:1/"> %x;]>${xml}`],
  ['comment in the name', (xml) => xml.replace('Ann@Example.com', 'Ann@Example.com<!-- -->.evil.example')],
  ['comment that cuts the name', (xml) => xml.replace('Ann@Example.com', 'Ann<!---->@Example.com')],
  ['CDATA in the name', (xml) => xml.replace('Ann@Example.com', '<![CDATA[Ann@Example.com]]>')],
  ['processing instruction in the name', (xml) => xml.replace('Ann@Example.com', 'Ann@Example.com<?x y?>')],
  ['two roots', (xml) => `${xml}${xml}`],
  ['not closed', (xml) => xml.slice(0, -5)],
  [
    'nested deep',
    (xml) => xml.replace('</samlp:Response>', `${'<a>'.repeat(5000)}${'</a>'.repeat(5000)}</samlp:Response>`),
  ],
  ['many elements', (xml) => xml.replace('</samlp:Response>', `${'<a/>'.repeat(45_000)}</samlp:Response>`)],
  ['no XML', () => 'hello'],
  ['nothing', () => ''],
  ['UTF-16', (xml) => Buffer.from(xml, 'utf16le').toString('latin1')],
]

t.test('documents that are no place for an assertion', async (t) => {
  proves(t, 'SAML-08')
  const { world, idp, attempt } = await samlScene(t)
  for (const [name, change] of documents) {
    const answer = await attempt((request) => base64(change(idp.xml(request))))
    t.equal(answer.status, 400, `${name}: ${lastRefusal(world.logs)}`)
  }
  for (const [name, raw] of [
    ['not base64', '%%%'],
    ['too large', 'A'.repeat(360_000)],
    ['bytes that are no UTF-8', Buffer.from([0xff, 0xfe, 0x3c]).toString('base64')],
  ] as const) {
    t.equal((await attempt(() => raw)).status, 400, name)
  }
})

t.test('a response counts once, for its browser', async (t) => {
  proves(t, 'SAML-09')
  const { world, idp, ask, deliver, answered } = await samlScene(t)
  const mine = await ask()
  const response = idp.respond(mine.request)
  const refusedFor = async (who: Browser, why: string, state?: string) => {
    const answer = await deliver(who, mine.request, response, state)
    t.equal(answer.status, 400, why)
    t.equal(who.cookie(world.origin, 'session'), undefined, `${why}: no session`)
  }
  await refusedFor(new Browser(), 'RelayState of nobody', 'x'.repeat(43))
  const theirs = await ask()
  const crossed = await deliver(mine.browser, mine.request, idp.respond(theirs.request))
  t.equal(crossed.status, 400, "another request's answer at my RelayState")
  t.match(lastRefusal(world.logs), /another request/)

  const victim = await ask()
  const posted = await new Browser().post(victim.request.acs, {
    SAMLResponse: idp.respond(victim.request),
    RelayState: victim.request.relayState,
  })
  t.equal(posted.status, 303)
  t.equal(new URL(posted.location!).pathname, '/idp/corp/callback')
  t.equal(
    (await new Browser().get(posted.location!)).status,
    400,
    'a browser that did not start it (login CSRF)',
  )
  const second = await new Browser().post(victim.request.acs, {
    SAMLResponse: idp.respond(victim.request),
    RelayState: victim.request.relayState,
  })
  t.equal(second.status, 400, 'a second answer does not replace the first')
  t.equal(
    (await victim.browser.get(posted.location!)).status,
    303,
    'the right browser is let in all the same',
  )
  t.equal((await victim.browser.get(posted.location!)).status, 400, 'once')
  t.equal((await answered({ assertionId: '_one' })).status, 303)
  t.equal((await answered({ assertionId: '_one' })).status, 400, 'an assertion by the id of a former one')
  t.match(lastRefusal(world.logs), /was used before/)
  const other = await ask()
  const unasked = await other.browser.get(
    `${world.issuer}/idp/corp/callback?state=${other.request.relayState}`,
  )
  t.equal(unasked.status, 400, 'a callback without any response')
  t.equal(
    (await new Browser().post(`${world.issuer}/idp/none/acs`, { SAMLResponse: response, RelayState: 'x' }))
      .status,
    400,
  )
})
