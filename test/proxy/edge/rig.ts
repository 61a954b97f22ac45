import { createHash } from 'node:crypto'
import { once } from 'node:events'
import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { request as httpRequest, type IncomingHttpHeaders } from 'node:http'
import { type ClientHttp2Session, type ClientHttp2Stream, connect as http2Connect } from 'node:http2'
import { connect, type Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Fetch } from '../../../services/proxy/auth/issuers.ts'
import { Edge } from '../../../services/proxy/edge.ts'
import type { Fault } from '../../../shared/faults.ts'
import type { ConfigOf } from '../../../shared/ipc/contract.ts'
import { createLogger } from '../../../shared/log.ts'
import { Meter } from '../../../shared/metrics/meter.ts'
import { encodeProxyHeader } from '../../../shared/proxy-protocol.ts'
import type { WorkloadEvent } from '../../../shared/wire/event.ts'
import type { Snapshot } from '../../../shared/wire/snapshot.ts'
import { type CoreBehaviour, FakeCore, FakeSync, origin, snapshot, TestClock, token } from './fakes.ts'

export interface Answer {
  status: number
  headers: IncomingHttpHeaders
  text: string
  // biome-ignore lint/suspicious/noExplicitAny: answers are inspected field by field, and a missing one fails the test
  json: any
}

export interface Ask {
  method?: string
  path?: string
  headers?: Record<string, string | string[]>
  body?: string | Buffer
  token?: string | null
}

export interface RigOptions {
  config?: Partial<ConfigOf['proxy']>
  core?: CoreBehaviour
  fetch?: Fetch
  sync?: FakeSync
  /** Give no snapshot; the test brings its own. */
  cold?: boolean
}

export type Rig = Awaited<ReturnType<typeof startRig>>

/** A whole proxy in this process, reached over its unix socket as front reaches it. */
export async function startRig(options: RigOptions = {}) {
  const dir = await mkdtemp(join(tmpdir(), 'edge-'))
  const clock = new TestClock()
  const sync = options.sync ?? new FakeSync()
  const syncSocketPath = join(dir, 'sync.sock')
  if (!sync.server.listening) {
    sync.server.listen(syncSocketPath)
    await once(sync.server, 'listening')
  }
  const config: ConfigOf['proxy'] = {
    logLevel: 'off',
    version: '0.0.0',
    worker: 0,
    origin,
    mcpPath: '/mcp',
    publicPort: 8443,
    socketPath: join(dir, 'proxy-0.1.sock'),
    successionPath: null,
    peer: { id: '0.1', socketPath: join(dir, 'peer-0.1.sock') },
    syncSocketPath,
    stdioSocketPath: null,
    controlPlaneSocketPath: null,
    spoolDir: join(dir, 'spool'),
    sessionIdleTtlSecs: 3600,
    sessionStore: null,
    timeouts: {},
    trustedIssuerDomains: [],
    allowedOrigins: ['https://app.test'],
    snapshotMaxAgeMs: 60_000,
    limits: { bodyBytes: 65_536, bodyTimeoutMs: 5_000, depth: 64, concurrent: 64, responseBytes: 1 << 20 },
    ...options.config,
  }
  const checks = new Map<string, { status: string; fault?: Fault }>()
  let core!: FakeCore
  const meter = new Meter()
  const edge = new Edge(
    {
      config,
      log: createLogger('proxy', config.logLevel),
      check: (name, status, fault) => checks.set(name, { status, ...(fault ? { fault } : {}) }),
      stats: () => {},
      send: () => {},
      meter,
      tenant: () => {},
    },
    {
      clock,
      createCore: (deps) => {
        core = new FakeCore(deps)
        core.behaviour = options.core
        return core
      },
      ...(options.fetch ? { fetch: options.fetch } : {}),
    },
  )
  let version = 0
  const give = async (change: Partial<Snapshot> = {}): Promise<void> => {
    const content = JSON.stringify(snapshot(++version, change))
    const path = join(dir, 'snapshot.json')
    await writeFile(path, content)
    const sha256 = createHash('sha256').update(content).digest('hex')
    await edge.snapshot({ version, path, sha256 }, clock.now())
  }
  await edge.start()
  if (!options.cold) await give()
  // The keys come from sync by themselves; requests of a test should not race with them.
  while (sync.keys && checks.get('proxy.sync')?.status !== 'running')
    await new Promise((done) => setTimeout(done, 5))
  const valid = await token()

  const dial = (alpn: string | null = 'http/1.1'): Socket => {
    const socket = connect(config.socketPath)
    socket.write(
      encodeProxyHeader({
        source: { address: '203.0.113.9', port: 40_100 },
        destination: { address: '198.51.100.1', port: 8443 },
        alpn,
        authority: 'gw.test',
        tlsVersion: 'TLSv1.3',
      }),
    )
    return socket
  }

  const fill = (ask: Ask): { method: string; path: string; headers: Record<string, string | string[]> } => ({
    method: ask.method ?? 'POST',
    path: ask.path ?? '/mcp',
    headers: {
      host: 'gw.test:8443',
      ...((ask.method ?? 'POST') === 'POST' ? { 'content-type': 'application/json' } : {}),
      accept: 'application/json, text/event-stream',
      ...(ask.token === null ? {} : { authorization: `Bearer ${ask.token ?? valid}` }),
      ...ask.headers,
    },
  })

  /** One request on its own HTTP/1.1 connection, or on `socket`. */
  const http1 = (ask: Ask, socket?: Socket): Promise<Answer> => {
    const { method, path, headers } = fill(ask)
    return new Promise((resolve, reject) => {
      const req = httpRequest({ method, path, headers, createConnection: () => socket ?? dial() }, (res) => {
        let text = ''
        res.setEncoding('utf8')
        res.on('data', (chunk) => {
          text += chunk
        })
        res.on('end', () => resolve(answer(res.statusCode!, res.headers, text)))
        res.on('error', reject)
      })
      req.on('error', reject)
      req.end(ask.body)
    })
  }

  const session2 = (): ClientHttp2Session =>
    http2Connect('http://gw.test:8443', { createConnection: () => dial('h2') })

  /** A POST whose answer the test reads, or does not: bytes on a connection of its own. */
  const post1 = (body: string): Socket => {
    const socket = dial()
    socket.write(
      `POST /mcp HTTP/1.1\r\nHost: gw.test:8443\r\nAuthorization: Bearer ${valid}\r\nContent-Type: application/json\r\nContent-Length: ${body.length}\r\n\r\n${body}`,
    )
    return socket
  }
  /** The same on an HTTP/2 session; the body is the test's to write. */
  const post2 = (session: ClientHttp2Session): ClientHttp2Stream =>
    session.request({
      ':method': 'POST',
      ':path': '/mcp',
      ':authority': 'gw.test:8443',
      'content-type': 'application/json',
      authorization: `Bearer ${valid}`,
    })

  const http2 = async (ask: Ask, session?: ClientHttp2Session): Promise<Answer> => {
    const own = session ?? session2()
    const { method, path, headers } = fill(ask)
    const { host, ...rest } = headers
    const stream = own.request({ ':method': method, ':path': path, ':authority': host, ...rest })
    stream.end(ask.body)
    const [head] = await once(stream, 'response')
    let text = ''
    stream.setEncoding('utf8')
    for await (const chunk of stream) text += chunk
    if (!session) own.close()
    return answer(head[':status'], head, text)
  }

  /** Every line that reached a sealed segment, oldest first. */
  const lines = async (): Promise<string[]> => {
    const names = (await readdir(config.spoolDir)).filter((name) => name.endsWith('.ready')).sort()
    const texts = await Promise.all(names.map((name) => readFile(join(config.spoolDir, name), 'utf8')))
    return texts.flatMap((text) => text.trimEnd().split('\n'))
  }
  const events = async (): Promise<WorkloadEvent[]> => (await lines()).map((line) => JSON.parse(line))

  let stopped: Promise<number> | undefined
  const stop = (deadlineMs = 200): Promise<number> => {
    stopped ??= edge.drain(deadlineMs)
    return stopped
  }
  const close = async (): Promise<void> => {
    await stop()
    for (const stream of sync.streams) stream.destroy()
    sync.server.closeAllConnections()
    sync.server.close()
    await rm(dir, { recursive: true, force: true })
  }
  return {
    dir,
    config,
    clock,
    sync,
    checks,
    meter,
    edge,
    core,
    valid,
    give,
    dial,
    http1,
    http2,
    session2,
    post1,
    post2,
    events,
    lines,
    stop,
    close,
  }
}

function answer(status: number, headers: IncomingHttpHeaders, text: string): Answer {
  let json: unknown
  try {
    json = JSON.parse(text)
  } catch {
    json = undefined
  }
  return { status, headers, text, json }
}

/** A JSON-RPC request as text. */
export function rpc(method: string, params?: object, id: string | number = 1): string {
  return JSON.stringify({ jsonrpc: '2.0', id, method, ...(params ? { params } : {}) })
}
