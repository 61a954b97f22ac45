import t, { type Test } from 'tap'
import { proves } from '../../requirements.ts'
import { type Answer, type Ask, rpc, startRig } from './rig.ts'

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
  ['a batch', { body: `[${body}]`, headers: { 'mcp-protocol-version': '2025-06-18' } }, 400, -32600],
  ['an empty batch', { body: '[]' }, 400, -32600],
  ['a batch with one id twice', { body: `[${body},${body}]` }, 400, -32600],
  [
    'a batch of too many',
    { body: `[${Array.from({ length: 65 }, (_, id) => rpc('ping', {}, id))}]` },
    400,
    -32600,
  ],
  ['initialize in a batch', { body: `[${rpc('initialize')}]` }, 400, -32600],
  ['a batch within a batch', { body: `[[${body}]]` }, 400, -32600],
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
    proves(t, 'HTTP-09')
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
  proves(t, 'HTTP-10')
  t.equal((await rig.http1({ method: 'GET', token: null })).headers.allow, 'POST, DELETE, OPTIONS')
  const headers = { ...modern('tools/list'), 'mcp-protocol-version': '2099-01-01' }
  const unsupported = await rig.http1({
    body: rpc('tools/list', meta({ 'io.modelcontextprotocol/protocolVersion': '2099-01-01' })),
    headers,
  })
  t.match(unsupported.json.error.data, { requested: '2099-01-01', supported: ['2026-07-28', '2025-11-25'] })
})
