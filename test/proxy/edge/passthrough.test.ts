import { once } from 'node:events'
import { mkdtemp, rm } from 'node:fs/promises'
import { createServer, type IncomingMessage } from 'node:http'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t from 'tap'
import { proves } from '../../requirements.ts'
import { rpc, startRig } from './rig.ts'

const dir = await mkdtemp(join(tmpdir(), 'plane-'))
const socketPath = join(dir, 'public.sock')
const seen: { req: IncomingMessage; body: string }[] = []
let aborted = 0
const plane = createServer(async (req, res) => {
  if (req.url === '/slow') {
    req.socket.on('close', () => aborted++)
    res.write('begun')
    return
  }
  let body = ''
  try {
    for await (const chunk of req) body += chunk
  } catch {
    return
  }
  seen.push({ req, body })
  if (req.url === '/redirect')
    return res.writeHead(302, { location: '/login', 'set-cookie': ['a=1', 'b=2'] }).end()
  res.writeHead(200, { 'content-type': 'text/plain', 'keep-alive': 'timeout=5', 'x-own': 'kept' })
  res.write('one ')
  res.end(`two ${body.length}`)
})
plane.listen(socketPath)
await once(plane, 'listening')
const rig = await startRig({ config: { controlPlaneSocketPath: socketPath } })
t.teardown(async () => {
  await rig.close()
  plane.closeAllConnections()
  plane.close()
  await rm(dir, { recursive: true, force: true })
})

for (const version of ['http1', 'http2'] as const) {
  t.test(`${version}: other paths reach the control plane as the gateway's own`, async (t) => {
    proves(t, 'HTTP-27')
    const answer = await rig[version]({
      path: '/connect/token?x=%20y',
      body: 'a=b&c=d',
      token: null,
      headers: {
        'content-type': 'application/x-www-form-urlencoded',
        cookie: 'sid=1',
        authorization: 'Basic YTpi',
        forwarded: 'for=1.2.3.4',
        'x-forwarded-for': '1.2.3.4',
        'x-forwarded-host': 'evil.test',
        'x-forwarded-port': '1',
        'x-real-ip': '1.2.3.4',
        ...(version === 'http1' ? { connection: 'keep-alive, x-hop', 'x-hop': '1', te: 'trailers' } : {}),
      },
    })
    t.strictSame([answer.status, answer.text], [200, 'one two 7'])
    t.equal(answer.headers['x-own'], 'kept')
    t.equal(answer.headers['strict-transport-security'], 'max-age=31536000')
    t.notMatch(answer.headers, { 'keep-alive': 'timeout=5' })
    const { req, body } = seen.at(-1)!
    t.strictSame([req.method, req.url, body], ['POST', '/connect/token?x=%20y', 'a=b&c=d'])
    t.match(req.headers, {
      host: 'gw.test:8443',
      'x-forwarded-for': '203.0.113.9',
      'x-forwarded-proto': 'https',
      'x-forwarded-host': 'gw.test:8443',
      cookie: 'sid=1',
      authorization: 'Basic YTpi',
    })
    for (const name of ['forwarded', 'x-forwarded-port', 'x-real-ip', 'x-hop', 'te']) {
      t.equal(req.headers[name], undefined, name)
    }
    const redirect = await rig[version]({ method: 'GET', path: '/redirect', token: null })
    t.equal(redirect.status, 302)
    t.strictSame(redirect.headers['set-cookie'], ['a=1', 'b=2'])
    t.equal((await rig[version]({ method: 'HEAD', path: '/', token: null })).status, 200)
  })

  t.test(`${version}: limits`, async (t) => {
    const large = await rig[version]({ path: '/x', body: 'x'.repeat(70_000), token: null })
    t.equal(large.status, 413)
    t.equal((await rig[version]({ path: '/x', token: null, headers: { host: 'evil.test' } })).status, 403)
    t.equal((await rig[version]({ method: 'GET', path: '/x', token: null })).status, 200)
  })
}

t.test('MCP is never passed on', async (t) => {
  proves(t, 'HTTP-28')
  const before = seen.length
  for (const method of ['GET', 'POST', 'PUT', 'PATCH', 'DELETE', 'OPTIONS', 'TRACE']) {
    for (const path of ['/mcp', '/mcp/', '/mcp?x=1']) await rig.http1({ method, path, token: null })
  }
  t.equal(seen.length, before)
})

t.test('upgrades are refused, an offer of h2c is ignored', async (t) => {
  proves(t, 'HTTP-29')
  const ask = (upgrade: string) =>
    rig.http1({ method: 'GET', path: '/ws', token: null, headers: { connection: 'upgrade', upgrade } })
  t.equal((await ask('websocket')).status, 501)
  t.equal((await ask('h2c')).status, 200)
})

t.test('a client that goes away takes its request along', async (t) => {
  const socket = rig.dial()
  socket.write('GET /slow HTTP/1.1\r\nHost: gw.test:8443\r\n\r\n')
  await once(socket, 'data')
  t.equal(rig.edge.stats().passthrough, 1)
  socket.destroy()
  while (aborted === 0 || rig.edge.stats().passthrough !== 0) await new Promise((done) => setTimeout(done, 2))
  t.pass('aborted')
})

t.test('down: a problem for these paths alone', async (t) => {
  proves(t, 'HTTP-30')
  plane.closeAllConnections()
  plane.close()
  await once(plane, 'close')
  const answer = await rig.http1({ method: 'GET', path: '/login', token: null })
  t.equal(answer.status, 502)
  t.equal(answer.headers['content-type'], 'application/problem+json')
  t.match(answer.json, { status: 502, code: 'passthrough.down' })
  t.notMatch(answer.text, dir)
  for (const ask of [rig.http1, rig.http2]) {
    const posted = await ask({ path: '/connect/token', body: 'x'.repeat(60_000), token: null })
    t.equal(posted.status, 502, 'also where a body was on its way')
  }
  t.equal((await rig.http1({ body: rpc('tools/list') })).status, 200)
})
