import { once } from 'node:events'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import t from 'tap'
import type { Exchange } from '../../../services/proxy/exchange.ts'
import type { McpCall } from '../../../services/proxy/mcp/protocol/types.ts'
import { HttpReply, KeepAlive } from '../../../services/proxy/reply.ts'
import { Fault } from '../../../shared/faults.ts'
import { proves } from '../../requirements.ts'
import { rpc, startRig } from './rig.ts'

const methodOf = (call: McpCall): string => ('method' in call.message ? call.message.method : '')
let sent = 0
let waited = 0
const aborted: string[] = []
/** Calls whose clients had left before there was anything to say. */
const ended: McpCall[] = []
const rig = await startRig({
  core: async (call) => {
    switch (methodOf(call)) {
      case 'events': {
        const stream = call.reply.stream({ 'mcp-session-id': 'abc' })
        await stream.send('{"n":1}')
        await stream.send('{"n":\n2}')
        stream.end()
        stream.send('{"late":1}')
        return
      }
      case 'quiet':
        call.reply.stream()
        await once(call.signal, 'abort')
        aborted.push('quiet')
        return
      case 'flood': {
        const stream = call.reply.stream()
        while (!call.signal.aborted) {
          const wait = stream.send(`"${'x'.repeat(65_536)}"`)
          sent++
          if (wait) {
            waited++
            await wait
          }
          // A core that does I/O gives way between messages.
          await new Promise((done) => setImmediate(done))
        }
        aborted.push('flood')
        return
      }
      case 'break': {
        const stream = call.reply.stream()
        await stream.send('{"n":1}')
        throw new Fault('upstream.garbage')
      }
      case 'late-stream': {
        await once(call.signal, 'abort')
        const stream = call.reply.stream()
        await stream.send(`"${'x'.repeat(65_536)}"`)
        stream.end()
        ended.push(call)
        return
      }
      case 'late-json':
        await once(call.signal, 'abort')
        call.reply.json(200, '{}')
        ended.push(call)
        return
      case 'silent':
        return
      case 'throw':
        throw new TypeError('at /secret/path.ts:1')
      default:
        call.reply.json(200, '{}')
        call.reply.json(200, '{"second":1}')
    }
  },
})
t.teardown(() => rig.close())

for (const version of ['http1', 'http2'] as const) {
  t.test(`${version}: events, and what proxies on the way must know`, async (t) => {
    const answer = await rig[version]({ body: rpc('events') })
    t.match(answer.headers, {
      'content-type': 'text/event-stream',
      'cache-control': 'no-store',
      'x-accel-buffering': 'no',
      'mcp-session-id': 'abc',
    })
    t.equal(answer.text, 'event: message\ndata: {"n":1}\n\nevent: message\ndata: {"n":\ndata: 2}\n\n')
    t.equal(rig.edge.stats().streams, 0)
  })

  t.test(`${version}: faults of the core`, async (t) => {
    const late = await rig[version]({ body: rpc('break', {}, 'id-9') })
    t.equal(late.status, 200)
    const last = JSON.parse(late.text.trimEnd().split('data: ').at(-1)!)
    t.match(last, { jsonrpc: '2.0', id: 'id-9', error: { code: 5021 } }, 'once streaming, an event')
    for (const method of ['silent', 'throw']) {
      const answer = await rig[version]({ body: rpc(method, {}, 4) })
      t.equal(answer.status, 500)
      t.match(answer.json, { id: 4, error: { code: -32603, message: 'Internal error.' } })
      t.notMatch(answer.text, 'secret')
    }
    t.equal((await rig[version]({ body: rpc('x') })).text, '{}', 'one answer to one request')
  })

  t.test(`${version}: what is said to a client that left holds nobody up and is no error`, async (t) => {
    proves(t, 'MCP-STREAM-02')
    for (const method of ['late-stream', 'late-json']) {
      const before = rig.core.calls.length
      const body = rpc(method)
      if (version === 'http1') {
        const socket = rig.post1(body)
        while (rig.core.calls.length === before) await new Promise((done) => setTimeout(done, 2))
        socket.destroy()
      } else {
        const session = rig.session2()
        const stream = rig.post2(session)
        stream.end(body)
        while (rig.core.calls.length === before) await new Promise((done) => setTimeout(done, 2))
        stream.close(8)
        session.close()
      }
      const call = rig.core.calls[before]
      while (!ended.includes(call!)) await new Promise((done) => setTimeout(done, 2))
      // The pipeline has closed the exchange by then.
      await new Promise((done) => setTimeout(done, 10))
      t.equal((call as Exchange).outcome, 'success', method)
      t.equal(rig.edge.stats().streams, 0)
    }
  })
}

t.test('headers of a stream leave before its first event; going away aborts', async (t) => {
  proves(t, 'MCP-STREAM-02')
  const body = rpc('quiet')
  const socket = rig.post1(body)
  const [data] = await once(socket, 'data')
  t.match(String(data), /text\/event-stream/)
  t.equal(rig.edge.stats().streams, 1)
  socket.destroy()
  while (aborted.length === 0) await new Promise((done) => setTimeout(done, 2))
  const session = rig.session2()
  const stream = rig.post2(session)
  stream.end(body)
  await once(stream, 'response')
  stream.close(8)
  while (aborted.length === 1) await new Promise((done) => setTimeout(done, 2))
  t.equal((await rig.http2({ body: rpc('x') }, session)).status, 200, 'the connection lives')
  session.close()
})

t.test('a client that does not read stops the sender', async (t) => {
  proves(t, 'MCP-STREAM-04')
  const socket = rig.dial()
  const body = rpc('flood')
  aborted.length = 0
  socket.write(
    `POST /mcp HTTP/1.1\r\nHost: gw.test:8443\r\nAuthorization: Bearer ${rig.valid}\r\nContent-Type: application/json\r\nContent-Length: ${body.length}\r\n\r\n${body}`,
  )
  await once(socket, 'readable')
  let before = -1
  while (before !== sent) {
    before = sent
    await new Promise((done) => setTimeout(done, 30))
  }
  t.ok(waited > 0 && sent < 200, `${sent} events of 64 KiB were sent`)
  socket.destroy()
  while (aborted.length === 0) await new Promise((done) => setTimeout(done, 2))
})

t.test('a silent stream gets comments, a busy one does not', async (t) => {
  proves(t, 'MCP-STREAM-03')
  const keepAlive = new KeepAlive(40)
  const server = createServer((req, res) => {
    const stream = new HttpReply(res, keepAlive).stream()
    const timer = req.url === '/busy' ? setInterval(() => stream.send('1'), 5) : undefined
    res.on('close', () => clearInterval(timer))
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.teardown(() => {
    keepAlive.close()
    server.closeAllConnections()
    server.close()
  })
  const read = async (path: string, enough: (text: string) => boolean): Promise<string> => {
    const end = new AbortController()
    const answer = await fetch(`http://127.0.0.1:${(server.address() as AddressInfo).port}${path}`, end)
    let text = ''
    for await (const chunk of answer.body!) {
      text += Buffer.from(chunk).toString()
      if (enough(text)) break
    }
    end.abort()
    return text
  }
  t.match(await read('/', (text) => text.length > 30), /^: keep-alive\n\n: keep-alive\n\n/)
  t.notMatch(await read('/busy', (text) => text.split('data').length > 30), 'keep-alive')
})
