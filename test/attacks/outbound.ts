import { strict as assert } from 'node:assert'
import { Browser } from '../control-plane/identity/browser.ts'
import { type Area, type Attack, attack } from './case.ts'

/** A client id that makes the authorization server fetch something; nothing may come of it. */
const document = (name: string, refusal: string, id: (site: string) => string): Attack =>
  attack(name, refusal, async (rig) => {
    const before = rig.site.seen.length
    const target = id(rig.site.origin)
    const { location, status, text } = await new Browser().get(rig.link(target))
    assert.equal(location, null)
    assert.equal(status, 400, text.slice(0, 200))
    assert.doesNotMatch(
      text,
      /ECONNREFUSED|EHOST|getaddrinfo|127\.0\.0\.2/,
      'and nothing is told of the inside',
    )
    if (!target.startsWith(rig.site.origin))
      assert.equal(rig.site.seen.length, before, 'the site was not asked')
  })
const address = (what: string, host: string): Attack =>
  document(
    `client id metadata document at ${what} (${host})`,
    'only hosts that were allowed, public addresses',
    () => `https://${host}/c.json`,
  )

export const outbound: Area = {
  title: 'What the appliance can be made to fetch',
  attacks: [
    address('loopback', '127.0.0.2'),
    address('loopback, IPv6', '[::1]'),
    address('loopback as IPv4-mapped IPv6', '[::ffff:127.0.0.2]'),
    address('loopback as IPv4-compatible IPv6', '[::127.0.0.2]'),
    address('loopback through NAT64', '[64:ff9b::7f00:2]'),
    address('loopback through 6to4', '[2002:7f00:2::]'),
    address('loopback through Teredo', '[2001:0:7f00:2::]'),
    address('loopback as one number', '2130706434'),
    address('loopback in hexadecimal', '0x7f000002'),
    address('loopback, short form', '127.2'),
    address('a private network, on the allow-list by name', '10.0.0.1'),
    address('cloud metadata, on the allow-list by name', '169.254.169.254'),
    address('link-local, IPv6', '[fe80::1]'),
    address('unique local, IPv6', '[fd00::1]'),
    address('carrier NAT', '100.64.0.1'),
    address('the unspecified address', '0.0.0.0'),
    address('multicast', '224.0.0.1'),
    address('an allowed name that resolves to cloud metadata', 'private.rebind.test'),
    address('DNS rebinding: public at first, then loopback', 'flip.rebind.test'),
    address('DNS rebinding, second look', 'flip.rebind.test'),
    address('DNS rebinding: a public and a private address at once', 'mixed.rebind.test'),
    address('an allowed name that resolves to IPv4-mapped loopback', 'six.rebind.test'),
    address('a host that nobody allowed', 'stranger.example'),
    document(
      'a document over plain http',
      'https alone',
      (site) => `${site.replace('https:', 'http:')}/client.json`,
    ),
    document('a document behind a redirect', 'redirects are not followed', (site) => `${site}/redirect.json`),
    document('a document of another client', 'client_id must be its address', (site) => `${site}/other.json`),
    document('a document with a secret', 'a public document has none', (site) => `${site}/secret.json`),
    document(
      'a document with a script as redirect URI',
      'the rules of registration',
      (site) => `${site}/script.json`,
    ),
    document('a document of 20 KB', 'at most 8 KiB', (site) => `${site}/large.json`),
    document('a document that is a web page', 'application/json', (site) => `${site}/html.json`),
    document('a document with a query', 'no query', (site) => `${site}/client.json?next=1`),
    document('a document with user information', 'no user information', (site) =>
      site.replace('//', '//ann@').concat('/client.json'),
    ),
    document(
      'a document with dot segments',
      'written as it is fetched',
      (site) => `${site}/a/../client.json`,
    ),
    attack('jwks_uri of a registered client at cloud metadata', 'the network guard', async (rig) => {
      const client = await rig.register({
        token_endpoint_auth_method: 'private_key_jwt',
        jwks_uri: 'https://169.254.169.254/keys',
      })
      const assertion = await rig.forge({ iss: client.client_id, sub: client.client_id, aud: rig.origin })
      const { status, body } = await rig.token({
        grant_type: 'authorization_code',
        code: 'x',
        client_assertion_type: 'urn:ietf:params:oauth:client-assertion-type:jwt-bearer',
        client_assertion: assertion,
      })
      assert.ok(status >= 400 && status < 500, `${status} ${JSON.stringify(body)}`)
    }),
  ],
}
