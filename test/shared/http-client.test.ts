import { mkdtemp, rm } from 'node:fs/promises'
import { createServer, type RequestListener, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { z } from 'zod'
import { Fault } from '../../shared/faults.ts'
import { createHttpClient, type HttpClientOptions, parseBase } from '../../shared/http-client.ts'
import { AnswerFault, toProblem } from '../../shared/problem.ts'
import { SseParser } from '../../shared/sse.ts'

const codes = { unreachable: 'control_plane.unreachable', rejected: 'control_plane.rejected' } as const
type Options = Partial<HttpClientOptions>

const serve = async (t: Test, handler: RequestListener): Promise<string> => {
  const server: Server = createServer(handler)
  await new Promise<void>((done) => server.listen(0, '127.0.0.1', done))
  t.teardown(() => {
    server.closeAllConnections()
    server.close()
  })
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`
}

const client = (t: Test, base: string, options: Options = {}) => {
  const made = createHttpClient({ base, ...codes, ...options })
  t.teardown(() => made.close())
  return made
}

const failure = async (work: Promise<unknown>): Promise<Fault> => {
  try {
    await work
  } catch (error) {
    if (error instanceof Fault) return error
    throw error
  }
  throw new Error('it did not fail')
}

t.test(
  'JSON goes out and comes back through the schema, over TCP with a path and over a unix socket',
  async (t) => {
    const handler: RequestListener = (request, response) => {
      let text = ''
      request.on('data', (chunk) => {
        text += chunk
      })
      request.on('end', () =>
        response.end(JSON.stringify({ url: request.url, got: text && JSON.parse(text) })),
      )
    }
    const shape = z.object({ url: z.string(), got: z.unknown() })
    const tcp = client(t, `${await serve(t, handler)}/base/`)
    t.same(await tcp.json({ method: 'POST', path: '/v1', body: { a: 1 } }, shape), {
      url: '/base/v1',
      got: { a: 1 },
    })
    const dir = await mkdtemp(join(tmpdir(), 'http-client-'))
    t.teardown(() => rm(dir, { recursive: true }))
    const path = join(dir, 'a.sock')
    const server = createServer(handler)
    await new Promise<void>((done) => server.listen(path, done))
    t.teardown(() => server.close())
    const unix = client(t, `unix:${path}`)
    t.match(await unix.json({ path: '/v1/keys' }, shape), { url: '/v1/keys' })
    const wrong = await failure(unix.json({ path: '/x' }, z.object({ secret: z.string() })))
    t.equal(wrong.code, 'control_plane.rejected')
    t.match(wrong.detail, /secret: invalid_type/)
  },
)

t.test('a problem becomes its Fault, with the status; 5xx and 429 mean: come back later', async (t) => {
  const base = await serve(t, (request, response) => {
    const [, status = '', code] = (request.url ?? '').split('/')
    response.writeHead(Number(status), { location: '/200' })
    response.end(
      code ? JSON.stringify({ ...toProblem(new Fault('internal')), code, status: Number(status) }) : 'oh',
    )
  })
  const http = client(t, base)
  const of = async (path: string) => failure(http.send({ path }))
  const known = await of('/401/token.expired')
  t.ok(known instanceof AnswerFault)
  t.match(known, { code: 'token.expired', status: 401 })
  t.match(await of('/403/not.ours'), { code: 'control_plane.rejected', status: 403 })
  t.match(await of('/500/internal'), { code: 'control_plane.unreachable', status: 500 })
  t.match(await of('/429'), { code: 'control_plane.unreachable', status: 429 })
  t.match(await of('/302'), { code: 'control_plane.rejected', status: 302 }, 'no redirect is followed')
  t.equal((await http.send({ path: '/304' })).status, 304)
})

t.test('waits and bodies are bounded', async (t) => {
  const base = await serve(t, (request, response) => {
    if (request.url === '/big') response.end('x'.repeat(5000))
    if (request.url === '/drip') response.write('{')
  })
  const http = client(t, base, { timeoutMs: 150, maxBodyBytes: 4096 })
  t.match(await failure(http.send({ path: '/big' })), { code: 'control_plane.rejected', detail: /4096/ })
  t.match(await failure(http.send({ path: '/never' })), { code: 'control_plane.unreachable' })
  t.match(await failure(http.send({ path: '/drip' })), { code: 'control_plane.unreachable' })
  const closed = client(t, 'http://127.0.0.1:1')
  t.match(await failure(closed.send({ path: '/' })), {
    code: 'control_plane.unreachable',
    detail: /ECONNREFUSED/,
  })
})

t.test('plain http leaves this machine never', async (t) => {
  for (const base of ['http://example.com', 'ftp://127.0.0.1', 'unix:relative', 'nonsense']) {
    t.throws(() => parseBase(base), { code: 'config.invalid' }, base)
  }
  t.same(parseBase('https://cp.example/base/'), {
    origin: 'https://cp.example',
    prefix: '/base',
    socketPath: null,
  })
})

t.test('an event stream: events in order, silence ends it, abort ends it quietly', async (t) => {
  const base = await serve(t, (request, response) => {
    if (request.url === '/none') {
      response.end('{}')
      return
    }
    response.writeHead(200, { 'content-type': 'text/event-stream' })
    response.write('event: a\ndata: {"n":1}\n\n: note\n\ndata: 2\r\n\r\n')
    if (request.url === '/ends') response.end()
    if (request.url === '/large') response.write(`data: ${'x'.repeat(3000)}`)
  })
  const http = client(t, base)
  const read = async (path: string, signal?: AbortSignal, stopAt = 99) => {
    const seen: string[] = []
    let opened = 0
    const request = { path, idleMs: 200, maxEventChars: 1000, ...(signal ? { signal } : {}) }
    for await (const { event, data } of http.events(request, () => opened++)) {
      seen.push(`${event} ${data}`)
      if (seen.length === stopAt) break
    }
    return { seen, opened }
  }
  t.same(await read('/ends'), { seen: ['a {"n":1}', 'message 2'], opened: 1 })
  t.same((await read('/silent', undefined, 1)).seen, ['a {"n":1}'], 'a reader may stop')
  t.match(await failure(read('/silent')), { code: 'control_plane.unreachable', detail: /silent for 200/ })
  t.match(await failure(read('/large')), { detail: /larger than 1000/ })
  t.match(await failure(read('/none')), { code: 'control_plane.rejected' })
  const abort = new AbortController()
  setTimeout(() => abort.abort(), 20)
  t.equal((await read('/silent', abort.signal)).seen.length, 2)
})

t.test('the parser takes any split of the bytes', async (t) => {
  const text =
    '\uFEFFid: 7\r\nevent:x\ndata:one\ndata: two\n\nretry: 5\ndata\n\r\nevent: lost\n\n: c\rdata: z\r\r\n'
  const expected = [
    { event: 'x', data: 'one\ntwo', id: '7' },
    { event: 'message', data: '', id: '7' },
    { event: 'message', data: 'z', id: '7' },
  ]
  for (let size = 1; size <= text.length; size++) {
    const parser = new SseParser(100)
    const seen = []
    for (let at = 0; at < text.length; at += size) seen.push(...parser.push(text.slice(at, at + size)))
    t.same(seen, expected, `pieces of ${size}`)
  }
})
