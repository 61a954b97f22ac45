import { getCACertificates, setDefaultCACertificates } from 'node:tls'
import t from 'tap'
import {
  createMetadataDocuments,
  hostAllowed,
} from '../../../services/control-plane/authorization/metadata-documents.ts'
import { isDocumentUrl } from '../../../services/control-plane/config/clients.ts'
import { createGuardedFetch } from '../../../services/control-plane/identity/guarded-fetch.ts'
import { createLogger } from '../../../shared/log.ts'
import { proves } from '../../requirements.ts'
import { startHttpsSite } from '../../rig/https-site.ts'
import { Browser } from './browser.ts'
import {
  authorizeUrl,
  callback,
  pkce,
  refresh,
  signInAndAllow,
  startWorld,
  TestClock,
  token,
} from './world.ts'

/** Client id metadata documents: which are fetched, which are taken, how long they are kept. */
interface Page {
  status?: number
  headers?: Record<string, string>
  body: string
}
const pages = new Map<string, Page>()
const site = await startHttpsSite((request, response) => {
  const { status = 200, headers = {}, body } = pages.get(request.url ?? '') ?? { status: 404, body: '' }
  response.writeHead(status, { 'content-type': 'application/json', ...headers }).end(body)
})
t.teardown(() => site.close())
setDefaultCACertificates([...getCACertificates('default'), site.ca])

const put = (path: string, fields: Record<string, unknown> = {}, page: Partial<Page> = {}): string => {
  const id = `${site.origin}${path}`
  const document = { client_id: id, client_name: 'Desk Agent', redirect_uris: [callback], ...fields }
  pages.set(path, { body: JSON.stringify(document), ...page })
  return id
}
const loopback = ['127.0.0.0/8', '::1/128']

t.test('a client that is a URL signs a person in, and is named with its host', async (t) => {
  proves(t, 'OAUTH-30')
  const id = put('/client.json')
  const world = await startWorld({
    config: {
      authorizationServer: {
        clientIdMetadataDocuments: { allowedDomains: ['localhost'], allowedNetworks: loopback },
      },
    },
  })
  t.teardown(() => world.close())
  const metadata = (await (
    await fetch(`${world.origin}/.well-known/oauth-authorization-server`)
  ).json()) as Record<string, unknown>
  t.equal(metadata.client_id_metadata_document_supported, true)
  const { verifier, challenge } = pkce()
  const browser = new Browser()
  const page = await browser.follow(await browser.get(authorizeUrl(world, id, challenge)), callback)
  const consent = await browser.follow(
    await browser.submit(page, '/password', {
      email: 'ann@example.com',
      password: 'correct horse battery staple',
    }),
    callback,
  )
  t.match(consent.text, /Desk Agent/)
  t.match(consent.text, new RegExp(new URL(id).host), 'the host that vouches for the name')
  const answer = await browser.submit(consent, '/consent', { decision: 'allow' })
  const { location } = await browser.follow(answer, callback)
  const { status, body } = await token(world, {
    grant_type: 'authorization_code',
    code: new URL(location!).searchParams.get('code')!,
    redirect_uri: callback,
    client_id: id,
    code_verifier: verifier,
  })
  t.equal(status, 200)
  t.equal((await refresh(world, id, body.refresh_token!)).status, 200)
  const other = await browser.get(
    authorizeUrl(world, id, challenge, { redirect_uri: 'https://evil.example/callback' }),
  )
  t.equal(other.status, 400, 'no other redirect URI')
  t.equal(site.seen.filter((path) => path === '/client.json').length, 1, 'fetched once for all of it')
})

t.test('only what an administrator let in is fetched', async (t) => {
  proves(t, 'OAUTH-31')
  const id = put('/stranger.json')
  const world = await startWorld({
    config: {
      authorizationServer: { clientIdMetadataDocuments: { allowedNetworks: loopback } },
      clientWorkloads: [{ id: 'agents', identities: [{ type: 'cimdClientId', value: put('/known.json') }] }],
    },
  })
  t.teardown(() => world.close())
  const { challenge } = pkce()
  const refused = await new Browser().get(authorizeUrl(world, id, challenge))
  t.equal(refused.status, 400)
  t.notOk(site.seen.includes('/stranger.json'))
  const answer = await signInAndAllow(new Browser(), authorizeUrl(world, put('/known.json'), challenge))
  t.match(answer.location, /code=/, 'a client workload names this one, which identifies it too')
  await world.apply({ authorizationServer: { clientIdMetadataDocuments: { enabled: false } } })
  const off = await new Browser().get(authorizeUrl(world, put('/known.json'), challenge))
  t.equal(off.status, 400)
})

const documents = (allowed = (_id: string) => true, networks = loopback, clock = new TestClock()) =>
  createMetadataDocuments({
    fetch: createGuardedFetch(networks, { timeoutMs: 2_000, bytes: 8 * 1024 }),
    clock,
    log: createLogger('test', 'off'),
    allowed,
  })

t.test('documents that are refused', async (t) => {
  proves(t, 'OAUTH-32')
  const { find } = documents()
  const refusal = (id: string) => find(id).catch((error: unknown) => error as object)
  const cases: [string, string, RegExp][] = [
    ['another id', put('/1', { client_id: `${site.origin}/2` }), /not its own address/],
    ['no id', put('/3', { client_id: undefined }), /not its own address/],
    ['a secret', put('/4', { client_secret: 'x' }), /client_secret/],
    [
      'a shared-secret method',
      put('/5', { token_endpoint_auth_method: 'client_secret_basic' }),
      /auth_method/,
    ],
    ['no redirect URI', put('/6', { redirect_uris: [] }), /redirect_uris/],
    ['a wildcard', put('/7', { redirect_uris: ['https://a.example/*'] }), /wildcard/],
    ['a script', put('/8', { redirect_uris: ['javascript:alert(1)'] }), /scheme/],
    ['plain http', put('/9', { redirect_uris: ['http://a.example/cb'] }), /loopback/],
    ['implicit alone', put('/10', { grant_types: ['implicit'] }), /grant_types/],
    ['no key', put('/11', { token_endpoint_auth_method: 'private_key_jwt' }), /jwks/],
    ['HTML', put('/12', {}, { headers: { 'content-type': 'text/html' } }), /application\/json/],
    ['no JSON', put('/13', {}, { body: '{' }), /not JSON/],
    ['a list', put('/14', {}, { body: '[]' }), /not a JSON object/],
    ['an error', put('/15', {}, { status: 500 }), /500/],
    ['too large', put('/16', { client_uri: 'x'.repeat(9000) }), /larger|fetched/],
  ]
  for (const [name, id, problem] of cases) {
    t.match(await refusal(id), { error: 'invalid_client', error_description: problem }, name)
  }
  const elsewhere = put('/18')
  const redirect = put('/17', {}, { status: 302, headers: { location: elsewhere } })
  t.match(await refusal(redirect), { error_description: /redirect/ })
  t.notOk(site.seen.includes('/18'), 'the redirect was not followed')
})

t.test('addresses that are never asked', async (t) => {
  proves(t, 'OAUTH-33')
  const { find } = documents(undefined, [])
  const before = site.seen.length
  for (const id of [
    put('/private.json'),
    put('/private.json').replace('localhost', '127.0.0.1'),
    'https://[::1]/c',
    'https://[::ffff:127.0.0.1]/c',
    'https://[::ffff:7f00:1]/c',
    'https://[64:ff9b::7f00:1]/c',
    'https://[2002:7f00:1::]/c',
    'https://[fe80::1]/c',
    'https://[fc00::1]/c',
    'https://10.0.0.1/c',
    'https://169.254.169.254/latest/meta-data',
    'https://192.168.1.1/c',
    'https://100.64.0.1/c',
    'https://0.0.0.0/c',
  ]) {
    const outcome = await find(id).catch((error: Error) => error)
    t.ok(outcome === undefined || outcome instanceof Error, id)
  }
  t.equal(site.seen.length, before)
  for (const id of [
    'http://agent.example/c',
    'https://agent.example',
    'https://agent.example/',
    'https://agent.example/c?x=1',
    'https://agent.example/c#x',
    'https://ann@agent.example/c',
    'https://agent.example/a/../c',
    'https://agent.example/%2e%2e/c',
    'https://agent.example:443/c',
    'https://AGENT.example/c',
    'https://0x7f.1/c',
    'https://2130706433/c',
    `https://agent.example/${'c'.repeat(2100)}`,
    'client-7',
  ]) {
    t.notOk(isDocumentUrl(id), id)
    t.equal(await find(id), undefined, id)
  }
  t.ok(isDocumentUrl('https://agent.example/c'))
})

t.test('kept as the headers say, within bounds, and a failure not asked for again at once', async (t) => {
  const clock = new TestClock()
  const { find } = documents(undefined, loopback, clock)
  const count = (path: string) => site.seen.filter((seen) => seen === path).length
  const after = async (path: string, ms: number, id = `${site.origin}${path}`) => {
    clock.offset += ms
    await find(id).catch(() => {})
    return count(path)
  }
  put('/hour', {}, { headers: { 'cache-control': 'public, max-age=3600' } })
  t.equal(await after('/hour', 0), 1)
  t.equal(await after('/hour', 3_590_000), 1)
  t.equal(await after('/hour', 20_000), 2)
  put('/never', {}, { headers: { 'cache-control': 'no-store' } })
  t.equal(await after('/never', 0), 1)
  t.equal(await after('/never', 30_000), 1, 'one sign-in asks several times')
  t.equal(await after('/never', 31_000), 2)
  put('/forever', {}, { headers: { 'cache-control': 'max-age=99999999' } })
  t.equal(await after('/forever', 0), 1)
  t.equal(await after('/forever', 25 * 3_600_000), 2, 'a day at most')
  put('/broken', {}, { status: 503 })
  t.equal(await after('/broken', 0), 1)
  t.equal(await after('/broken', 5_000), 1)
  t.equal(await after('/broken', 6_000), 2)
  put('/same')
  await Promise.all(Array.from({ length: 20 }, () => find(`${site.origin}/same`)))
  t.equal(count('/same'), 1, 'twenty at once are one fetch')
  const many = await Promise.all(
    Array.from({ length: 80 }, (_, i) => find(`${site.origin}/none-${i}`).catch((error: Error) => error)),
  )
  t.ok(site.seen.filter((path) => path.startsWith('/none-')).length <= 60, 'fetches are limited')
  t.ok(many.every((outcome) => outcome instanceof Error))
})

t.test('hosts', async (t) => {
  const domains = ['agent.example', '*.agents.example']
  for (const [url, fits] of [
    ['https://agent.example/c', true],
    ['https://www.agent.example/c', false],
    ['https://a.agents.example/c', true],
    ['https://agents.example/c', false],
    ['https://evilagents.example/c', false],
    ['https://agent.example.evil.example/c', false],
  ] as const) {
    t.equal(hostAllowed(url, domains), fits, url)
  }
})
