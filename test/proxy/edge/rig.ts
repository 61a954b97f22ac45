import { createHash, randomUUID } from 'node:crypto'
import { once } from 'node:events'
import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import {
  createServer,
  request as httpRequest,
  type IncomingHttpHeaders,
  type Server,
  type ServerResponse,
} from 'node:http'
import { type ClientHttp2Session, connect as http2Connect } from 'node:http2'
import { connect, type Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { exportJWK, generateKeyPair, SignJWT } from 'jose'
import type { Fetch } from '../../../services/proxy/auth/issuers.ts'
import { Edge } from '../../../services/proxy/edge.ts'
import type { CoreDeps, McpCall, McpCore, Session } from '../../../services/proxy/mcp/types.ts'
import type { Clock } from '../../../shared/clock.ts'
import type { Fault } from '../../../shared/faults.ts'
import type { ConfigOf } from '../../../shared/ipc/contract.ts'
import { createLogger } from '../../../shared/log.ts'
import { encodeProxyHeader } from '../../../shared/proxy-protocol.ts'
import type { CredentialAnswer } from '../../../shared/wire/credential.ts'
import type { WorkloadEvent } from '../../../shared/wire/event.ts'
import type { Snapshot } from '../../../shared/wire/snapshot.ts'

export const origin = 'https://gw.test:8443'
export const resource = `${origin}/mcp`

/** A clock that tests move; sleeps are real, so that back-off still waits. */
export class TestClock implements Clock {
  offset = 0
  now(): number {
    return Date.now() + this.offset
  }
  sleep(ms: number, signal?: AbortSignal): Promise<void> {
    return new Promise((resolve, reject) => {
      const timer = setTimeout(resolve, Math.min(ms, 50))
      signal?.addEventListener('abort', () => {
        clearTimeout(timer)
        reject(signal.reason)
      })
    })
  }
}

export const signingKey = await generateKeyPair('RS256', { extractable: true })
export const strangerKey = await generateKeyPair('RS256', { extractable: true })
const publicJwk = { ...(await exportJWK(signingKey.publicKey)), kid: 'k1', alg: 'RS256', use: 'sig' }

export function snapshot(version: number, change: Partial<Snapshot> = {}): Snapshot {
  return {
    format: 1,
    tenantId: 't1',
    version,
    issuedAt: new Date().toISOString(),
    gateway: { resource, audiences: [resource], authorizationServers: [origin], scopes: ['mcp'] },
    resourceSetId: 'ffffffff-ffff-ffff-ffff-ffffffffffff',
    issuers: [
      {
        id: 'as',
        issuer: origin,
        kind: 'authorization-server',
        jwks: { keys: [publicJwk] },
        algorithms: ['RS256'],
      },
    ],
    clientWorkloads: [{ id: 'cw', name: 'agents', identities: [{ type: 'oauthRedirectUri', value: '*' }] }],
    trustProviders: [],
    servers: [
      {
        id: 'crm',
        name: 'CRM',
        prefix: 'crm',
        url: 'https://crm.test/mcp',
        credential: 'required',
        allowedNetworks: [],
      },
    ],
    policies: [
      {
        id: 'p1',
        name: 'everyone in',
        version: 1,
        active: true,
        kind: 'client-to-gateway',
        clientWorkload: 'cw',
        trustProviders: [],
      },
    ],
    revocations: [],
    ...change,
  }
}

/** An access token as the authorization server issues it; `claims` and `head` change it. */
export async function token(
  claims: Record<string, unknown> = {},
  head: { alg?: string; kid?: string; typ?: string } = {},
  key: typeof signingKey.privateKey | Uint8Array = signingKey.privateKey,
): Promise<string> {
  const now = Math.floor(Date.now() / 1000)
  const payload = {
    iss: origin,
    aud: resource,
    sub: 'ann@corp.test',
    email: 'ann@corp.test',
    client_id: 'agent-1',
    client_workload: 'cw',
    idp: 'local',
    scope: 'mcp',
    iat: now,
    exp: now + 900,
    jti: randomUUID(),
    ...claims,
  }
  return new SignJWT(payload)
    .setProtectedHeader({ alg: 'RS256', kid: 'k1', typ: 'at+jwt', ...head })
    .sign(key)
}

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

export type CoreBehaviour = (call: McpCall, deps: CoreDeps) => Promise<void> | void

/** Answers `initialize` with a session, everything else with an empty result, and remembers what it was asked. */
export class FakeCore implements McpCore {
  readonly calls: McpCall[] = []
  readonly ended: Session[] = []
  behaviour: CoreBehaviour | undefined
  readonly deps: CoreDeps
  constructor(deps: CoreDeps) {
    this.deps = deps
  }
  async handle(call: McpCall): Promise<void> {
    this.calls.push(call)
    if (this.behaviour) return this.behaviour(call, this.deps)
    const { message, reply } = call
    if (!('method' in message) || !('id' in message)) return reply.accepted()
    let headers: Record<string, string> | undefined
    if (message.method === 'initialize') {
      const params = message.params ?? {}
      const capabilities = (params.capabilities ?? {}) as Session['clientCapabilities']
      const session = this.deps.sessions.seal(call.principal, '2025-11-25', capabilities, { name: 'test' })
      headers = { 'mcp-session-id': session.id }
    }
    reply.json(
      200,
      JSON.stringify({ jsonrpc: '2.0', id: message.id, result: { sub: call.principal.subject } }),
      headers,
    )
  }
  async endSession(session: Session): Promise<void> {
    this.ended.push(session)
  }
  async drain(): Promise<number> {
    return 0
  }
  async close(): Promise<void> {}
  stats(): Record<string, number> {
    return {}
  }
}

/** sync.sock as a test holds it: keys, credentials, and a stream of invalidations. */
export class FakeSync {
  readonly server: Server
  readonly streams = new Set<ServerResponse>()
  readonly asked: { rejected?: string; serverId: string; subject: string }[] = []
  keysAsked = 0
  keys: { kid: string; key: string }[] | null = [{ kid: 'a', key: Buffer.alloc(32, 7).toString('base64url') }]
  answer: () => Promise<CredentialAnswer> | CredentialAnswer = () => ({ kind: 'none' })

  constructor() {
    this.server = createServer((req, res) => {
      if (req.url === '/v1/keys') {
        this.keysAsked++
        if (!this.keys) return res.writeHead(503).end()
        return res.setHeader('content-type', 'application/json').end(JSON.stringify({ keys: this.keys }))
      }
      if (req.url === '/v1/invalidations') {
        res.writeHead(200, { 'content-type': 'text/event-stream' })
        res.write(': open\n\n')
        this.streams.add(res)
        this.server.emit('stream')
        return res.on('close', () => this.streams.delete(res))
      }
      let body = ''
      req.on('data', (chunk) => {
        body += chunk
      })
      req.on('end', async () => {
        this.asked.push(JSON.parse(body))
        res.setHeader('content-type', 'application/json').end(JSON.stringify(await this.answer()))
      })
    })
  }

  invalidate(subject: string, serverId: string): void {
    const data = JSON.stringify({ issuer: origin, subject, serverId })
    for (const stream of this.streams) stream.write(`event: credential\ndata: ${data}\n\n`)
  }
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
    syncSocketPath,
    controlPlaneSocketPath: null,
    spoolDir: join(dir, 'spool'),
    sessionIdleTtlSecs: 3600,
    timeouts: {},
    trustedIssuerDomains: [],
    allowedOrigins: ['https://app.test'],
    snapshotMaxAgeMs: 60_000,
    limits: { bodyBytes: 65_536, bodyTimeoutMs: 5_000, depth: 64, concurrent: 64, responseBytes: 1 << 20 },
    ...options.config,
  }
  const checks = new Map<string, { status: string; fault?: Fault }>()
  let core!: FakeCore
  const edge = new Edge(
    {
      config,
      log: createLogger('proxy', config.logLevel),
      check: (name, status, fault) => checks.set(name, { status, ...(fault ? { fault } : {}) }),
      stats: () => {},
      send: () => {},
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

  /** Every event that reached a sealed segment, oldest first. */
  const events = async (): Promise<WorkloadEvent[]> => {
    const names = (await readdir(config.spoolDir)).filter((name) => name.endsWith('.ready')).sort()
    const texts = await Promise.all(names.map((name) => readFile(join(config.spoolDir, name), 'utf8')))
    return texts.flatMap((text) => text.trimEnd().split('\n')).map((line) => JSON.parse(line))
  }

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
    edge,
    core,
    valid,
    give,
    dial,
    http1,
    http2,
    session2,
    events,
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
