import { createHash, randomUUID } from 'node:crypto'
import { chmodSync, rmSync } from 'node:fs'
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import {
  CompactSign,
  type CryptoKey,
  decodeProtectedHeader,
  exportJWK,
  generateKeyPair,
  importJWK,
  type JWK,
  jwtVerify,
} from 'jose'
import {
  type CredentialAnswer,
  type CredentialRequest,
  credentialRequestSchema,
} from '../../shared/wire/credential.ts'
import {
  controllerRegistrationRequestSchema,
  gatewayEnrolRequestSchema,
} from '../../shared/wire/enrolment.ts'
import { eventBatchSchema, type WorkloadEvent } from '../../shared/wire/event.ts'
import type { Snapshot } from '../../shared/wire/snapshot.ts'

class Refusal extends Error {
  readonly status: number
  readonly code: string
  constructor(status: number, code: string) {
    super(code)
    this.status = status
    this.code = code
  }
}

interface Signer {
  readonly kid: string
  readonly privateKey: CryptoKey
  readonly publicJwk: JWK
}

export async function makeSigner(kid: string): Promise<Signer> {
  const { privateKey, publicKey } = await generateKeyPair('ES256', { extractable: true })
  return { kid, privateKey, publicJwk: { ...(await exportJWK(publicKey)), kid, alg: 'ES256', use: 'sig' } }
}

export const sign = (signer: Signer, payload: unknown): Promise<string> =>
  new CompactSign(new TextEncoder().encode(JSON.stringify(payload)))
    .setProtectedHeader({ alg: 'ES256', kid: signer.kid })
    .sign(signer.privateKey)

export function sampleSnapshot(version: number, more: Partial<Snapshot> = {}): Snapshot {
  const origin = 'https://localhost:8443'
  return {
    format: 1,
    tenantId: 'acme',
    version,
    issuedAt: '2026-11-23T10:00:00.000Z',
    gateway: {
      resource: `${origin}/mcp`,
      audiences: [`${origin}/mcp`],
      authorizationServers: [origin],
      scopes: ['mcp'],
    },
    resourceSetId: 'ffffffff-ffff-ffff-ffff-ffffffffffff',
    issuers: [],
    clientWorkloads: [],
    trustProviders: [],
    servers: [],
    policies: [],
    revocations: [],
    ...more,
  }
}

/** The machine API of a control plane on a unix socket: real HTTP, real signatures, behaviour a test can change. */
export class FakeControlPlane {
  readonly socketPath: string
  readonly url: string
  tenantId = 'acme'
  now: () => number = Date.now
  /** Codes that are still good. */
  readonly deviceCodes = new Set<string>(['123456'])
  readonly controllers = new Map<string, JWK>()
  readonly #controllerTokens = new Set<string>()
  /** The ids that enrolments named. */
  readonly gatewayIds: (string | undefined)[] = []
  readonly gatewayTokens = new Set<string>()
  controllerTokenLifeMs = 15 * 60_000
  gatewayTokenLifeMs = 15 * 60_000
  signers: Signer[] = []
  /** What GET /gateway/v1/snapshot answers. */
  jws = ''
  etag = ''
  version = 0
  /** Each request as `METHOD /path`, in order. */
  readonly requests: string[] = []
  /** Paths that answer 503. */
  readonly broken = new Set<string>()
  notModified = 0
  readonly healthReports: unknown[] = []
  readonly credentialRequests: CredentialRequest[] = []
  credential: (request: CredentialRequest) => Promise<CredentialAnswer> | CredentialAnswer = () => ({
    kind: 'none',
  })
  keys = { keys: [{ kid: 'k1', key: Buffer.alloc(32, 7).toString('base64url') }] }
  /** Events in order of arrival, each id once. */
  readonly events: WorkloadEvent[] = []
  readonly batches: WorkloadEvent[][] = []
  duplicates = 0
  /** Runs before each answer, to hold it. */
  before: (path: string) => Promise<void> = async () => {}
  refuseEvent: (event: WorkloadEvent) => boolean = () => false
  readonly #streams = new Set<ServerResponse>()
  #server: Server | undefined

  constructor(dir: string) {
    this.socketPath = `${dir}/machine.sock`
    this.url = `unix:${this.socketPath}`
  }

  static async start(dir: string): Promise<FakeControlPlane> {
    const fake = new FakeControlPlane(dir)
    fake.signers = [await makeSigner('s1')]
    await fake.publish(sampleSnapshot(1))
    await fake.up()
    return fake
  }

  async up(): Promise<void> {
    rmSync(this.socketPath, { force: true })
    const server = createServer((request, response) => void this.#handle(request, response))
    this.#server = server
    await new Promise<void>((resolve) => server.listen(this.socketPath, resolve))
    chmodSync(this.socketPath, 0o600)
  }

  async down(): Promise<void> {
    const server = this.#server
    this.#server = undefined
    for (const stream of this.#streams) stream.destroy()
    server?.closeAllConnections()
    await new Promise<void>((resolve) => (server ? server.close(() => resolve()) : resolve()))
  }

  get streams(): number {
    return this.#streams.size
  }

  count(request: string): number {
    return this.requests.filter((seen) => seen === request).length
  }

  async publish(snapshot: unknown, signer = this.signers[0]): Promise<void> {
    if (!signer) throw new Error('no signer')
    const version = (snapshot as { version: number }).version
    this.serve(await sign(signer, snapshot), version)
  }

  /** Serves these bytes as version `version` and tells the streams. */
  serve(jws: string, version: number): void {
    this.jws = jws
    this.version = version
    this.etag = `"${version}-${createHash('sha256').update(jws).digest('hex').slice(0, 16)}"`
    this.push('snapshot', { version, etag: this.etag })
  }

  heartbeat(version = this.version): void {
    this.push('heartbeat', { version, time: new Date(this.now()).toISOString() })
  }

  push(event: string, data: unknown): void {
    for (const stream of this.#streams) stream.write(`event: ${event}\ndata: ${JSON.stringify(data)}\n\n`)
  }

  dropStreams(): void {
    for (const stream of this.#streams) stream.destroy()
  }

  async #handle(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const path = request.url ?? ''
    this.requests.push(`${request.method} ${path}`)
    let text = ''
    for await (const chunk of request) text += chunk
    await this.before(path)
    try {
      if (this.broken.has(path)) throw new Refusal(503, 'internal')
      await this.#route(request, response, path, text === '' ? undefined : JSON.parse(text))
    } catch (error) {
      const refusal = error instanceof Refusal ? error : new Refusal(500, 'internal')
      if (!(error instanceof Refusal)) console.error(error)
      response.writeHead(refusal.status, { 'content-type': 'application/problem+json' })
      const { status, code } = refusal
      response.end(JSON.stringify({ type: 'about:blank', title: code, status, code }))
    }
  }

  async #route(
    request: IncomingMessage,
    response: ServerResponse,
    path: string,
    body: unknown,
  ): Promise<void> {
    const bearer = (request.headers.authorization ?? '').replace(/^Bearer /, '')
    const json = (value: unknown, status = 200): void => {
      response.writeHead(status, { 'content-type': 'application/json' }).end(JSON.stringify(value))
    }
    if (path.startsWith('/gateway/') && !this.gatewayTokens.has(bearer)) {
      throw new Refusal(401, 'token.expired')
    }
    switch (`${request.method} ${path}`) {
      case 'POST /controller/v1/registrations': {
        const asked = controllerRegistrationRequestSchema.parse(body)
        if (!this.deviceCodes.delete(asked.deviceCode)) throw new Refusal(401, 'device_code.refused')
        const controllerId = randomUUID()
        this.controllers.set(controllerId, asked.publicJwk as JWK)
        return json({ controllerId, tenantId: this.tenantId })
      }
      case 'POST /controller/v1/token': {
        const { controllerId, assertion } = body as { controllerId: string; assertion: string }
        const jwk = this.controllers.get(controllerId)
        if (!jwk) throw new Refusal(401, 'token.issuer_unknown')
        if (decodeProtectedHeader(assertion).alg !== 'EdDSA') throw new Refusal(401, 'token.malformed')
        await jwtVerify(assertion, await importJWK(jwk, 'EdDSA'), {
          audience: 'aembit-control-plane',
          issuer: controllerId,
          subject: controllerId,
          maxTokenAge: 60,
          currentDate: new Date(this.now()),
          requiredClaims: ['jti', 'exp'],
        })
        const accessToken = `controller-${randomUUID()}`
        this.#controllerTokens.add(accessToken)
        return json({
          accessToken,
          expiresAt: new Date(this.now() + this.controllerTokenLifeMs).toISOString(),
        })
      }
      case 'POST /controller/v1/health': {
        if (!this.#controllerTokens.has(bearer)) throw new Refusal(401, 'token.expired')
        this.healthReports.push(body)
        response.writeHead(204).end()
        return
      }
      case 'POST /controller/v1/gateway-enrolments': {
        if (!this.#controllerTokens.has(bearer)) throw new Refusal(401, 'token.expired')
        const { gatewayId } = gatewayEnrolRequestSchema.parse(body)
        this.gatewayIds.push(gatewayId)
        const accessToken = `gateway-${randomUUID()}`
        this.gatewayTokens.add(accessToken)
        return json({
          gatewayId: gatewayId ?? randomUUID(),
          tenantId: this.tenantId,
          accessToken,
          expiresAt: new Date(this.now() + this.gatewayTokenLifeMs).toISOString(),
          snapshotJwks: { keys: this.signers.map(({ publicJwk }) => publicJwk) },
          time: new Date(this.now()).toISOString(),
        })
      }
      case 'GET /gateway/v1/snapshot':
        if (request.headers['if-none-match'] === this.etag) {
          this.notModified++
          response.writeHead(304, { etag: this.etag }).end()
        } else {
          response.writeHead(200, { 'content-type': 'application/jose', etag: this.etag }).end(this.jws)
        }
        return
      case 'GET /gateway/v1/stream':
        response.writeHead(200, { 'content-type': 'text/event-stream' })
        this.#streams.add(response)
        response.on('close', () => this.#streams.delete(response))
        response.write(
          `event: snapshot\ndata: ${JSON.stringify({ version: this.version, etag: this.etag })}\n\n`,
        )
        return
      case 'GET /gateway/v1/keys':
        return json(this.keys)
      case 'POST /gateway/v1/credentials': {
        const asked = credentialRequestSchema.parse(body)
        this.credentialRequests.push(asked)
        return json(await this.credential(asked))
      }
      case 'POST /gateway/v1/events': {
        const { events } = eventBatchSchema.parse(body)
        if (events.some(this.refuseEvent)) throw new Refusal(400, 'request.invalid')
        const fresh = events.filter(
          ({ meta }) => !this.events.some((known) => known.meta.eventId === meta.eventId),
        )
        this.events.push(...fresh)
        this.batches.push(events)
        this.duplicates += events.length - fresh.length
        return json({ accepted: fresh.length, duplicates: events.length - fresh.length })
      }
      default:
        throw new Refusal(404, 'http.not_found')
    }
  }

  /** All controller tokens stop working, as after a restart of the control plane. */
  forgetControllerTokens(): void {
    this.#controllerTokens.clear()
  }
}
