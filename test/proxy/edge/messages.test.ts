import { once } from 'node:events'
import t, { type Test } from 'tap'
import { type Answer, type Ask, type Rig, rpc, startRig } from './rig.ts'

const rig = await startRig({
  config: {
    limits: { bodyBytes: 65_536, bodyTimeoutMs: 300, depth: 32, concurrent: 64, responseBytes: 1 << 20 },
  },
})
t.teardown(() => rig.close())
const body = rpc('tools/list')

const meta = (more: object = {}) => ({
  _meta: {
    'io.modelcontextprotocol/protocolVersion': '2026-07-28',
    'io.modelcontextprotocol/clientCapabilities': {},
    ...more,
  },
})
const modern = (method: string, name?: string): Record<string, string> => ({
  'mcp-protocol-version': '2026-07-28',
  'mcp-method': method,
  ...(name === undefined ? {} : { 'mcp-name': name }),
})
const call = (name: string): string => rpc('tools/call', { name, arguments: {}, ...meta() })

/** name, request, HTTP status, JSON-RPC code (undefined: not a JSON-RPC answer), id */
const refusals: [string, Ask, number, number | undefined, unknown?][] = [
  ['malformed JSON', { body: '{"jsonrpc":' }, 400, -32700],
  ['a batch', { body: `[${body}]` }, 400, -32600],
  [
    'the same key twice',
    { body: '{"jsonrpc":"2.0","id":1,"method":"tools/list","method":"ping"}' },
    400,
    -32700,
  ],
  ['deep nesting', { body: rpc('x', { a: JSON.parse('['.repeat(40) + ']'.repeat(40)) }) }, 400, -32700],
  ['another JSON-RPC version', { body: '{"jsonrpc":"1.0","id":1,"method":"a"}' }, 400, -32600],
  ['a null id', { body: '{"jsonrpc":"2.0","id":null,"method":"a"}' }, 400, -32600],
  ['params of another kind', { body: '{"jsonrpc":"2.0","id":1,"method":"a","params":[1]}' }, 400, -32600],
  [
    'a response with result and error',
    { body: '{"jsonrpc":"2.0","id":1,"result":{},"error":{}}' },
    400,
    -32600,
  ],
  ['no content type', { body, headers: { 'content-type': 'text/plain' } }, 415, -32600],
  ['a form', { body: 'a=b', headers: { 'content-type': 'application/x-www-form-urlencoded' } }, 415, -32600],
  [
    'JSON in another charset',
    { body, headers: { 'content-type': 'application/json; charset=utf-16' } },
    415,
    -32600,
  ],
  ['a client that takes no events', { body, headers: { accept: 'application/json' } }, 406, -32600],
  ['an evil Host', { body, headers: { host: 'evil.test' } }, 403, -32600],
  ['an evil Origin', { body, headers: { origin: 'https://evil.test' } }, 403, -32600],
  ['an opaque Origin', { body, headers: { origin: 'null' } }, 403, -32600],
  ['too large a body, declared', { body: 'x'.repeat(70_000) }, 413, -32600],
  [
    'a legacy version we do not speak',
    { body, headers: { 'mcp-protocol-version': '2024-01-01' } },
    400,
    -32600,
    1,
  ],
  ['GET', { method: 'GET' }, 405, undefined],
  ['PUT', { method: 'PUT', body }, 405, undefined],
  ['DELETE without a session', { method: 'DELETE' }, 400, -32600],
  ['DELETE, modern', { method: 'DELETE', headers: modern('x') }, 405, undefined],
  [
    'modern: no Mcp-Method',
    { body: rpc('tools/list', meta()), headers: { 'mcp-protocol-version': '2026-07-28' } },
    400,
    -32020,
    1,
  ],
  [
    'modern: another Mcp-Method',
    { body: rpc('tools/list', meta()), headers: modern('tools/call') },
    400,
    -32020,
    1,
  ],
  [
    'modern: no version header',
    { body: rpc('tools/list', meta()), headers: { 'mcp-method': 'tools/list' } },
    400,
    -32020,
    1,
  ],
  [
    'modern: header and body disagree on the version',
    {
      body: rpc('tools/list', meta()),
      headers: { ...modern('tools/list'), 'mcp-protocol-version': '2025-11-25' },
    },
    400,
    -32020,
    1,
  ],
  [
    'modern: a version we do not speak',
    {
      body: rpc('tools/list', meta({ 'io.modelcontextprotocol/protocolVersion': '2099-01-01' })),
      headers: { ...modern('tools/list'), 'mcp-protocol-version': '2099-01-01' },
    },
    400,
    -32022,
    1,
  ],
  ['modern: no _meta', { body: rpc('tools/list'), headers: modern('tools/list') }, 400, -32602, 1],
  [
    'modern: no capabilities',
    {
      body: rpc('tools/list', { _meta: { 'io.modelcontextprotocol/protocolVersion': '2026-07-28' } }),
      headers: modern('tools/list'),
    },
    400,
    -32602,
    1,
  ],
  ['modern: no Mcp-Name', { body: call('crm_find'), headers: modern('tools/call') }, 400, -32020, 1],
  [
    'modern: another Mcp-Name',
    { body: call('crm_find'), headers: modern('tools/call', 'crm_Find') },
    400,
    -32020,
    1,
  ],
  [
    'modern: broken base64',
    { body: call('ü'), headers: modern('tools/call', '=?base64?w7w?=') },
    400,
    -32020,
    1,
  ],
  ['modern: a method of old', { body: rpc('ping', meta()), headers: modern('ping') }, 404, -32601, 1],
  ['modern: initialize', { body: rpc('initialize', meta()), headers: modern('initialize') }, 404, -32601, 1],
  ['modern: a response', { body: '{"jsonrpc":"2.0","id":1,"result":{}}', headers: modern('x') }, 400, -32600],
]

const check = (
  t: Test,
  name: string,
  answer: Answer,
  status: number,
  code?: number,
  id: unknown = null,
): void => {
  t.equal(answer.status, status, `${name}: ${status}`)
  if (code !== undefined) t.match(answer.json, { jsonrpc: '2.0', id, error: { code } }, `${name}: ${code}`)
  t.notMatch(answer.text, /\.ts:/, `${name}: no stack`)
}

for (const version of ['http1', 'http2'] as const) {
  t.test(`${version}: each is refused for itself alone`, async (t) => {
    for (const [name, ask, status, code, id] of refusals) {
      check(t, name, await rig[version](ask), status, code, id)
      t.equal((await rig[version]({ body })).status, 200, `${name}: the next request works`)
    }
    t.equal(rig.core.calls.length, refusals.length, 'the core saw the good ones alone')
    rig.core.calls.length = 0
  })

  t.test(`${version}: what is fine`, async (t) => {
    const fine: [string, Ask, string, string][] = [
      ['no version header', { body }, 'legacy', '2025-03-26'],
      [
        'a version header',
        { body, headers: { 'mcp-protocol-version': '2025-06-18' } },
        'legacy',
        '2025-06-18',
      ],
      [
        'initialize under a modern header',
        { body: rpc('initialize'), headers: modern('initialize') },
        'legacy',
        '2025-03-26',
      ],
      ['an allowed Origin', { body, headers: { origin: 'https://app.test' } }, 'legacy', '2025-03-26'],
      ['Host of an allowed origin', { body, headers: { host: 'app.test' } }, 'legacy', '2025-03-26'],
      ['a trailing slash', { body, path: '/mcp/' }, 'legacy', '2025-03-26'],
      ['any accept', { body, headers: { accept: '*/*' } }, 'legacy', '2025-03-26'],
      [
        'charset=utf-8',
        { body, headers: { 'content-type': 'Application/JSON; charset="UTF-8"' } },
        'legacy',
        '2025-03-26',
      ],
      ['modern', { body: rpc('tools/list', meta()), headers: modern('tools/list') }, 'modern', '2026-07-28'],
      [
        'modern call',
        { body: call('crm_find'), headers: modern('tools/call', 'crm_find') },
        'modern',
        '2026-07-28',
      ],
      [
        'modern call, base64 name',
        { body: call('ü'), headers: modern('tools/call', '=?base64?w7w=?=') },
        'modern',
        '2026-07-28',
      ],
      [
        'modern with a session id, ignored',
        { body: rpc('tools/list', meta()), headers: { ...modern('tools/list'), 'mcp-session-id': 'x' } },
        'modern',
        '2026-07-28',
      ],
    ]
    for (const [name, ask, era, protocolVersion] of fine) {
      t.equal((await rig[version](ask)).status, 200, name)
      t.match(rig.core.calls.at(-1), { era, protocolVersion, session: null }, name)
    }
    const told = await rig[version]({ body: '{"jsonrpc":"2.0","method":"notifications/initialized"}' })
    t.strictSame([told.status, told.text], [202, ''], 'a notification')
    t.match(rig.core.calls.at(-1)?.client, { address: '203.0.113.9', port: 40_100 }, 'front says who it is')
    rig.core.calls.length = 0
  })
}

t.test('a 405 tells the methods, a 4xx on a version tells the versions', async (t) => {
  t.equal((await rig.http1({ method: 'GET', token: null })).headers.allow, 'POST, DELETE, OPTIONS')
  const headers = { ...modern('tools/list'), 'mcp-protocol-version': '2099-01-01' }
  const unsupported = await rig.http1({
    body: rpc('tools/list', meta({ 'io.modelcontextprotocol/protocolVersion': '2099-01-01' })),
    headers,
  })
  t.match(unsupported.json.error.data, { requested: '2099-01-01', supported: ['2026-07-28', '2025-11-25'] })
})

t.test('50 MB without a declared length is cut off', async (t) => {
  const chunk = Buffer.alloc(65_536, 0x20)
  const socket = rig.dial()
  const read = new Promise<string>((resolve) => {
    let text = ''
    socket.on('data', (data) => {
      text += data
    })
    socket.on('error', () => resolve(text))
    socket.on('close', () => resolve(text))
  })
  socket.write(
    `POST /mcp HTTP/1.1\r\nHost: gw.test:8443\r\nAuthorization: Bearer ${rig.valid}\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n`,
  )
  let sent = 0
  for (; sent < 50 << 20 && socket.writable; sent += chunk.length) {
    const more = socket.write(Buffer.concat([Buffer.from('10000\r\n'), chunk, Buffer.from('\r\n')]))
    if (!more) await Promise.race([once(socket, 'drain'), once(socket, 'close')]).catch(() => {})
  }
  const text = await read
  t.match(text, /^HTTP\/1.1 413 /)
  t.match(text, /"code":-32600/)
  t.ok(sent < 8 << 20, `${sent} bytes were taken`)
  t.equal((await rig.http1({ body })).status, 200)
})

t.test('HTTP/2: a stream that is too large is stopped, the connection lives', async (t) => {
  const session = rig.session2()
  const stream = session.request({
    ':method': 'POST',
    ':path': '/mcp',
    ':authority': 'gw.test:8443',
    'content-type': 'application/json',
    authorization: `Bearer ${rig.valid}`,
  })
  stream.on('error', () => {})
  const write = (): void => {
    if (!stream.closed) stream.write(Buffer.alloc(65_536), () => setImmediate(write))
  }
  write()
  const [head] = await once(stream, 'response')
  t.equal(head[':status'], 413)
  stream.resume()
  await once(stream, 'aborted')
  t.equal(stream.rstCode, 0, 'NO_ERROR, after the answer')
  t.equal((await rig.http2({ body }, session)).status, 200)
  session.destroy()
})

t.test('Expect: 100-continue is answered when the body is wanted', async (t) => {
  const ask = async (headers: string): Promise<string> => {
    const socket = rig.dial()
    socket.write(`POST /mcp HTTP/1.1\r\nHost: gw.test:8443\r\nExpect: 100-continue\r\n${headers}\r\n\r\n`)
    const [data] = await once(socket, 'data')
    socket.destroy()
    return String(data).split('\r\n')[0]!
  }
  const type = 'Content-Type: application/json'
  t.equal(await ask(`Content-Length: 52428800\r\n${type}`), 'HTTP/1.1 401 Unauthorized')
  const mine = `Authorization: Bearer ${rig.valid}\r\n${type}`
  t.equal(await ask(`${mine}\r\nContent-Length: 52428800`), 'HTTP/1.1 413 Payload Too Large')
  t.equal(await ask(`${mine}\r\nContent-Length: ${body.length}`), 'HTTP/1.1 100 Continue')
})

t.test('a body that does not arrive in time', async (t) => {
  const socket = rig.dial()
  socket.write(
    `POST /mcp HTTP/1.1\r\nHost: gw.test:8443\r\nAuthorization: Bearer ${rig.valid}\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{`,
  )
  const [data] = await once(socket, 'data')
  t.match(String(data), /^HTTP\/1.1 408 /)
  socket.destroy()
})

t.test('a refusal keeps an HTTP/1.1 connection', async (t) => {
  const socket = rig.dial()
  const ask = async (lines: string): Promise<string> => {
    socket.write(lines)
    const [data] = await once(socket, 'data')
    return String(data)
  }
  const head = `POST /mcp HTTP/1.1\r\nHost: gw.test:8443\r\nContent-Type: application/json\r\nContent-Length: ${body.length}\r\n`
  t.match(await ask(`${head}\r\n${body}`), /^HTTP\/1.1 401 /)
  t.match(
    await ask(`${head}Authorization: Bearer ${rig.valid}\r\n\r\n{"broken":${' '.repeat(body.length - 10)}`),
    / 400 /,
  )
  t.match(await ask(`${head}Authorization: Bearer ${rig.valid}\r\n\r\n${body}`), /^HTTP\/1.1 200 /)
  socket.destroy()
})

t.test('what is not HTTP, and CONNECT', async (t) => {
  const say = async (text: string): Promise<string> => {
    const socket = rig.dial()
    socket.write(text)
    const [data] = await once(socket, 'data')
    socket.destroy()
    return String(data)
  }
  t.match(await say('hello there\r\n\r\n'), /^HTTP\/1.1 400 /)
  t.match(
    await say(`GET /mcp HTTP/1.1\r\nHost: gw.test:8443\r\nX: ${'a'.repeat(40_000)}\r\n\r\n`),
    /^HTTP\/1.1 431 /,
  )
  t.match(await say('CONNECT evil.test:443 HTTP/1.1\r\nHost: evil.test:443\r\n\r\n'), /^HTTP\/1.1 405 /)
  t.match(await say('GET /%zz HTTP/1.1\r\nHost: gw.test:8443\r\n\r\n'), /^HTTP\/1.1 400 /)
})

t.test('a connection without a PROXY header is closed', async (t) => {
  const { connect } = await import('node:net')
  const socket = connect(rig.config.socketPath)
  socket.write('POST /mcp HTTP/1.1\r\n')
  await once(socket, 'close')
  t.pass('closed')
})

t.test('a header that comes in pieces, with a request behind it', async (t) => {
  const { connect } = await import('node:net')
  const { encodeProxyHeader } = await import('../../../shared/proxy-protocol.ts')
  const header = encodeProxyHeader({
    source: { address: '2001:db8::7', port: 5 },
    destination: { address: '2001:db8::1', port: 8443 },
    alpn: null,
    authority: null,
    tlsVersion: null,
  })
  const socket = connect(rig.config.socketPath)
  const text = `POST /mcp HTTP/1.1\r\nHost: gw.test:8443\r\nAuthorization: Bearer ${rig.valid}\r\nContent-Type: application/json\r\nContent-Length: ${body.length}\r\n\r\n${body}`
  for (const part of [header.subarray(0, 5), header.subarray(5, 20)]) {
    await new Promise((done) => socket.write(part, done))
    await new Promise((done) => setTimeout(done, 5))
  }
  socket.write(Buffer.concat([header.subarray(20), Buffer.from(text)]))
  const [data] = await once(socket, 'data')
  t.match(String(data), /^HTTP\/1.1 200 /)
  t.equal(rig.core.calls.at(-1)?.client.address, '2001:db8::7')
  socket.destroy()
})

t.test('browsers: preflight and headers for allowed origins alone', async (t) => {
  const preflight = (origin: string) =>
    rig.http1({
      method: 'OPTIONS',
      token: null,
      headers: {
        origin,
        'access-control-request-method': 'POST',
        'access-control-request-headers': 'authorization',
      },
    })
  const good = await preflight('https://app.test')
  t.equal(good.status, 204)
  t.equal(good.headers['access-control-allow-origin'], 'https://app.test')
  t.match(String(good.headers['access-control-allow-headers']), /Authorization.*Mcp-Session-Id/)
  const bad = await preflight('https://evil.test')
  t.equal(bad.status, 403)
  t.equal(bad.headers['access-control-allow-origin'], undefined)
  const refused = await rig.http1({ body, token: null, headers: { origin: 'https://app.test' } })
  t.equal(refused.status, 401)
  t.equal(refused.headers['access-control-allow-origin'], 'https://app.test')
  t.match(refused.headers['access-control-expose-headers'], /WWW-Authenticate/)
})

t.test('over the limit of requests', async (t) => {
  const small: Rig = await startRig({
    config: { limits: { ...rig.config.limits, concurrent: 1 } },
    core: async (call) => {
      if ('method' in call.message && call.message.method === 'slow') await once(call.signal, 'abort')
      call.reply.json(200, '{}')
    },
  })
  t.teardown(() => small.close())
  const socket = small.dial()
  const slow = small.http1({ body: rpc('slow') }, socket).catch(() => undefined)
  while (small.core.calls.length === 0) await new Promise((done) => setTimeout(done, 2))
  const busy = await small.http1({ body })
  t.equal(busy.status, 503)
  t.equal(busy.headers['retry-after'], '1')
  t.match(busy.json, { error: { code: 4290, data: { retry: true } } })
  socket.destroy()
  await slow
  while (small.edge.stats().active !== 0) await new Promise((done) => setTimeout(done, 2))
  t.equal((await small.http1({ body })).status, 200)
})
