import { createHmac, createPublicKey } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { request } from 'node:https'
import { generateKeyPair, type JWK, SignJWT } from 'jose'
import t from 'tap'
import { anyFreePort } from '../../installer/quickstart/ports.ts'
import { proves } from '../requirements.ts'
import { startBadServer, type Vice } from '../rig/bad-servers.ts'
import { withServers } from '../rig/servers.ts'
import { startRig, textOf } from '../rig/world.ts'

/** What bad input gets, through front and all: a refusal for that request alone. */
const vices = ['hangs', 'garbage', 'closes', 'refuses', 'rpc-error', 'endless'] as const satisfies Vice[]
const bad = new Map(await Promise.all(vices.map(async (vice) => [vice, await startBadServer(vice)] as const)))
t.teardown(() => Promise.all([...bad.values()].map((server) => server.close())))
const down = `http://127.0.0.1:${await anyFreePort()}/mcp`
const rig = await startRig({
  edit: (yaml) =>
    withServers(yaml, [
      ...[...bad].map(([id, { url }]) => ({ id, url })),
      { id: 'down', url: down },
      { id: 'bobs', url: bad.get('rpc-error')!.url, onlyFor: ['bob@example.com'] },
    ]),
  adapt: (launch) =>
    launch.name === 'gateway'
      ? { ...launch, env: { ...launch.env, AEMBIT_MCP_GATEWAY_TIMEOUT: 'tools_call=1s' } }
      : launch,
})
t.teardown(() => rig.end())

const agent = rig.agent('ann', { era: 'legacy' })
const client = await agent.connect()
const token = agent.provider.stored?.access_token ?? ''
const ca = readFileSync(rig.caPath!)

interface Answer {
  status: number
  headers: NodeJS.Dict<string | string[]>
  body: string
  json: { id?: unknown; error?: { code: number; message: string }; result?: unknown } | undefined
}

/** A request as raw as node:https sends it. */
const send = (
  options: {
    method?: string
    path?: string
    headers?: Record<string, string>
    body?: string | Buffer
    bare?: boolean
  } = {},
): Promise<Answer> =>
  new Promise((resolve, reject) => {
    const url = new URL(rig.url)
    const headers = options.bare
      ? options.headers
      : {
          authorization: `Bearer ${token}`,
          'content-type': 'application/json',
          accept: 'application/json, text/event-stream',
          ...options.headers,
        }
    const { method = 'POST', path = url.pathname } = options
    const outgoing = request(
      {
        host: '127.0.0.1',
        port: url.port,
        servername: 'localhost',
        ca,
        method,
        path,
        agent: false,
        headers: { host: url.host, ...headers },
      },
      (response) => {
        const chunks: Buffer[] = []
        response.on('data', (chunk: Buffer) => chunks.push(chunk))
        response.on('error', reject)
        response.on('end', () => {
          const body = Buffer.concat(chunks).toString('utf8')
          const data = /^data: (.*)$/m.exec(body)?.[1] ?? body
          const json = data.startsWith('{') ? (JSON.parse(data) as Answer['json']) : undefined
          resolve({ status: response.statusCode ?? 0, headers: response.headers, body, json })
        })
      },
    )
    outgoing.on('error', reject)
    outgoing.end(options.body ?? ping)
  })

const ping = '{"jsonrpc":"2.0","id":7,"method":"ping"}'
const withSession = async (): Promise<Record<string, string>> => {
  const params = {
    protocolVersion: '2025-11-25',
    capabilities: {},
    clientInfo: { name: 'raw', version: '1' },
  }
  const answer = await send({ body: JSON.stringify({ jsonrpc: '2.0', id: 1, method: 'initialize', params }) })
  return { 'mcp-session-id': String(answer.headers['mcp-session-id']), 'mcp-protocol-version': '2025-11-25' }
}
const session = await withSession()
const reached = (): number => [...bad.values()].reduce((sum, server) => sum + server.seen.length, 0)

await t.test('a good request passes, so that the refusals below mean something', async (t) => {
  t.match(await send({ headers: session }), { status: 200, json: { id: 7, result: {} } })
})

await t.test('tokens that are none: 401 with the way in, and nothing reaches any server', async (t) => {
  proves(t, 'GW-INPUT-01')
  const [head = '', payload = '', signature = ''] = token.split('.')
  const part = (value: unknown): string => Buffer.from(JSON.stringify(value)).toString('base64url')
  const claims = JSON.parse(Buffer.from(payload, 'base64url').toString()) as Record<string, unknown>
  const header = JSON.parse(Buffer.from(head, 'base64url').toString()) as { kid: string; alg: string }
  const jwks = JSON.parse(
    (await send({ method: 'GET', path: '/.well-known/openid-configuration/jwks', bare: true, body: '' }))
      .body,
  ) as { keys: JWK[] }
  const publicJwk = jwks.keys.find(({ kid }) => kid === header.kid)!
  const publicPem = createPublicKey({ key: publicJwk, format: 'jwk' })
    .export({ type: 'spki', format: 'pem' })
    .toString()
  const hmac = (input: string, key: string): string =>
    createHmac('sha256', key).update(input).digest('base64url')
  const own = await generateKeyPair('RS256', { extractable: true })
  const sign = (kid: string, more: Record<string, unknown> = {}): Promise<string> =>
    new SignJWT({ ...claims, ...more })
      .setProtectedHeader({ alg: 'RS256', kid, typ: 'at+jwt' })
      .sign(own.privateKey)
  const hs = `${part({ alg: 'HS256', typ: 'at+jwt', kid: header.kid })}.${payload}`

  const refused: Record<string, Parameters<typeof send>[0]> = {
    'no token': { headers: { authorization: '' } },
    'no bearer': { headers: { authorization: 'Basic YW5uOng=' } },
    'not a JWT': { headers: { authorization: 'Bearer abc' } },
    'alg none': { headers: { authorization: `Bearer ${part({ alg: 'none', typ: 'at+jwt' })}.${payload}.` } },
    'HS256 with the public key': { headers: { authorization: `Bearer ${hs}.${hmac(hs, publicPem)}` } },
    'unknown kid': { headers: { authorization: `Bearer ${await sign('nobody')}` } },
    'known kid, foreign key': { headers: { authorization: `Bearer ${await sign(header.kid)}` } },
    'foreign issuer': {
      headers: { authorization: `Bearer ${await sign('x', { iss: 'https://evil.test' })}` },
    },
    'another audience': {
      headers: {
        authorization: `Bearer ${head}.${part({ ...claims, aud: 'https://other.test/mcp' })}.${signature}`,
      },
    },
    'a later end': {
      headers: { authorization: `Bearer ${head}.${part({ ...claims, exp: 4102444800 })}.${signature}` },
    },
    'in the query': { headers: { authorization: '' }, path: `/mcp?access_token=${token}` },
    'in the query, twice over': { path: `/mcp?access_token=${token}` },
  }
  const before = reached()
  for (const [name, options] of Object.entries(refused)) {
    const { status, headers } = await send({ ...options, headers: { ...session, ...options?.headers } })
    t.equal(status, 401, name)
    t.match(
      String(headers['www-authenticate']),
      /^Bearer .*resource_metadata="https:\/\/localhost:\d+\/\.well-known\/oauth-protected-resource\/mcp"/,
      `${name}: says where to go`,
    )
  }
  t.match(
    await send({ method: 'DELETE', body: '', headers: { ...session, authorization: '' } }),
    { status: 401 },
    'DELETE is no exception',
  )
  t.equal(reached(), before, 'nothing reached a server')
})

await t.test(
  'requests that are none: a 4xx, and a JSON-RPC error where the specification wants one',
  async (t) => {
    const call = (text: string): string => `{"jsonrpc":"2.0","id":7,"method":"tools/call","params":${text}}`
    const deep = `${'['.repeat(20_000)}${']'.repeat(20_000)}`
    const cases: [string, number, number | null, Parameters<typeof send>[0]][] = [
      ['malformed JSON', 400, -32700, { body: '{"jsonrpc":' }],
      ['empty', 400, -32700, { body: '' }],
      ['no JSON-RPC', 400, -32600, { body: '{"hello":1}' }],
      ['a batch', 400, -32600, { body: `[${ping}]`, headers: { 'mcp-protocol-version': '2025-11-25' } }],
      ['deep nesting', 400, -32700, { body: call(deep) }],
      ['a key twice', 400, -32700, { body: call('{"name":"everything_echo","name":"notes_whoami"}') }],
      [
        'an escaped key twice',
        400,
        -32700,
        { body: call('{"name":"everything_echo","n\\u0061me":"notes_whoami"}') },
      ],
      ['another content type', 415, -32600, { headers: { 'content-type': 'text/plain' } }],
      ['a foreign origin', 403, -32600, { headers: { origin: 'https://evil.test' } }],
      ['a foreign host', 403, -32600, { headers: { host: 'evil.test' } }],
      ['an unknown version', 400, null, { headers: { 'mcp-protocol-version': '1999-01-01' } }],
      ['a made-up session', 404, null, { headers: { 'mcp-session-id': 'made-up' } }],
      ['GET', 405, null, { method: 'GET', body: '' }],
      ['PUT', 405, null, { method: 'PUT' }],
    ]
    for (const [name, status, code, options] of cases) {
      const answer = await send({ ...options, headers: { ...session, ...options?.headers } })
      t.equal(answer.status, status, name)
      if (code !== null) t.equal(answer.json?.error?.code, code, `${name}: ${code}`)
    }
  },
)

await t.test('a body of 50 MB is refused before it is read to its end', async (t) => {
  proves(t, 'GW-INPUT-02')
  const answer = await send({ headers: session, body: Buffer.alloc(50 * 1024 * 1024, 0x20) }).catch(
    (error: NodeJS.ErrnoException) => error,
  )
  // The refusal may come as the answer, or as a reset while the client still sends.
  if (answer instanceof Error) t.match(answer.code, /ECONNRESET|EPIPE/)
  else t.equal(answer.status, 413)
  t.match(await send({ headers: session }), { status: 200 }, 'the process lives on')
})

await t.test('bytes that are no HTTP and no TLS', async (t) => {
  const { connect } = await import('node:net')
  for (const bytes of ['GET / HTTP/1.1\r\n\r\n', '\0'.repeat(2000), '\r\n'.repeat(100)]) {
    await new Promise<void>((resolve) => {
      const socket = connect(Number(new URL(rig.url).port), '127.0.0.1', () => socket.end(bytes))
      socket.on('error', () => {})
      socket.on('close', () => resolve())
      socket.resume()
    })
  }
  t.match(await send({ headers: session }), { status: 200 }, 'the process lives on')
})

const call = async (name: string): Promise<{ error: string; ms: number }> => {
  const start = Date.now()
  try {
    const result = await client.callTool({ name, arguments: {} })
    return { error: result.isError ? textOf(result) : '', ms: Date.now() - start }
  } catch (error) {
    return { error: String(error), ms: Date.now() - start }
  }
}

await t.test('servers that misbehave: an error for that call alone, within its time-out', async (t) => {
  const tools = (await client.listTools()).tools.map(({ name }) => name)
  for (const vice of vices) t.ok(tools.includes(`${vice}_work`), `${vice} is listed`)
  t.notOk(
    tools.some((name) => name.startsWith('down_')),
    'a server that is down lists nothing',
  )
  t.ok(tools.includes('everything_echo'), 'and takes nobody with it')

  const [slow, ...others] = await Promise.all([
    call('hangs_work'),
    ...vices.filter((vice) => vice !== 'hangs').map((vice) => call(`${vice}_work`)),
    call('down_work'),
  ])
  t.match(slow?.error, /in time/)
  t.ok(
    (slow?.ms ?? 0) >= 900 && (slow?.ms ?? 0) < 4000,
    `the one that hangs was given up after ${slow?.ms} ms`,
  )
  for (const { error, ms } of others) {
    t.ok(error !== '', `an error: ${error}`)
    t.notMatch(error, /stack trace|secret|it works|127\.0\.0\.1/, 'that tells nothing of the inside')
    t.ok(ms < 4000, `after ${ms} ms`)
  }
  t.match(
    (await call('rpc-error_work')).error,
    /no such record/,
    'an error of the server itself comes through',
  )
})

await t.test('what does not exist and what is not allowed look alike', async (t) => {
  const unknown = await call('everything_no-such-tool')
  const nobody = await call('nobody_work')
  const denied = await call('bobs_work')
  for (const { error } of [unknown, nobody, denied]) t.not(error, '')
  const before = bad.get('rpc-error')!.seen.filter((method) => method === 'tools/call').length
  await call('bobs_work')
  t.equal(
    bad.get('rpc-error')!.seen.filter((method) => method === 'tools/call').length,
    before,
    'a denied call reaches nobody',
  )
  t.notOk(
    (await client.listTools()).tools.some(({ name }) => name.startsWith('bobs_')),
    'and is not listed',
  )
  const bob = await rig.agent('bob').connect()
  t.ok(
    (await bob.listTools()).tools.some(({ name }) => name === 'bobs_work'),
    'Bob has it',
  )
})

await t.test('after all of it everything still works', async (t) => {
  t.equal(
    textOf(await client.callTool({ name: 'everything_echo', arguments: { message: 'well' } })),
    'Echo: well',
  )
  t.equal(rig.pids('proxy').length, 1)
})
