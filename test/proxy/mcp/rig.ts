import { type ChildProcess, spawn } from 'node:child_process'
import { randomUUID } from 'node:crypto'
import http from 'node:http'
import { createRequire } from 'node:module'
import type { AddressInfo } from 'node:net'
import { createMcpCore } from '../../../services/proxy/mcp/core.ts'
import { faultError } from '../../../services/proxy/mcp/protocol/jsonrpc.ts'
import type {
  EventDetails,
  Follower,
  JsonObject,
  McpCore,
  ParkedLimits,
  Session,
  SseWriter,
} from '../../../services/proxy/mcp/protocol/types.ts'
import { systemClock } from '../../../shared/clock.ts'
import { Fault } from '../../../shared/faults.ts'
import type { ConfigOf } from '../../../shared/ipc/contract.ts'
import { createLogger } from '../../../shared/log.ts'
import { indexSnapshot, type PolicyIndex, type Principal } from '../../../shared/policy.ts'
import type { CredentialAnswer } from '../../../shared/wire/credential.ts'
import { type ServerWorkload, type Snapshot, snapshotSchema } from '../../../shared/wire/snapshot.ts'
import { freePort } from '../../rig/free-port.ts'

/** The MCP core behind the thinnest HTTP there is: no authentication, era and session by header. */
export interface Rig {
  url: URL
  core: McpCore
  events: (EventDetails & { type: 'request' | 'response' })[]
  credentials: {
    answer(
      server: ServerWorkload,
      rejected: string | undefined,
      principal: Principal,
      scope: string | undefined,
    ): CredentialAnswer | Promise<CredentialAnswer>
  }
  /** Ends what lasts, as a token that expired does. */
  expire(fault: Fault): void
  /** `change` may add to the snapshot what its policies name. */
  setServers(
    servers: Partial<ServerWorkload>[],
    denied?: string[],
    change?: (snapshot: Snapshot) => Snapshot,
  ): void
  close(): Promise<void>
}

export const ann: Principal = {
  issuer: 'https://gw.test',
  subject: 'ann@acme.test',
  clientId: 'agent',
  clientWorkload: 'agents',
  identityProvider: 'local',
  claims: {},
}

const others = new Map<string, Principal>()

/** Ann, or who the header `x-subject` names. */
function principalOf(subject: string | string[] | undefined): Principal {
  if (typeof subject !== 'string') return ann
  const known = others.get(subject) ?? { ...ann, subject }
  others.set(subject, known)
  return known
}

export function proxyConfig(timeouts: Record<string, number> = {}): ConfigOf['proxy'] {
  return {
    logLevel: 'off',
    version: '0.0.0',
    worker: 0,
    origin: 'https://gw.test',
    mcpPath: '/mcp',
    publicPort: 443,
    socketPath: '',
    successionPath: null,
    peer: { id: '0.1', socketPath: '' },
    syncSocketPath: '',
    stdioSocketPath: null,
    controlPlaneSocketPath: null,
    spoolDir: '',
    sessionIdleTtlSecs: 3600,
    sessionStore: null,
    timeouts: {
      initialize: 3_000,
      tools_list: 2_000,
      resources_list: 2_000,
      prompts_list: 2_000,
      tools_call: 5_000,
      ...timeouts,
    },
    trustedIssuerDomains: [],
    allowedOrigins: [],
    snapshotMaxAgeMs: 3_600_000,
    limits: { bodyBytes: 1 << 20, bodyTimeoutMs: 5_000, depth: 64, concurrent: 100, responseBytes: 1 << 20 },
  }
}

export async function startRig(
  options: {
    timeouts?: Record<string, number>
    now?: () => number
    stdioSocketPath?: string
    parkedLimits?: Partial<ParkedLimits>
  } = {},
): Promise<Rig> {
  const sessions = new Map<string, Session>()
  const events: Rig['events'] = []
  const credentials: Rig['credentials'] = { answer: () => ({ kind: 'none' }) }
  let index: PolicyIndex | undefined
  const followers = new Set<Follower>()
  const core = createMcpCore({
    config: { ...proxyConfig(options.timeouts), stdioSocketPath: options.stdioSocketPath ?? null },
    credentials: {
      get: async (principal, server, rejected, scope) =>
        credentials.answer(server, rejected, principal, scope),
    },
    recorder: {
      request: (_call, details) => events.push({ type: 'request', ...details }),
      response: (_call, details) => events.push({ type: 'response', ...details }),
    },
    sessions: {
      seal: (_principal, protocolVersion, clientCapabilities, clientInfo) => {
        const session: Session = {
          id: randomUUID(),
          protocolVersion,
          clientCapabilities,
          ...(clientInfo ? { clientInfo } : {}),
          issuedAt: Date.now(),
          principalKey: 'ann',
        }
        sessions.set(session.id, session)
        return session
      },
    },
    log: createLogger('test', 'off'),
    // Waits between attempts as short as they can be.
    random: () => 0,
    standing: {
      follow: (_call, follower) => {
        followers.add(follower)
        return () => followers.delete(follower)
      },
    },
    ...(options.parkedLimits ? { parkedLimits: options.parkedLimits } : {}),
    clock: { ...systemClock, ...(options.now ? { now: options.now } : {}) },
  })

  const server = http.createServer(async (request, response) => {
    if (request.method !== 'POST') return response.writeHead(405).end()
    const chunks: Buffer[] = []
    for await (const chunk of request) chunks.push(chunk)
    const message = JSON.parse(Buffer.concat(chunks).toString())
    const meta: JsonObject = message.params?._meta ?? {}
    const modern = meta['io.modelcontextprotocol/protocolVersion'] !== undefined
    const gone = new AbortController()
    response.on('close', () => gone.abort())
    const session = sessions.get(String(request.headers['mcp-session-id'])) ?? null
    try {
      await core.handle({
        connectionId: randomUUID(),
        principal: principalOf(request.headers['x-subject']),
        index: index!,
        era: modern ? 'modern' : 'legacy',
        protocolVersion: modern ? '2026-07-28' : (session?.protocolVersion ?? '2025-03-26'),
        session,
        message,
        headers: request.headers,
        signal: gone.signal,
        client: { address: '127.0.0.1', port: 1 },
        circumstances: { now: options.now?.() ?? Date.now(), clientIp: '127.0.0.1' },
        reply: {
          json: (status, body, headers) =>
            response.writeHead(status, { 'content-type': 'application/json', ...headers }).end(body),
          accepted: () => response.writeHead(202).end(),
          stream: (): SseWriter => {
            response.writeHead(200, { 'content-type': 'text/event-stream' })
            response.flushHeaders()
            return {
              send: (text) => {
                if (response.write(`data: ${text}\n\n`) || response.destroyed) return
                return new Promise((resolve) => {
                  const done = (): void => {
                    response.off('drain', done).off('close', done)
                    resolve()
                  }
                  response.on('drain', done).on('close', done)
                })
              },
              comment: (text) => void response.write(`: ${text}\n\n`),
              end: () => response.end(),
            }
          },
        },
      })
    } catch (error) {
      // As the edge renders a refusal.
      const fault = Fault.from(error)
      const status = fault.code === 'rpc.method' && modern ? 404 : fault.spec.status
      const answer = faultError(fault, modern ? 'modern' : 'legacy')
      const body = { jsonrpc: '2.0', id: message.id ?? null, error: answer }
      response.writeHead(status, { 'content-type': 'application/json' }).end(JSON.stringify(body))
    }
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))

  return {
    url: new URL(`http://127.0.0.1:${(server.address() as AddressInfo).port}/mcp`),
    core,
    events,
    credentials,
    expire(fault) {
      for (const follower of [...followers]) follower.ended(fault)
    },
    setServers(servers, denied = [], change = (snapshot) => snapshot) {
      const full = servers.map((given, at) => ({
        id: given.prefix ?? `s${at}`,
        name: `Server ${given.prefix ?? at}`,
        prefix: `s${at}`,
        url: 'http://127.0.0.1:1/mcp',
        credential: 'none' as const,
        allowedNetworks: ['127.0.0.0/8'],
        ...given,
      }))
      index = indexSnapshot(
        change(
          snapshotSchema.parse({
            format: 1,
            tenantId: 'acme',
            version: 1,
            issuedAt: '2026-11-23T10:00:00.000Z',
            gateway: {
              resource: 'https://gw.test/mcp',
              audiences: ['x'],
              authorizationServers: ['x'],
              scopes: ['mcp'],
            },
            resourceSetId: 'ffffffff-ffff-ffff-ffff-ffffffffffff',
            issuers: [],
            clientWorkloads: [],
            trustProviders: [],
            servers: full,
            policies: full
              .filter(({ id }) => !denied.includes(id))
              .map(({ id }) => ({
                id: `p-${id}`,
                name: `p-${id}`,
                version: 1,
                active: true,
                kind: 'gateway-to-server',
                serverWorkload: id,
                trustProviders: [],
              })),
            revocations: [],
          }),
        ),
      )
      for (const follower of [...followers])
        follower.changed(index, { now: options.now?.() ?? Date.now(), clientIp: '127.0.0.1' })
    },
    async close() {
      server.closeAllConnections()
      await new Promise((resolve) => server.close(resolve))
      await core.close()
    },
  }
}

export interface Listener {
  url: string
  port: number
  close(): Promise<void>
}

/** A hand-made upstream: `handler` gets each request with its whole body. */
export async function startUpstream(
  handler: (request: http.IncomingMessage, body: string, response: http.ServerResponse) => void,
  port = 0,
): Promise<Listener> {
  const server = http.createServer(async (request, response) => {
    const chunks: Buffer[] = []
    for await (const chunk of request) chunks.push(chunk)
    handler(request, Buffer.concat(chunks).toString(), response)
  })
  await new Promise<void>((resolve) => server.listen(port, '127.0.0.1', resolve))
  const bound = (server.address() as AddressInfo).port
  return {
    url: `http://127.0.0.1:${bound}/mcp`,
    port: bound,
    close: async () => {
      server.closeAllConnections()
      await new Promise((resolve) => server.close(resolve))
    },
  }
}

/** @modelcontextprotocol/server-everything over streamable HTTP or HTTP+SSE, as its package starts it. */
export async function startEverything(transport: 'streamableHttp' | 'sse' = 'streamableHttp'): Promise<{
  url: string
  child: ChildProcess
  close(): Promise<void>
}> {
  const entry = createRequire(import.meta.url).resolve(
    '@modelcontextprotocol/server-everything/dist/index.js',
  )
  const port = freePort()
  const child = spawn(process.execPath, [entry, transport], {
    env: { ...process.env, PORT: String(port) },
    stdio: ['ignore', 'ignore', 'pipe'],
  })
  await new Promise<void>((resolve, reject) => {
    child.stderr!.on('data', (chunk) => /(listening|running) on port/.test(String(chunk)) && resolve())
    child.on('exit', (code) => reject(new Error(`server-everything ended with ${code}`)))
  })
  return {
    url: `http://127.0.0.1:${port}/${transport === 'sse' ? 'sse' : 'mcp'}`,
    child,
    close: async () => {
      const ended = new Promise((resolve) => child.once('exit', resolve))
      child.kill('SIGKILL')
      await ended
    },
  }
}
