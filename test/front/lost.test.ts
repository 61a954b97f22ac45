import { once } from 'node:events'
import { Agent } from 'node:https'
import { join } from 'node:path'
import { connect as connectTls, type TLSSocket } from 'node:tls'
import t, { type Test } from 'tap'
import { proves } from '../requirements.ts'
import { makeCertificate } from '../supervisor/certificates.ts'
import { ask } from './requests.ts'
import { type FakeProxy, type Handler, type RunningFront, startFakeProxy, startFront } from './rig.ts'

/** What a client reads when the process that had its request is killed. */
const dir = t.testdir()
const certificate = makeCertificate(dir, 'lost')
let proxies = 0

/** A front with one proxy, which says when it has a request. */
async function start(
  t: Test,
  handler: Handler = () => {},
): Promise<{ front: RunningFront; proxy: FakeProxy; asked: Promise<void>; die(says?: boolean): void }> {
  const asked = Promise.withResolvers<void>()
  const proxy = await startFakeProxy(join(dir, `${proxies++}.sock`), (request, response, info) => {
    handler(request, response, info)
    asked.resolve()
  })
  const front = await startFront(certificate, [proxy.path])
  t.teardown(() => Promise.all([front.stop(), proxy.close()]))
  const die = (says = true): void => {
    for (const socket of proxy.sockets) socket.destroy()
    if (says) front.send({ type: 'broke', socket: proxy.path })
  }
  return { front, proxy, asked: asked.promise, die }
}

/** A connection whose bytes the test writes and reads itself. */
async function open(t: Test, port: number, ALPNProtocols = ['http/1.1']): Promise<TLSSocket> {
  const client = connectTls({ host: '127.0.0.1', port, ALPNProtocols, rejectUnauthorized: false })
  t.teardown(() => client.destroy())
  await once(client, 'secureConnect')
  return client
}

async function rest(client: TLSSocket): Promise<string> {
  let text = ''
  for await (const chunk of client) text += String(chunk)
  return text
}

t.test('a request that waits for its answer is answered 502, whole and for good', async (t) => {
  proves(t, 'GW-RESTART-09')
  const { front, asked, die } = await start(t)
  const agent = new Agent({ keepAlive: true })
  t.teardown(() => agent.destroy())
  const answer = ask({ port: front.port, agent, method: 'POST', body: '{"id":1}' })
  await asked
  die()
  const { status, headers, body } = await answer
  t.equal(status, 502)
  t.match(headers, { 'content-type': 'application/problem+json', connection: 'close' })
  t.match(JSON.parse(body), {
    status: 502,
    code: 'request.lost',
    title: /may or may not have been carried out/,
  })
})

t.test('the word of the supervisor may come first', async (t) => {
  const { front, proxy, asked, die } = await start(t)
  const answer = ask({ port: front.port, method: 'HEAD' })
  await asked
  front.send({ type: 'broke', socket: proxy.path })
  front.send({ type: 'ping', n: 1 })
  await front.report('pong')
  die(false)
  t.match(await answer, { status: 502, body: '' }, 'and HEAD gets no body')
})

t.test('a second request on a kept connection, sent in pieces, is told too', async (t) => {
  let seen = 0
  const again = Promise.withResolvers<void>()
  const { front, die } = await start(t, (_request, response) => {
    if (++seen === 1) response.end('first')
    else again.resolve()
  })
  const client = await open(t, front.port)
  client.write('GET /1 HTTP/1.1\r\nHost: a\r\n\r\n')
  t.match(String((await once(client, 'data'))[0]), /first/)
  client.write('POST /2 HTTP/1.1\r\nHost: a\r\nContent-Length: 6\r\n\r\nabc')
  await again.promise
  client.write('de')
  die()
  t.match(await rest(client), /^HTTP\/1\.1 502 /)
})

t.test('nothing is put into an answer that began', async (t) => {
  proves(t, 'GW-RESTART-09')
  const { front, die } = await start(t, (_request, response) => {
    response.writeHead(200, { 'content-type': 'text/event-stream' })
    response.write('data: begun\n\n')
  })
  const silent = await open(t, front.port)
  silent.write('GET / HTTP/1.1\r\nHost: a\r\n\r\n')
  const talking = await open(t, front.port)
  talking.write('POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nabc')
  for (const client of [silent, talking]) t.match(String((await once(client, 'data'))[0]), /begun/)
  talking.write('def')
  front.send({ type: 'ping', n: 1 })
  await front.report('pong')
  die()
  t.same(await Promise.all([rest(silent), rest(talking)]), ['', ''])
})

t.test('an end without a death is only an end', async (t) => {
  const { front, asked, die } = await start(t)
  const client = await open(t, front.port)
  client.write('GET / HTTP/1.1\r\nHost: a\r\n\r\n')
  await asked
  die(false)
  t.equal(await rest(client), '')
})

t.test('on HTTP/2 the connection ends: front does not speak it', async (t) => {
  const { front, proxy, die } = await start(t)
  const client = await open(t, front.port, ['h2'])
  client.write('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0')
  const text = rest(client)
  while (proxy.infos.length === 0) await new Promise((resolve) => setTimeout(resolve, 5))
  die()
  t.notMatch(await text, /502/)
})
