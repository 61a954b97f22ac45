import { once } from 'node:events'
import { connect as connectH2 } from 'node:http2'
import { Agent } from 'node:https'
import { connect as connectTcp } from 'node:net'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import { setTimeout as sleep } from 'node:timers/promises'
import { type ConnectionOptions, connect as connectTls, type TLSSocket } from 'node:tls'
import t from 'tap'
import type { ProxyInfo } from '../../shared/proxy-protocol.ts'
import { proves } from '../requirements.ts'
import { makeCertificate } from '../supervisor/certificates.ts'
import { ask } from './requests.ts'
import { startFakeProxy, startFront } from './rig.ts'

const dir = t.testdir()
const first = makeCertificate(dir, 'first')
const second = makeCertificate(dir, 'second')
const socket = (name: string): string => join(dir, `${name}.sock`)

const dial = (port: number, options: ConnectionOptions = {}): TLSSocket =>
  connectTls({ host: '127.0.0.1', port, rejectUnauthorized: false, ...options })

t.test('what TLS agreed on reaches the proxy', async (t) => {
  proves(t, 'GW-TLS-02')
  const proxy = await startFakeProxy(socket('a'))
  const front = await startFront(first, [proxy.path])
  t.teardown(() => Promise.all([front.stop(), proxy.close()]))

  const one = await ask({ port: front.port, method: 'POST', path: '/mcp', body: '{}' })
  t.equal(one.status, 200)
  const seen = JSON.parse(one.body) as { info: ProxyInfo; url: string }
  t.equal(seen.url, '/mcp')
  t.match(seen.info, {
    source: { address: '127.0.0.1' },
    destination: { address: '127.0.0.1', port: front.port },
    tlsVersion: 'TLSv1.3',
  })
  t.ok(seen.info.source.port > 0)

  const h2 = connectH2(`https://localhost:${front.port}`, {
    rejectUnauthorized: false,
    maxVersion: 'TLSv1.2',
  })
  const stream = h2.request({ ':path': '/h2' })
  const answer = JSON.parse(await text(stream)) as { info: ProxyInfo; url: string }
  h2.close()
  t.equal(answer.url, '/h2')
  t.match(answer.info, { alpn: 'h2', authority: 'localhost', tlsVersion: 'TLSv1.2' })

  const alpn = dial(front.port, { ALPNProtocols: ['http/1.1'], servername: 'gw.example' })
  await once(alpn, 'secureConnect')
  alpn.write('GET /one HTTP/1.1\r\nhost: gw.example\r\nconnection: close\r\n\r\n')
  t.match(await text(alpn), /"alpn":"http\/1.1","authority":"gw.example"/)
})

t.test('old TLS, foreign ALPN and noise are refused, and the front lives on', async (t) => {
  proves(t, 'GW-TLS-01')
  const proxy = await startFakeProxy(socket('b'))
  const front = await startFront(first, [proxy.path], { handshakeTimeoutMs: 300 })
  t.teardown(() => Promise.all([front.stop(), proxy.close()]))

  const refused = async (options: ConnectionOptions): Promise<string> => {
    const client = dial(front.port, options)
    const [error] = await once(client, 'error')
    return String((error as NodeJS.ErrnoException).code)
  }
  t.match(
    await refused({ minVersion: 'TLSv1', maxVersion: 'TLSv1.1', ciphers: 'DEFAULT:@SECLEVEL=0' }),
    /PROTOCOL_VERSION/,
  )
  t.match(await refused({ ALPNProtocols: ['smtp'] }), /NO_APPLICATION_PROTOCOL/)
  t.match(await refused({ maxVersion: 'TLSv1.2', ciphers: 'AES128-SHA' }), /HANDSHAKE_FAILURE/)

  const noise = connectTcp(front.port, '127.0.0.1')
  noise.on('error', () => {})
  noise.end('GET / HTTP/1.1\r\n\r\n')
  noise.resume()
  await once(noise, 'close')

  const silent = connectTcp(front.port, '127.0.0.1')
  silent.on('error', () => {})
  silent.resume()
  const began = performance.now()
  await once(silent, 'close')
  t.ok(performance.now() - began < 5_000, 'a handshake that does not come is given up')

  t.equal(proxy.infos.length, 0, 'none of it reached the proxy')
  t.equal((await ask({ port: front.port })).status, 200)
  const stats = await front.report('stats', ({ values }) => Number(values.tlsFailures) >= 5)
  t.equal(stats.values.connections, 0, 'nothing is left open')
})

t.test('port 80 redirects and relays nothing', async (t) => {
  proves(t, 'GW-TLS-03')
  const proxy = await startFakeProxy(socket('c'))
  const front = await startFront(first, [proxy.path])
  t.teardown(() => Promise.all([front.stop(), proxy.close()]))

  const get = (path: string, headers?: Record<string, string>) =>
    ask({ port: front.httpPort, plain: true, path, ...(headers ? { headers } : {}) })
  const moved = await get('/mcp?a=b', { host: 'evil.example' })
  t.equal(moved.status, 308)
  t.equal(moved.headers.location, 'https://gw.example:8443/mcp?a=b')
  t.equal(moved.headers['strict-transport-security'], undefined)
  t.equal((await get('http://evil.example/x')).headers.location, 'https://gw.example:8443/')
  t.equal((await get(`/${'x'.repeat(9000)}`)).status, 400)
  t.equal(proxy.infos.length, 0)
})

t.test('large bodies both ways, at the pace of the slower side', async (t) => {
  proves(t, 'GW-TLS-05')
  const size = 24 * 1024 * 1024
  let received = 0
  const whole = Promise.withResolvers<void>()
  const proxy = await startFakeProxy(socket('d'), (request, response) => {
    request.on('data', (chunk: Buffer) => {
      received += chunk.length
    })
    request.on('end', () => {
      response.end(Buffer.alloc(size, 'b'))
      whole.resolve()
    })
  })
  const front = await startFront(first, [proxy.path])
  t.teardown(() => Promise.all([front.stop(), proxy.close()]))

  const client = dial(front.port)
  await once(client, 'secureConnect')
  client.write(`POST /big HTTP/1.1\r\nhost: a\r\nconnection: close\r\ncontent-length: ${size}\r\n\r\n`)
  client.write(Buffer.alloc(size, 'a'))
  // Not reading: what the proxy answers has to wait on its side, not in the front.
  await whole.promise
  await sleep(300)
  const waiting = [...proxy.sockets].reduce((sum, { writableLength }) => sum + writableLength, 0)
  let answered = 0
  client.on('data', (chunk) => {
    answered += chunk.length
  })
  await once(client, 'close')
  t.equal(received, size)
  t.ok(answered > size)
  t.ok(waiting > size / 2, `${waiting} bytes waited in the proxy`)
})

t.test('a half-closed client still gets its answer', async (t) => {
  const proxy = await startFakeProxy(socket('e'))
  const front = await startFront(first, [proxy.path])
  t.teardown(() => Promise.all([front.stop(), proxy.close()]))
  const client = dial(front.port, { allowHalfOpen: true } as ConnectionOptions)
  await once(client, 'secureConnect')
  client.end('GET /half HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n')
  t.match(await text(client), /"url":"\/half"/)
})

t.test('without a proxy the client waits, and its bytes arrive once there is one', async (t) => {
  proves(t, 'GW-TLS-04')
  const front = await startFront(first, [], { proxyWaitMs: 1_000 })
  t.teardown(() => front.stop())
  const answer = ask({ port: front.port, method: 'POST', body: 'kept' })
  await sleep(100)
  front.send({ type: 'proxies', sockets: [socket('absent'), socket('f')] })
  await sleep(100)
  const proxy = await startFakeProxy(socket('f'))
  t.teardown(() => proxy.close())
  t.equal((await answer).status, 200)

  front.send({ type: 'proxies', sockets: [socket('absent')] })
  const began = performance.now()
  const gone = await ask({ port: front.port })
  t.match(gone, { status: 503, headers: { connection: 'close' } })
  t.equal(JSON.parse(gone.body).code, 'drain.timeout')
  t.ok(performance.now() - began > 900, 'gives up after proxyWaitMs')
  await front.report('stats', ({ values }) => values.proxyFailures === 1)
})

t.test('connections are spread over the workers', async (t) => {
  const proxies = await Promise.all(['g', 'h'].map((name) => startFakeProxy(socket(name))))
  const front = await startFront(
    first,
    proxies.map(({ path }) => path),
  )
  t.teardown(() => Promise.all([front.stop(), ...proxies.map((proxy) => proxy.close())]))
  const agents = Array.from({ length: 6 }, () => new Agent({ keepAlive: true }))
  t.teardown(() => {
    for (const agent of agents) agent.destroy()
  })
  for (const agent of agents) await ask({ port: front.port, agent })
  t.same(
    proxies.map(({ infos }) => infos.length),
    [3, 3],
  )
})

t.test('a new certificate counts for new connections; open ones stay', async (t) => {
  const proxy = await startFakeProxy(socket('i'))
  const front = await startFront(first, [proxy.path])
  t.teardown(() => Promise.all([front.stop(), proxy.close()]))
  const commonName = async (): Promise<string | undefined> => {
    const client = dial(front.port)
    await once(client, 'secureConnect')
    const name = client.getPeerCertificate().subject?.CN
    client.destroy()
    return name as string | undefined
  }
  t.equal(await commonName(), 'first')
  const open = dial(front.port)
  await once(open, 'secureConnect')

  front.send({ type: 'configure', epoch: 2, config: front.config({ tls: second }) })
  await front.report('applied', ({ epoch }) => epoch === 2)
  t.equal(await commonName(), 'second')
  open.write('GET /still HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n')
  t.match(await text(open), /"url":"\/still"/)

  const mixed = {
    source: 'files' as const,
    certChainPath: first.certChainPath,
    privateKeyPath: second.privateKeyPath,
  }
  front.send({ type: 'configure', epoch: 3, config: front.config({ tls: mixed }) })
  const { fault } = await front.report('rejected', ({ epoch }) => epoch === 3)
  t.equal(fault.code, 'config.invalid')
  t.equal(await commonName(), 'second', 'a bad pair changes nothing')
})

t.test('plain HTTP on loopback carries the header too', async (t) => {
  const proxy = await startFakeProxy(socket('j'))
  const front = await startFront(null, [proxy.path], { listeners: { https: { fd: 4 }, http: null } })
  t.teardown(() => Promise.all([front.stop(), proxy.close()]))
  const answer = await ask({ port: front.port, plain: true, method: 'POST', body: 'x' })
  t.match(JSON.parse(answer.body), { info: { alpn: null, authority: null, tlsVersion: null } })
})

t.test('at most maxConnections', async (t) => {
  const proxy = await startFakeProxy(socket('k'))
  const front = await startFront(first, [proxy.path], { maxConnections: 2 })
  t.teardown(() => Promise.all([front.stop(), proxy.close()]))
  const held = [dial(front.port), dial(front.port)]
  await Promise.all(held.map((client) => once(client, 'secureConnect')))
  while (proxy.infos.length < 2) await sleep(5)
  await t.rejects(ask({ port: front.port }))
  for (const client of held) client.destroy()
  await front.report('stats', ({ values }) => values.connections === 0 && values.refused === 1)
  t.equal((await ask({ port: front.port })).status, 200)
})

t.test('an answer before the end of the body reaches a client that still sends', async (t) => {
  const proxy = await startFakeProxy(socket('m'), (request, response) => {
    // As the real proxy does: says its end and goes on reading, since a reset could overtake the answer.
    request.socket.destroySoon = () => request.socket.end()
    request.resume()
    response.writeHead(413, { connection: 'close' })
    response.end('too large')
  })
  const front = await startFront(first, [proxy.path])
  t.teardown(() => Promise.all([front.stop(), proxy.close()]))
  const client = dial(front.port)
  client.on('error', () => {})
  await once(client, 'secureConnect')
  client.write('POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 50000000\r\n\r\n')
  const sending = setInterval(() => client.writable && client.write(Buffer.alloc(16_384)), 1)
  t.match(await text(client), /^HTTP\/1.1 413 [\s\S]*too large\r\n0\r\n/)
  clearInterval(sending)
  client.destroy()
})

t.test('a drain lets the running request finish and takes no new ones', async (t) => {
  const started: (() => void)[] = []
  const proxy = await startFakeProxy(socket('l'), (_request, response) => {
    started.push(() => response.end('finished'))
  })
  const front = await startFront(first, [proxy.path])
  t.teardown(() => Promise.all([front.stop(), proxy.close()]))
  const answer = ask({ port: front.port })
  const endless = ask({ port: front.port }).then(
    () => 'answered',
    () => 'cut',
  )
  while (started.length < 2) await sleep(5)
  const silent = dial(front.port)
  await once(silent, 'secureConnect')
  silent.resume()
  const exited = once(front.child, 'exit')

  front.send({ type: 'drain', deadlineMs: 1_500 })
  await sleep(200)
  started[0]?.()
  t.equal((await answer).body, 'finished')
  await once(silent, 'end')
  t.equal(await Promise.race([endless, sleep(0, 'waiting')]), 'waiting', 'who waits for nothing goes first')
  t.equal((await front.report('drained')).left, 1, 'what does not end is cut at the deadline')
  t.equal(await endless, 'cut')
  t.same(await exited, [0, null])
})
