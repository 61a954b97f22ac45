import t from 'tap'
import type { JsonObject } from '../../../services/proxy/mcp/protocol/types.ts'
import { declaredBy } from '../../../services/proxy/mcp/upstream/param-headers.ts'
import { post } from './legacy-server.ts'
import { modernMeta, startScripted } from './modern-server.ts'
import { startRig } from './rig.ts'

const schema = (properties: JsonObject, more: JsonObject = {}): JsonObject => ({
  inputSchema: { type: 'object', properties, ...more },
})
const annotated = (name: unknown, type = 'string') => ({ type, 'x-mcp-header': name })
const done = { result: { content: [{ type: 'text', text: 'ok' }] } }
const base64 = (text: string): string => `=?base64?${Buffer.from(text).toString('base64')}?=`

t.test('which annotations are valid', async (t) => {
  const valid = (tool: JsonObject) => !('invalid' in declaredBy(tool))
  t.ok(
    valid(
      schema({ a: annotated('Region'), b: annotated('Count', 'integer'), c: annotated('On', 'boolean') }),
    ),
  )
  t.ok(
    valid(schema({ a: { type: 'object', properties: { b: annotated('Deep') } } })),
    'any depth of properties',
  )
  t.ok(valid(schema({ a: { type: 'string', default: { 'x-mcp-header': '' } } })), 'a value is no schema')
  t.notOk(valid(schema({ a: annotated('') })))
  t.notOk(valid(schema({ a: annotated('My Region') })))
  t.notOk(valid(schema({ a: annotated(7) })))
  t.notOk(valid(schema({ a: annotated('N', 'number') })))
  t.notOk(valid(schema({ a: annotated('O', 'object') })))
  t.notOk(valid(schema({ a: annotated('Same'), b: annotated('sAME') })))
  t.notOk(valid(schema({ a: { type: 'array', items: annotated('I') } })))
  t.notOk(valid(schema({ a: { oneOf: [annotated('I')] } })))
  t.notOk(valid(schema({ a: { $ref: '#/$defs/r' } }, { $defs: { r: annotated('R') } })))
  t.notOk(valid({ inputSchema: { type: 'object', 'x-mcp-header': 'Root' } }))
  let deep: JsonObject = annotated('Deep')
  for (let level = 0; level < 200; level++) deep = { properties: { a: deep } }
  t.notOk(valid({ inputSchema: deep }), 'a schema without end is not walked')
})

const tools = [
  {
    name: 'go',
    ...schema({
      region: annotated('Region'),
      count: annotated('Count', 'integer'),
      on: annotated('On', 'boolean'),
      nested: { type: 'object', properties: { zone: annotated('Zone') } },
    }),
  },
  { name: 'broken', ...schema({ a: annotated('My Region') }) },
]

t.test('arguments are mirrored to a modern server, encoded where a header can not carry them', async (t) => {
  const rig = await startRig()
  const server = await startScripted(({ method }) => (method === 'tools/list' ? { result: { tools } } : done))
  t.teardown(() => Promise.all([rig.close(), server.close()]))
  rig.setServers([{ prefix: 'a', url: server.url }])
  const listed = await post(rig, 'tools/list')
  t.same(
    (listed.last.result!.tools as JsonObject[]).map(({ name }) => name),
    ['a_go'],
    'a tool with an invalid annotation is not listed',
  )
  await post(rig, 'tools/call', {
    name: 'a_go',
    arguments: { region: ' Zürich', count: 42, on: false, nested: { zone: 'eu-1' } },
  })
  const [call] = server.calls().filter(({ method }) => method === 'tools/call')
  t.match(call?.headers, {
    'mcp-param-region': base64(' Zürich'),
    'mcp-param-count': '42',
    'mcp-param-on': 'false',
    'mcp-param-zone': 'eu-1',
  })
  await post(rig, 'tools/call', { name: 'a_go', arguments: { region: base64('x'), count: null } })
  const last = server.calls().at(-1)
  t.equal(last?.headers['mcp-param-region'], base64(base64('x')), 'what looks like the encoding is encoded')
  t.notOk(last?.headers['mcp-param-count'])
  t.notOk(last?.headers['mcp-param-on'])
})

t.test('a modern client’s headers have to say what its body says', async (t) => {
  const rig = await startRig()
  const server = await startScripted(({ method }) => (method === 'tools/list' ? { result: { tools } } : done))
  t.teardown(() => Promise.all([rig.close(), server.close()]))
  rig.setServers([{ prefix: 'a', url: server.url }])
  await post(rig, 'tools/list', { _meta: modernMeta() })
  const call = async (args: JsonObject, headers: Record<string, string>) => {
    const { status, last } = await post(
      rig,
      'tools/call',
      { name: 'a_go', arguments: args, _meta: modernMeta() },
      headers,
    )
    return [status, last.error?.code]
  }
  t.same(await call({ region: 'eu' }, { 'mcp-param-region': ' eu ' }), [200, undefined])
  t.same(await call({ region: 'ü' }, { 'mcp-param-region': base64('ü') }), [200, undefined])
  t.same(await call({ count: 42 }, { 'Mcp-Param-Count': '42.0' }), [200, undefined], 'integers by number')
  t.same(await call({}, { 'mcp-param-other': 'x' }), [200, undefined], 'unknown ones are nobody’s concern')
  t.same(await call({ region: 'eu' }, { 'mcp-param-region': 'EU' }), [400, -32020])
  t.same(await call({ region: 'eu' }, {}), [400, -32020])
  t.same(await call({}, { 'mcp-param-region': 'eu' }), [400, -32020])
  t.same(await call({ region: 'eu' }, { 'mcp-param-region': '=?base64?!?=' }), [400, -32020])
})

t.test('a definition that changed meanwhile: listed anew and asked once more', async (t) => {
  const rig = await startRig()
  let name = 'Region'
  const server = await startScripted(({ method, headers }) => {
    if (method === 'tools/list') {
      return { result: { tools: [{ name: 'go', ...schema({ region: annotated(name) }) }], ttlMs: 300_000 } }
    }
    const fits = headers[`mcp-param-${name.toLowerCase()}`] === 'eu'
    return fits ? done : { status: 400, error: { code: -32020, message: 'header mismatch' } }
  })
  t.teardown(() => Promise.all([rig.close(), server.close()]))
  rig.setServers([{ prefix: 'a', url: server.url }])
  const call = { name: 'a_go', arguments: { region: 'eu' } }
  t.ok((await post(rig, 'tools/call', call)).last.result, 'also where nothing was listed before')
  name = 'Place'
  t.ok((await post(rig, 'tools/call', call)).last.result)
  t.equal(server.calls().at(-1)?.headers['mcp-param-region'], undefined)
})
