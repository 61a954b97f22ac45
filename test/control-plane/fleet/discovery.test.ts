import { once } from 'node:events'
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { type Test, test } from 'tap'
import { type DiscoveryAsk, discover } from '../../../services/control-plane/credentials/discovery.ts'
import { createNetworks } from '../../../services/control-plane/credentials/networks.ts'
import { createOutbound } from '../../../services/control-plane/credentials/outbound.ts'
import { Fault } from '../../../shared/faults.ts'
import { parseChallenge } from '../../../shared/www-authenticate.ts'
import { proves } from '../../requirements.ts'

type Reply = (request: IncomingMessage, response: ServerResponse, origin: string) => void
const loopback = ['127.0.0.0/8', '::1/128']

const json =
  (make: (origin: string) => object, status = 200): Reply =>
  (_request, response, origin) =>
    void response.writeHead(status, { 'content-type': 'application/json' }).end(JSON.stringify(make(origin)))

const unauthorized =
  (challenge?: (origin: string) => string): Reply =>
  (_request, response, origin) =>
    void response.writeHead(401, challenge ? { 'www-authenticate': challenge(origin) } : {}).end()

const as = (more: object = {}) =>
  json((origin) => ({
    issuer: origin,
    authorization_endpoint: `${origin}/authorize`,
    token_endpoint: `${origin}/token`,
    code_challenge_methods_supported: ['S256'],
    ...more,
  }))
const prm = (more: object = {}) =>
  json((origin) => ({ resource: `${origin}/mcp`, authorization_servers: [origin], ...more }))

/** An origin that is server and authorization server at once: what differs is what it answers where. */
async function serve(t: Test, routes: Record<string, Reply>) {
  const requests: string[] = []
  const server = createServer((request, response) => {
    requests.push(`${request.method} ${request.url}`)
    const reply = routes[request.url ?? '']
    if (reply) return reply(request, response, origin)
    response.writeHead(404).end()
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const origin = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
  t.teardown(() => {
    server.closeAllConnections()
    server.close()
  })
  return { origin, requests }
}

async function find(
  t: Test,
  serverUrl: string,
  over: Partial<DiscoveryAsk> = {},
  elsewhere: readonly string[] = loopback,
) {
  const networks = { server: createOutbound(loopback), elsewhere: createOutbound(elsewhere) }
  t.teardown(() => Promise.all([networks.server.close(), networks.elsewhere.close()]))
  return discover(networks, { serverUrl, ...over })
}

/** The detail of the Fault it ends with. */
async function refusal(work: Promise<unknown>): Promise<string | undefined> {
  try {
    await work
  } catch (error) {
    return Fault.from(error).detail
  }
  return undefined
}

const wellKnown = {
  prm: '/.well-known/oauth-protected-resource',
  oauth: '/.well-known/oauth-authorization-server',
  oidc: '/.well-known/openid-configuration',
}

test('the address in the 401 comes first, and its scope too', async (t) => {
  proves(t, 'CRED-19')
  const { origin, requests } = await serve(t, {
    '/mcp': unauthorized((at) => `Bearer realm="x", resource_metadata="${at}/elsewhere", scope="read write"`),
    '/elsewhere': prm({ scopes_supported: ['all'] }),
    [wellKnown.oauth]: as(),
  })
  const found = await find(t, `${origin}/mcp`)
  t.match(found, { resource: `${origin}/mcp`, scope: 'read write', server: { issuer: origin } })
  t.same(requests, ['POST /mcp', 'GET /elsewhere', `GET ${wellKnown.oauth}`])
})

test('without one: the path form, then the root form', async (t) => {
  const { origin, requests } = await serve(t, {
    '/mcp': unauthorized(),
    [wellKnown.prm]: prm({ resource: undefined, scopes_supported: ['a', 'b'] }),
  })
  t.match(await refusal(find(t, `${origin}/mcp`)), /another resource/)
  t.same(requests, ['POST /mcp', `GET ${wellKnown.prm}/mcp`, `GET ${wellKnown.prm}`])
})

test('authorization server metadata: RFC 8414, then both OpenID forms; offline_access where it is listed', async (t) => {
  proves(t, 'CRED-20')
  const { origin, requests } = await serve(t, {
    '/mcp': unauthorized(),
    [`${wellKnown.prm}/mcp`]: json((at) => ({
      resource: at,
      authorization_servers: [`${at}/tenant`],
      scopes_supported: ['a', 'offline_access'],
    })),
    [`/tenant${wellKnown.oidc}`]: json((at) => ({
      issuer: `${at}/tenant`,
      authorization_endpoint: `${at}/authorize`,
      token_endpoint: `${at}/token`,
      code_challenge_methods_supported: ['S256'],
    })),
  })
  const found = await find(t, `${origin}/mcp`)
  t.equal(found.resource, origin, 'a document for the whole origin')
  t.equal(found.scope, 'a', 'offline_access is dropped where the server does not list it')
  t.same(requests.slice(2), [
    `GET ${wellKnown.oauth}/tenant`,
    `GET ${wellKnown.oidc}/tenant`,
    `GET /tenant${wellKnown.oidc}`,
  ])
})

test('a server without a document is its own authorization server', async (t) => {
  const { origin } = await serve(t, {
    '/mcp': unauthorized(),
    [wellKnown.oauth]: as({ scopes_supported: ['offline_access'] }),
  })
  const found = await find(t, `${origin}/mcp`)
  t.match(found, { resource: `${origin}/mcp`, scope: 'offline_access', server: { issuer: origin } })
})

test('the configuration decides what it names', async (t) => {
  const { origin } = await serve(t, {
    '/mcp': unauthorized((at) => `Bearer resource_metadata="${at}/doc", scope="x"`),
    '/doc': prm(),
    [wellKnown.oauth]: as({ scopes_supported: ['offline_access'] }),
  })
  const found = await find(t, `${origin}/mcp`, { scopes: ['only'], resource: 'https://other.example' })
  t.match(found, { scope: 'only', resource: 'https://other.example' })
  t.equal((await find(t, `${origin}/mcp`, { scopes: [] })).scope, undefined)
})

const refused: Record<string, { routes: Record<string, Reply>; detail: RegExp }> = {
  'an issuer that is not byte for byte the one named': {
    routes: {
      [wellKnown.oauth]: json((at) => ({
        issuer: `${at}/`,
        authorization_endpoint: `${at}/a`,
        token_endpoint: `${at}/t`,
        code_challenge_methods_supported: ['S256'],
      })),
    },
    detail: /another issuer/,
  },
  'no PKCE with S256': {
    routes: { [wellKnown.oauth]: as({ code_challenge_methods_supported: ['plain'] }) },
    detail: /S256/,
  },
  'PKCE that is not advertised': {
    routes: { [wellKnown.oauth]: as({ code_challenge_methods_supported: undefined }) },
    detail: /S256/,
  },
  'a script as the authorization page': {
    routes: { [wellKnown.oauth]: as({ authorization_endpoint: 'javascript:alert(1)' }) },
    detail: /plain http/,
  },
  'a public token endpoint without TLS': {
    routes: { [wellKnown.oauth]: as({ token_endpoint: 'http://8.8.8.8/token' }) },
    detail: /public space and not https/,
  },
  'metadata without endpoints': {
    routes: { [wellKnown.oauth]: json((at) => ({ issuer: at })) },
    detail: /RFC 8414/,
  },
  'no metadata at all': { routes: {}, detail: /publishes no metadata/ },
  'metadata that is no JSON': {
    routes: { [wellKnown.oauth]: (_request, response) => void response.writeHead(200).end('<html>') },
    detail: /no JSON object/,
  },
  'a redirect': {
    routes: {
      [wellKnown.oauth]: (_request, response) => void response.writeHead(302, { location: '/other' }).end(),
    },
    detail: /redirect/,
  },
}
for (const [name, { routes, detail }] of Object.entries(refused)) {
  test(`refused: ${name}`, async (t) => {
    const { origin } = await serve(t, { '/mcp': unauthorized(), [`${wellKnown.prm}/mcp`]: prm(), ...routes })
    t.match(await refusal(find(t, `${origin}/mcp`)), detail)
  })
}

test('a document larger than the bound is refused', async (t) => {
  const { origin } = await serve(t, {
    '/mcp': unauthorized(),
    [`${wellKnown.prm}/mcp`]: prm(),
    [wellKnown.oauth]: as({ padding: 'x'.repeat(300_000) }),
  })
  await t.rejects(find(t, `${origin}/mcp`), { code: 'upstream.too_large' })
})

test('what a server names is not fetched from private space, however it is written', async (t) => {
  proves(t, 'CRED-21')
  const inside = await serve(t, { '/doc': prm(), [wellKnown.oauth]: as() })
  const { port } = new URL(inside.origin)
  const hosts = [
    `127.0.0.1:${port}`,
    `127.1:${port}`,
    `2130706433:${port}`,
    `0x7f.0.0.1:${port}`,
    `[::1]:${port}`,
    `[::ffff:127.0.0.1]:${port}`,
    `[::ffff:7f00:1]:${port}`,
    `[64:ff9b::127.0.0.1]:${port}`,
    `localhost:${port}`,
    '169.254.169.254',
    '10.0.0.1',
    '192.168.1.1',
    '100.64.0.1',
    '[fd00::1]',
    '[fe80::1]',
    '0.0.0.0',
  ]
  for (const host of hosts) {
    const { origin } = await serve(t, {
      '/mcp': unauthorized(() => `Bearer resource_metadata="https://${host}/doc"`),
    })
    await t.rejects(find(t, `${origin}/mcp`, {}, []), { code: 'upstream.blocked' }, host)
    const other = await serve(t, {
      '/mcp': unauthorized(),
      [`${wellKnown.prm}/mcp`]: prm({ authorization_servers: [`https://${host}`] }),
    })
    await t.rejects(
      find(t, `${other.origin}/mcp`, {}, []),
      { code: 'upstream.blocked' },
      `authorization server at ${host}`,
    )
  }
  t.same(inside.requests, [], 'nothing arrived')
})

test('a server in a private network can not name its neighbours', async (t) => {
  const neighbour = await serve(t, { [wellKnown.oauth]: as() })
  const { origin } = await serve(t, {
    '/mcp': unauthorized(),
    [`${wellKnown.prm}/mcp`]: prm({ authorization_servers: [neighbour.origin] }),
  })
  const networks = createNetworks()
  t.teardown(() => networks.close())
  const server = { id: 's', name: 's', url: `${origin}/mcp`, prefix: 's', allowedNetworks: loopback }
  const find = (allowedNetworks: string[]) => {
    const provider = { id: 'p', name: 'p', type: 'mcp-user-based-access-token' as const, allowedNetworks }
    return discover(networks.of(provider, server), { serverUrl: server.url })
  }
  await t.rejects(find([]), { code: 'upstream.blocked' })
  t.same(neighbour.requests, [])
  t.equal((await find(loopback)).server.issuer, neighbour.origin, 'until the provider allows their network')
})

test('WWW-Authenticate as servers write it', async (t) => {
  const none = { error: undefined, resourceMetadata: undefined, scope: undefined }
  t.same(parseChallenge(null), none)
  t.same(parseChallenge('Basic realm="x"'), none)
  t.same(parseChallenge('Bearer'), none)
  t.same(parseChallenge('Bearer resource_metadata="https://a/b"'), {
    error: undefined,
    resourceMetadata: 'https://a/b',
    scope: undefined,
  })
  t.same(
    parseChallenge(
      'Basic realm="x", bearer error=invalid_token,scope="a  b a" , resource_metadata = "https://a"',
    ),
    {
      error: 'invalid_token',
      resourceMetadata: 'https://a',
      scope: 'a b',
    },
  )
  t.same(parseChallenge('Bearer realm="say \\"hi\\", ok", scope=one'), {
    error: undefined,
    resourceMetadata: undefined,
    scope: 'one',
  })
  t.same(parseChallenge('Bearer scope="bad\u0001scope"').scope, undefined)
  t.same(parseChallenge(`Bearer scope="${'x'.repeat(9000)}"`), none)
})
