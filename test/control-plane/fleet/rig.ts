import { generateKeyPairSync, randomBytes, randomUUID } from 'node:crypto'
import { mkdtempSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { importJWK, type JWK, SignJWT } from 'jose'
import pino from 'pino'
import { type Config, parseConfig } from '../../../services/control-plane/config/load.ts'
import { createSealer } from '../../../services/control-plane/credentials/sealer.ts'
import { createAccessEvents } from '../../../services/control-plane/events/access.ts'
import { createAuditLog } from '../../../services/control-plane/events/audit.ts'
import { createEventStore } from '../../../services/control-plane/events/store.ts'
import { createAssertions } from '../../../services/control-plane/fleet/assertions.ts'
import { createAttestation } from '../../../services/control-plane/fleet/attestation/attest.ts'
import { createControllers } from '../../../services/control-plane/fleet/controllers.ts'
import { createCredentialChanges } from '../../../services/control-plane/fleet/credential-changes.ts'
import { createGateways } from '../../../services/control-plane/fleet/gateways.ts'
import { createFleetKeys } from '../../../services/control-plane/fleet/keys.ts'
import { createKillSwitch } from '../../../services/control-plane/fleet/kill-switch.ts'
import { buildMachineApp } from '../../../services/control-plane/fleet/machine-app.ts'
import { createRevocations } from '../../../services/control-plane/fleet/revocations.ts'
import { createSnapshotSource } from '../../../services/control-plane/fleet/snapshots.ts'
import { createStreams } from '../../../services/control-plane/fleet/stream.ts'
import { createMachineTokens } from '../../../services/control-plane/fleet/tokens.ts'
import { createToolPins } from '../../../services/control-plane/fleet/tool-pins.ts'
import { connectionEvents } from '../../../services/control-plane/fleet-plane.ts'
import { openDatabase } from '../../../services/control-plane/store/database.ts'
import { type Clock, systemClock } from '../../../shared/clock.ts'
import { createHttpClient, type HttpClient } from '../../../shared/http-client.ts'
import { createRateLimit } from '../../../shared/rate-limit.ts'
import type { CredentialAnswer, CredentialRequest } from '../../../shared/wire/credential.ts'

export const issuerKeys = { keys: [{ kty: 'EC', crv: 'P-256', x: 'x', y: 'y', kid: 'one', alg: 'ES256' }] }

export function yaml(servers = '', policies = ''): string {
  return `tenant: {id: acme}
gateway: {url: https://gw.example/mcp}
identityProviders: [{id: local, type: directory}]
clientWorkloads: [{id: agents, identities: [{type: oauthRedirectUri, value: "*"}]}]
trustProviders: [{id: people, identityProvider: local}]
serverWorkloads:
  - {id: docs, url: https://docs.example/mcp}
${servers}
credentialProviders: [{id: open, type: none}]
accessPolicies:
  - {id: in, client: agents, server: gateway, trustProviders: [people]}
  - {id: docs, server: docs, trustProviders: [people], credentialProvider: open}
${policies}
`
}

export const configOf = (source = yaml()): Config => parseConfig(source, 'test.yaml', { env: {} })

/** A clock that a test moves; `sleep` is not used here. */
export function movable(start = Date.now()): Clock & { advance(ms: number): void } {
  let now = start
  const advance = (ms: number): void => {
    now += ms
  }
  return { now: () => now, sleep: systemClock.sleep, advance }
}

/** Log lines as they would be written. */
export function memoryLog() {
  const lines: string[] = []
  const log = pino({ level: 'trace' }, { write: (line: string) => void lines.push(line) })
  return { log, lines }
}

export interface FleetOptions {
  readonly config?: Config
  readonly path?: string
  readonly masterKey?: Buffer
  readonly clock?: Clock
  readonly heartbeatMs?: number
  readonly credential?: (request: CredentialRequest) => Promise<CredentialAnswer>
}

/** The whole machine side on a unix socket. */
export async function startFleet(options: FleetOptions = {}) {
  const folder = mkdtempSync(join(tmpdir(), 'fleet-'))
  const path = options.path ?? join(folder, 'control-plane.db')
  const masterKey = options.masterKey ?? randomBytes(32)
  const clock = options.clock ?? systemClock
  const { log, lines } = memoryLog()
  const db = openDatabase(path)
  const sealer = createSealer(masterKey)
  const keys = await createFleetKeys(db, sealer, clock)
  const changes = createCredentialChanges()
  const killSwitch = createKillSwitch(db, clock)
  const audit = createAuditLog(db, clock)
  const controllers = createControllers({
    db,
    clock,
    codeSecret: Buffer.alloc(32, 7),
    onConnection: connectionEvents(audit, log),
  })
  const tokens = createMachineTokens(db, clock)
  const attestation = createAttestation({
    db,
    clock,
    secret: Buffer.alloc(32, 9),
    controllers,
    revoke: (controllerId) => tokens.revoke('controller', controllerId),
    audit,
    log,
  })
  const declare = (config: Config): void => {
    controllers.declare(config)
    attestation.apply(config)()
  }
  const accessEvents = createAccessEvents(db, clock, () => ({ maxAgeMs: 86_400_000, maxRows: 1_000 }))
  const toolPins = createToolPins(db, clock)
  const snapshots = createSnapshotSource({
    db,
    clock,
    keys,
    revocations: createRevocations(db, clock),
    killSwitch,
    toolPins,
    log,
  })
  await snapshots.apply(options.config ?? configOf(), issuerKeys)
  declare(options.config ?? configOf())
  const streams = createStreams({ snapshots, changes, clock, heartbeatMs: options.heartbeatMs })
  const events = createEventStore({ db, clock, limits: () => ({ maxAgeMs: 86_400_000, maxRows: 1000 }) })
  const app = buildMachineApp({
    controllers,
    gateways: createGateways(db, clock),
    tokens,
    assertions: createAssertions(db, clock, controllers),
    attestation,
    keys,
    snapshots,
    streams,
    events,
    toolPins,
    issueCredential: options.credential ?? (async () => ({ kind: 'none' })),
    guesses: { address: createRateLimit(clock, 10, 60_000), everyone: createRateLimit(clock, 50, 30_000) },
    attestations: {
      address: createRateLimit(clock, 60, 2_000),
      everyone: createRateLimit(clock, 300, 200),
    },
    clock,
    log,
  })
  const socket = join(folder, 'machine.sock')
  await app.listen({ path: socket })
  const http = client(`unix:${socket}`)
  return {
    path,
    masterKey,
    db,
    sealer,
    keys,
    controllers,
    changes,
    snapshots,
    killSwitch,
    toolPins,
    audit,
    accessEvents,
    shared: () => undefined,
    events,
    http,
    lines,
    socket,
    declare,
    tokens,
    close: async () => {
      streams.close()
      await attestation.close()
      await http.close()
      await app.close()
      db.close()
    },
  }
}

export type Fleet = Awaited<ReturnType<typeof startFleet>>

export function client(base: string): HttpClient {
  return createHttpClient({
    base,
    unreachable: 'control_plane.unreachable',
    rejected: 'control_plane.rejected',
  })
}

/** A controller's Ed25519 key pair as JWKs. */
export function controllerKeys(): { publicJwk: JWK; privateJwk: JWK } {
  const { publicKey, privateKey } = generateKeyPairSync('ed25519')
  return {
    publicJwk: publicKey.export({ format: 'jwk' }) as JWK,
    privateJwk: privateKey.export({ format: 'jwk' }) as JWK,
  }
}

export async function assertion(
  privateJwk: JWK,
  controllerId: string,
  change: { aud?: string; iat?: number; exp?: number; jti?: string; iss?: string } = {},
): Promise<string> {
  const now = Math.floor(Date.now() / 1000)
  const jwt = new SignJWT({
    iss: change.iss ?? controllerId,
    sub: controllerId,
    aud: change.aud ?? 'aembit-control-plane',
    iat: change.iat ?? now,
    exp: change.exp ?? now + 60,
    jti: change.jti ?? randomUUID(),
  })
  return jwt.setProtectedHeader({ alg: 'EdDSA' }).sign(await importJWK(privateJwk, 'EdDSA'))
}

/** Parsed answer of any status, so that refusals can be looked at. */
export async function post(http: HttpClient, path: string, body: unknown, token?: string) {
  const headers: Record<string, string> = token === undefined ? {} : { authorization: `Bearer ${token}` }
  try {
    const answer = await http.send({ method: 'POST', path, body, headers })
    const text = answer.body.toString('utf8')
    return { status: answer.status, body: text === '' ? undefined : JSON.parse(text) }
  } catch (error) {
    const { status, problem } = error as { status?: number; problem?: { code: string } }
    if (status === undefined) throw error
    return { status, body: problem }
  }
}

/** A registered controller and an enrolled gateway. */
export async function enrol(fleet: Fleet) {
  const keyPair = controllerKeys()
  const { id } = fleet.controllers.create('host one')
  const { code } = fleet.controllers.deviceCode(id)!
  const host = { version: '1.0.0', hostname: 'host' }
  const registered = await post(fleet.http, '/controller/v1/registrations', {
    deviceCode: code,
    publicJwk: keyPair.publicJwk,
    ...host,
  })
  const token = await post(fleet.http, '/controller/v1/token', {
    controllerId: id,
    assertion: await assertion(keyPair.privateJwk, id),
  })
  const ask = { gatewayUrl: 'https://gw.example/mcp', ...host }
  const gateway = await post(fleet.http, '/controller/v1/gateway-enrolments', ask, token.body.accessToken)
  return {
    ...keyPair,
    id,
    code,
    registered,
    controllerToken: token.body.accessToken as string,
    gateway: gateway.body,
    ask,
  }
}
