import { once } from 'node:events'
import { connect as connectHttp2 } from 'node:http2'
import { connect } from 'node:net'
import t from 'tap'
import { encodeProxyHeader } from '../../../shared/proxy-protocol.ts'
import { proves } from '../../requirements.ts'
import { type Rig, rpc, startRig } from './rig.ts'

const rig = await startRig({
  config: {
    limits: { bodyBytes: 65_536, bodyTimeoutMs: 300, depth: 32, concurrent: 64, responseBytes: 1 << 20 },
  },
})
t.teardown(() => rig.close())
const body = rpc('tools/list')

t.test('50 MB without a declared length is cut off', async (t) => {
  proves(t, 'HTTP-11')
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
  proves(t, 'HTTP-12')
  const session = rig.session2()
  const stream = rig.post2(session)
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

t.test('HTTP/2: a client that closes its side without a word leaves nothing behind', async (t) => {
  proves(t, 'HTTP-20')
  const socket = rig.dial('h2')
  const session = connectHttp2('http://gw.test:8443', { createConnection: () => socket })
  session.on('error', () => {})
  t.equal((await rig.http2({ body }, session)).status, 200)
  const before = Number(rig.edge.stats().connections)
  const ended = once(socket, 'end')
  socket.end()
  socket.resume()
  await ended
  while (Number(rig.edge.stats().connections) >= before)
    await new Promise((resolve) => setTimeout(resolve, 5))
  t.pass('the connection was given up')
})

t.test('Expect: 100-continue is answered when the body is wanted', async (t) => {
  proves(t, 'HTTP-13')
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
  proves(t, 'HTTP-14')
  const socket = rig.dial()
  socket.write(
    `POST /mcp HTTP/1.1\r\nHost: gw.test:8443\r\nAuthorization: Bearer ${rig.valid}\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{`,
  )
  const [data] = await once(socket, 'data')
  t.match(String(data), /^HTTP\/1.1 408 /)
  socket.destroy()
})

t.test('a refusal keeps an HTTP/1.1 connection', async (t) => {
  proves(t, 'HTTP-15')
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
  proves(t, 'HTTP-16')
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
  proves(t, 'HTTP-17')
  const socket = connect(rig.config.socketPath)
  socket.write('POST /mcp HTTP/1.1\r\n')
  await once(socket, 'close')
  t.pass('closed')
})

t.test('a header that comes in pieces, with a request behind it', async (t) => {
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
  proves(t, 'HTTP-18')
  const preflight = (origin: string) =>
    rig.http1({
      method: 'OPTIONS',
      token: null,
      headers: {
        origin,
        'access-control-request-method': 'POST',
        'access-control-request-headers': 'authorization,mcp-param-region, x-evil,mcp-param-a b',
      },
    })
  const good = await preflight('https://app.test')
  t.equal(good.status, 204)
  t.equal(good.headers['access-control-allow-origin'], 'https://app.test')
  const allowed = String(good.headers['access-control-allow-headers'])
  t.match(allowed, /Authorization.*Mcp-Session-Id.*, mcp-param-region$/, 'and what a tool wants in headers')
  const bad = await preflight('https://evil.test')
  t.equal(bad.status, 403)
  t.equal(bad.headers['access-control-allow-origin'], undefined)
  const refused = await rig.http1({ body, token: null, headers: { origin: 'https://app.test' } })
  t.equal(refused.status, 401)
  t.equal(refused.headers['access-control-allow-origin'], 'https://app.test')
  t.match(refused.headers['access-control-expose-headers'], /WWW-Authenticate/)
})

t.test('over the limit of requests', async (t) => {
  proves(t, 'HTTP-19')
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
