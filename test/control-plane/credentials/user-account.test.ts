import { createHash } from 'node:crypto'
import Fastify from 'fastify'
import { type Test, test } from 'tap'
import { parseConfig } from '../../../services/control-plane/config/load.ts'
import {
  documentUrl,
  registerClientDocuments,
} from '../../../services/control-plane/credentials/client-documents.ts'
import { createOAuthClients } from '../../../services/control-plane/credentials/oauth-clients.ts'
import { createSealer } from '../../../services/control-plane/credentials/sealer.ts'
import type { SnapshotSource } from '../../../services/control-plane/fleet/snapshots.ts'
import { openDatabase } from '../../../services/control-plane/store/database.ts'
import { systemClock } from '../../../shared/clock.ts'
import { proves } from '../../requirements.ts'
import { type Plane, signIn, startPlane, tokenOf } from '../fleet/credential-rig.ts'
import type { Browser } from '../identity/browser.ts'
import { form, type Reply, type Seen, type StandIn, standIn } from './stand-ins.ts'

const loopback = ['127.0.0.0/8']
const digest = (token: string): string => createHash('sha256').update(`Bearer ${token}`).digest('base64url')

interface Server {
  /** Answers of paths; what is absent is 404. */
  readonly paths: Record<string, (seen: Seen) => Reply>
  readonly at: StandIn
}

/** An MCP server that is its own authorization server, as far as a test needs one. */
async function startServer(t: Test, paths: Server['paths'] = {}): Promise<Server> {
  const at = await standIn(t, (seen) => paths[seen.path.split('?')[0]!]?.(seen) ?? { status: 404, body: {} })
  return { paths, at }
}

const metadata = (server: Server, more: Record<string, unknown> = {}) => ({
  issuer: server.at.origin,
  authorization_endpoint: `${server.at.origin}/authorize`,
  token_endpoint: `${server.at.origin}/token`,
  registration_endpoint: `${server.at.origin}/register`,
  code_challenge_methods_supported: ['S256'],
  ...more,
})
let tokens = 0
const token = (more: Record<string, unknown> = {}): Reply => ({
  body: {
    access_token: `token-${++tokens}`,
    token_type: 'Bearer',
    expires_in: 3600,
    refresh_token: 'r',
    ...more,
  },
})
const registered: Reply = {
  status: 201,
  body: { client_id: 'registered', token_endpoint_auth_method: 'none' },
}

async function planeFor(t: Test, server: Server, provider: Record<string, unknown> = {}): Promise<Plane> {
  const plane = await startPlane(`${server.at.origin}/mcp`, { provider, allowedNetworks: loopback })
  t.teardown(() => plane.close())
  await signIn(plane, 'ann')
  return plane
}

/** From a link to the authorization request, without leaving. */
async function leave(plane: Plane, browser: Browser, url = `${plane.origin}/connections/notes/connect`) {
  const answer = await browser.submit(await browser.get(url), '/connect')
  if (!answer.location) throw new Error(answer.text)
  return new URL(answer.location)
}

/** Comes back with a code, as the authorization server sends the browser. */
const comeBack = (browser: Browser, asked: URL, more: Record<string, string> = {}) => {
  const back = new URL(asked.searchParams.get('redirect_uri')!)
  back.search = new URLSearchParams({
    code: 'c',
    state: asked.searchParams.get('state')!,
    ...more,
  }).toString()
  return browser.get(back.href)
}

const linkOf = async (plane: Plane, ask: { rejected?: string; scope?: string } = {}) => {
  const answer = await plane.plane.issue({
    issuer: plane.origin,
    subject: 'ann@example.com',
    clientId: 'agent',
    serverId: 'notes',
    ...ask,
  })
  return answer
}

test('a server that demands more scope: the union is asked for, once', async (t) => {
  proves(t, 'CRED-30')
  const server: Server = await startServer(t, {
    '/mcp': () => ({ status: 401, body: {} }),
    '/.well-known/oauth-protected-resource/mcp': () => ({
      body: {
        resource: `${server.at.origin}/mcp`,
        authorization_servers: [server.at.origin],
        scopes_supported: ['read'],
      },
    }),
    '/.well-known/oauth-authorization-server': () => ({ body: metadata(server) }),
    '/register': () => registered,
    '/token': () => token({ scope: granted }),
  })
  let granted = 'read'
  const plane = await planeFor(t, server)
  const browser = await signIn(plane, 'ann')
  const first = await leave(plane, browser)
  t.equal(first.searchParams.get('scope'), 'read')
  await comeBack(browser, first)
  const held = tokenOf(await linkOf(plane))

  t.equal(tokenOf(await linkOf(plane, { scope: 'read' })), held, 'granted already: the token at hand')
  const answer = await linkOf(plane, { scope: 'write admin' })
  if (answer.kind !== 'authorization_required') throw new Error(answer.kind)
  t.match(answer.message, /more permissions/)
  t.equal(tokenOf(await linkOf(plane)), held, 'other calls go on')
  const page = await browser.get(answer.url)
  for (const scope of ['read', 'write', 'admin']) t.match(page.text, `<code>${scope}</code>`)
  const second = await leave(plane, browser, answer.url)
  t.equal(second.searchParams.get('scope'), 'read write admin')
  granted = 'read write'
  await comeBack(browser, second)
  t.not(tokenOf(await linkOf(plane, { scope: 'write' })), held)
  t.match(
    await linkOf(plane, { scope: 'admin' }),
    { kind: 'denied', by: 'provider', reason: 'insufficient_scope' },
    'asked for and not granted: not asked again',
  )
  const third = await leave(plane, browser)
  t.equal(third.searchParams.get('scope'), 'read write', 'connecting again keeps what was granted')
})

test('scopes that an administrator wrote down are all that is asked for', async (t) => {
  const server: Server = await startServer(t, {
    '/.well-known/oauth-authorization-server': () => ({ body: metadata(server) }),
    '/register': () => registered,
    '/token': () => token(),
  })
  const plane = await planeFor(t, server, { scopes: ['read'] })
  const browser = await signIn(plane, 'ann')
  await comeBack(browser, await leave(plane, browser))
  t.match(await linkOf(plane, { scope: 'write' }), {
    kind: 'denied',
    by: 'provider',
    reason: 'insufficient_scope',
  })
})

test('a server of the 2025-03-26 revision that publishes nothing has its endpoints at the root', async (t) => {
  proves(t, 'CRED-32')
  const server: Server = await startServer(t, {
    '/mcp': () => ({ status: 401, body: {} }),
    '/register': () => registered,
    '/token': () => token(),
  })
  const plane = await planeFor(t, server)
  const browser = await signIn(plane, 'ann')
  const asked = await leave(plane, browser)
  t.equal(asked.origin + asked.pathname, `${server.at.origin}/authorize`)
  t.equal(asked.searchParams.get('code_challenge_method'), 'S256')
  t.equal((await comeBack(browser, asked)).status, 200)
  t.match(tokenOf(await linkOf(plane)), /^token-/)
})

test('addresses of the configuration: no discovery, parameters of its own, an unknown iss', async (t) => {
  const server: Server = await startServer(t, { '/elsewhere/token': () => token() })
  const plane = await planeFor(t, server, {
    clientId: 'ours',
    clientSecret: { value: 's' },
    oauthAuthorizationUrl: `${server.at.origin}/elsewhere/authorize`,
    oauthTokenUrl: `${server.at.origin}/elsewhere/token`,
    oauthRevocationUrl: `${server.at.origin}/elsewhere/revoke`,
    scopes: ['a'],
    isPkceRequired: false,
    customParameters: [{ key: 'access_type', value: 'offline' }],
  })
  const browser = await signIn(plane, 'ann')
  const asked = await leave(plane, browser)
  t.match(Object.fromEntries(asked.searchParams), { access_type: 'offline', client_id: 'ours', scope: 'a' })
  t.notOk(asked.searchParams.has('code_challenge'))
  t.equal((await comeBack(browser, asked, { iss: 'https://whoever.example' })).status, 200)
  const exchange = server.at.seen.find(({ path }) => path === '/elsewhere/token')!
  t.notOk(form(exchange.body).code_verifier)
  t.match(exchange.headers.authorization, /^Basic /)
  t.same([...new Set(server.at.seen.map(({ path }) => path))], ['/elsewhere/token'], 'nothing was discovered')
  const list = await browser.get(`${plane.origin}/connections`)
  await browser.submit(list, '/disconnect')
  t.match(server.at.seen.at(-1)?.path, '/elsewhere/revoke')
})

test('a server that moves to another authorization server: nothing of the former is used there', async (t) => {
  proves(t, 'CRED-31')
  const former: Server = await startServer(t, {
    '/.well-known/oauth-authorization-server': () => ({ body: metadata(former) }),
    '/register': () => registered,
    '/token': () => token(),
  })
  const next: Server = await startServer(t, {
    '/.well-known/oauth-authorization-server': () => ({ body: metadata(next) }),
    '/register': () => ({ status: 201, body: { client_id: 'anew', token_endpoint_auth_method: 'none' } }),
    '/token': () => token(),
  })
  let current = former
  const server: Server = await startServer(t, {
    '/mcp': () => ({ status: 401, body: {} }),
    '/.well-known/oauth-protected-resource/mcp': () => ({
      body: { resource: `${server.at.origin}/mcp`, authorization_servers: [current.at.origin] },
    }),
  })
  const plane = await planeFor(t, server)
  const browser = await signIn(plane, 'ann')
  await comeBack(browser, await leave(plane, browser))
  const held = tokenOf(await linkOf(plane))
  current = next
  plane.clock.offset += 61_000
  const exchanges = former.at.seen.filter(({ path }) => path === '/token').length
  const answer = await linkOf(plane, { rejected: digest(held) })
  t.match(answer, { kind: 'authorization_required', message: /has ended/ })
  t.equal(
    former.at.seen.filter(({ path }) => path === '/token').length,
    exchanges,
    'no refresh at the former',
  )
  t.match((await browser.get(`${plane.origin}/connections`)).text, /authorization_server_changed/)
  const asked = await leave(plane, browser)
  t.equal(asked.origin, next.at.origin)
  t.equal(asked.searchParams.get('client_id'), 'anew')
  t.notMatch(JSON.stringify(next.at.seen), /"registered"|client_id=registered|refresh_token=r/)
})

test('our client metadata document stands where the client id says, and goes before registering', async (t) => {
  const plain = await planeFor(t, await startServer(t))
  const at = '/mcp-auth/userauth/notes-account/client.json'
  t.equal((await fetch(`${plain.origin}${at}`)).status, 404, 'plain http is a loopback mode')

  const origin = 'https://gw.example'
  const source = `tenant: {id: acme}
gateway: {url: "${origin}/mcp"}
identityProviders: [{id: local, type: directory}]
credentialProviders:
  - {id: open, type: mcp-user-based-access-token}
  - {id: named, type: mcp-user-based-access-token, clientId: ours}
  - {id: never, type: mcp-user-based-access-token, clientIdMetadataDocument: false}`
  const config = parseConfig(source, 'test.yaml', { env: {} })
  const app = Fastify()
  t.teardown(() => app.close())
  const snapshots = { current: () => ({ config }) } as unknown as SnapshotSource
  registerClientDocuments(app, { snapshots, origin: () => origin, clientName: () => 'Gateway (acme)' })
  const address = '/mcp-auth/userauth/open/client.json'
  const answer = await app.inject(address)
  t.match(answer.headers['content-type'], /^application\/json/)
  t.ok(answer.body.length < 8192)
  t.same(answer.json(), {
    client_id: origin + address,
    client_name: 'Gateway (acme)',
    client_uri: origin,
    application_type: 'web',
    redirect_uris: [`${origin}/mcp-auth/userauth/open/callback`],
    grant_types: ['authorization_code', 'refresh_token'],
    response_types: ['code'],
    token_endpoint_auth_method: 'none',
  })
  for (const id of ['named', 'never', 'nobody']) {
    t.equal((await app.inject(address.replace('open', id))).statusCode, 404, id)
  }

  const db = openDatabase(':memory:')
  t.teardown(() => db.close())
  const documentOf = (id: string) =>
    documentUrl(origin, config.credentialProviders.find((each) => each.id === id)!)
  const clients = createOAuthClients(
    db,
    createSealer(Buffer.alloc(32)),
    systemClock,
    () => 'Gateway',
    documentOf,
  )
  const as = {
    issuer: 'https://as.example',
    authorization_endpoint: 'https://as.example/authorize',
    token_endpoint: 'https://as.example/token',
    client_id_metadata_document_supported: true,
  }
  const never = { fetch: () => Promise.reject(new Error('nothing is registered')) } as never
  const client = await clients.obtain({ id: 'open' }, as, 'https://gw.example/cb', never)
  t.match(client, { clientId: origin + address, authMethod: 'none', clientSecret: null })
  t.same(clients.known({ id: 'open' }, { ...as, issuer: 'https://other.example' }, client.clientId), client)
  await t.rejects(clients.obtain({ id: 'never' }, as, 'https://gw.example/cb', never), /refused/)
})
