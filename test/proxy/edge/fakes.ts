import { randomUUID } from 'node:crypto'
import { createServer, type Server, type ServerResponse } from 'node:http'
import { exportJWK, generateKeyPair, SignJWT } from 'jose'
import type { CoreDeps, McpCall, McpCore, Session } from '../../../services/proxy/mcp/protocol/types.ts'
import type { Outcome } from '../../../services/proxy/measures.ts'
import type { Clock } from '../../../shared/clock.ts'
import { Fault } from '../../../shared/faults.ts'
import type { CredentialAnswer } from '../../../shared/wire/credential.ts'
import type { Snapshot } from '../../../shared/wire/snapshot.ts'

export const origin = 'https://gw.test:8443'
export const resource = `${origin}/mcp`

/** Stands where it was made, until a test moves it; sleeps are real, so that back-off still waits. */
export class TestClock implements Clock {
  readonly #start = Date.now()
  offset = 0
  now(): number {
    return this.#start + this.offset
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

export type CoreBehaviour = (call: McpCall, deps: CoreDeps) => Promise<void> | void

/** Answers `initialize` with a session, everything else with an empty result, and remembers what it was asked. */
export class FakeCore implements McpCore {
  readonly calls: McpCall[] = []
  readonly local = {
    resume: async () => {
      throw new Fault('question.expired')
    },
    answer: () => {},
    cancel: () => {},
    noticed: () => {},
    endSession: async () => {},
  }
  readonly ended: Session[] = []
  behaviour: CoreBehaviour | undefined
  readonly deps: CoreDeps
  constructor(deps: CoreDeps) {
    this.deps = deps
  }
  recheck(): void {}
  credentialChanged(): void {}
  async handle(call: McpCall): Promise<Outcome> {
    this.calls.push(call)
    await (this.behaviour ? this.behaviour(call, this.deps) : this.#answer(call))
    return 'success'
  }
  #answer(call: McpCall): void {
    const { message, reply } = call
    if (!('method' in message) || !('id' in message)) {
      reply.accepted()
      return
    }
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
