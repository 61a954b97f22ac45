import Fastify, { type FastifyError, type FastifyInstance, type FastifyRequest } from 'fastify'
import { z } from 'zod'
import type { Clock } from '../../../shared/clock.ts'
import { Fault, type FaultCode } from '../../../shared/faults.ts'
import type { Logger } from '../../../shared/log.ts'
import { problemContentType, problemStatus, toProblem } from '../../../shared/problem.ts'
import type { RateLimit } from '../../../shared/rate-limit.ts'
import { attestedTokenRequestSchema, challengeRequestSchema } from '../../../shared/wire/attestation.ts'
import {
  type CredentialAnswer,
  type CredentialRequest,
  credentialRequestSchema,
} from '../../../shared/wire/credential.ts'
import {
  controllerHealthReportSchema,
  controllerRegistrationRequestSchema,
  controllerTokenRequestSchema,
  type GatewayEnrolment,
  gatewayEnrolRequestSchema,
} from '../../../shared/wire/enrolment.ts'
import { eventBatchSchema, type WorkloadEvent } from '../../../shared/wire/event.ts'
import type { EventStore } from '../events/store.ts'
import type { Assertions } from './assertions.ts'
import type { Attestation } from './attestation/attest.ts'
import type { Controllers } from './controllers.ts'
import type { Gateways } from './gateways.ts'
import { instanceOwner, ownerParts } from './instances.ts'
import type { FleetKeys } from './keys.ts'
import type { SnapshotSource } from './snapshots.ts'
import type { Streams } from './stream.ts'
import type { MachineTokens } from './tokens.ts'
import type { ToolPins } from './tool-pins.ts'

export interface MachineAppDeps {
  readonly controllers: Controllers
  readonly gateways: Gateways
  readonly tokens: MachineTokens
  readonly assertions: Assertions
  readonly attestation: Attestation
  readonly keys: FleetKeys
  readonly snapshots: SnapshotSource
  readonly streams: Streams
  readonly events: EventStore
  readonly toolPins: ToolPins
  readonly issueCredential: (request: CredentialRequest) => Promise<CredentialAnswer>
  /** Guesses at device codes: by address, and of all addresses together. */
  readonly guesses: { readonly address: RateLimit; readonly everyone: RateLimit }
  /** Evidence to look at, likewise: each costs signatures and perhaps a request to somebody. */
  readonly attestations: { readonly address: RateLimit; readonly everyone: RateLimit }
  readonly clock: Clock
  readonly log: Logger
}

const controllerTokenMs = 60 * 60_000
const gatewayTokenMs = 15 * 60_000
const bodyLimit = 64 << 10
/** A batch of 1,000 events of a few KiB each. */
const eventsBodyLimit = 8 << 20

/** What controllers and gateways speak to: /controller/v1 and /gateway/v1, JSON, refusals as RFC 9457 problems. */
export function buildMachineApp(deps: MachineAppDeps): FastifyInstance {
  const app = Fastify({
    logger: false,
    bodyLimit,
    requestTimeout: 30_000,
    connectionTimeout: 0,
    forceCloseConnections: true,
    // Event streams stay open; what has no request on it for long is closed.
    keepAliveTimeout: 75_000,
  })
  app.setErrorHandler((error, request, reply) => {
    const fault = asFault(error)
    const { method } = request
    const status = problemStatus(fault)
    const about = { method, path: request.routeOptions.url, code: fault.code, detail: fault.detail }
    if (status >= 500) deps.log.error({ ...about, err: fault }, 'machine request failed')
    else deps.log.warn(about, 'machine request refused')
    if (status === 429) reply.header('retry-after', '60')
    return reply.code(status).type(problemContentType).send(toProblem(fault))
  })
  app.setNotFoundHandler(() => {
    throw new Fault('http.not_found')
  })
  controllerRoutes(app, deps)
  gatewayRoutes(app, deps)
  return app
}

function controllerToken({ tokens }: MachineAppDeps, controllerId: string, kid: string) {
  const { token, expiresAt } = tokens.issue('controller', instanceOwner(controllerId, kid), controllerTokenMs)
  return { accessToken: token, expiresAt: new Date(expiresAt).toISOString() }
}

function controllerRoutes(app: FastifyInstance, deps: MachineAppDeps): void {
  const { controllers, gateways, tokens, assertions, attestation, keys, snapshots, clock, log } = deps
  const { guesses, attestations } = deps
  const controllerOf = (request: FastifyRequest) =>
    ownerParts(tokens.authenticate('controller', request.headers.authorization).ownerId)

  app.post('/controller/v1/registrations', async (request) => {
    const { deviceCode, publicJwk, version, hostname } = parse(
      controllerRegistrationRequestSchema,
      request.body,
    )
    const address = request.ip || 'unix'
    // The address first: one that is at its own limit must not use up everyone's.
    if (guesses.address.take(address) > 0 || guesses.everyone.take('') > 0) {
      throw new Fault('http.rate_limited', { detail: `device codes tried too often, last by ${address}` })
    }
    const controller = await controllers.register(deviceCode, publicJwk, { version, hostname })
    tokens.revoke('controller', controller.id)
    log.info({ controllerId: controller.id, name: controller.name, hostname }, 'agent controller registered')
    return { controllerId: controller.id, tenantId: snapshots.current().config.tenant.id }
  })

  app.post('/controller/v1/token', async (request) => {
    const { controllerId, assertion } = parse(controllerTokenRequestSchema, request.body)
    return controllerToken(deps, controllerId, await assertions.verify(controllerId, assertion))
  })

  app.post('/controller/v1/challenges', async (request, reply) => {
    const { controllerId, publicJwk } = parse(challengeRequestSchema, request.body)
    reply.header('cache-control', 'no-store')
    return attestation.challenge(controllerId, publicJwk)
  })

  app.post('/controller/v1/attested-tokens', async (request) => {
    const ask = parse(attestedTokenRequestSchema, request.body)
    const address = request.ip || 'unix'
    if (attestations.address.take(address) > 0 || attestations.everyone.take('') > 0) {
      throw new Fault('http.rate_limited', { detail: `attestation tried too often, last by ${address}` })
    }
    const kid = await attestation.attest(ask, address)
    const tenantId = snapshots.current().config.tenant.id
    return { ...controllerToken(deps, ask.controllerId, kid), tenantId }
  })

  app.post('/controller/v1/health', async (request, reply) => {
    const { controllerId, kid } = controllerOf(request)
    controllers.reportHealth(controllerId, kid, parse(controllerHealthReportSchema, request.body))
    return reply.code(204).send()
  })

  app.post('/controller/v1/gateway-enrolments', async (request): Promise<GatewayEnrolment> => {
    const { controllerId: ownerId, kid } = controllerOf(request)
    const ask = parse(gatewayEnrolRequestSchema, request.body)
    const { config } = snapshots.current()
    if (!isGatewayUrl(ask.gatewayUrl, config.gateway.url)) {
      log.warn(
        { asked: ask.gatewayUrl, configured: config.gateway.url },
        'a gateway enrols with another URL than gateway.url: it will refuse the access tokens that are issued here',
      )
    }
    const gatewayId = gateways.enrol(ownerId, ask)
    const { token, expiresAt } = tokens.issue('gateway', gatewayId, gatewayTokenMs, kid)
    log.info({ gatewayId, controllerId: ownerId, hostname: ask.hostname }, 'gateway enrolled')
    return {
      gatewayId,
      tenantId: config.tenant.id,
      accessToken: token,
      expiresAt: new Date(expiresAt).toISOString(),
      snapshotJwks: keys.snapshotJwks() as GatewayEnrolment['snapshotJwks'],
      time: new Date(clock.now()).toISOString(),
    }
  })
}

function gatewayRoutes(app: FastifyInstance, deps: MachineAppDeps): void {
  const { tokens, keys, snapshots, streams, events, toolPins, issueCredential } = deps
  const gateway = (request: FastifyRequest) => tokens.authenticate('gateway', request.headers.authorization)

  app.get('/gateway/v1/snapshot', async (request, reply) => {
    gateway(request)
    const { jws, etag } = snapshots.current()
    reply.header('etag', `"${etag}"`).header('cache-control', 'no-store')
    if (matches(request.headers['if-none-match'], etag)) return reply.code(304).send()
    return reply.type('application/jose').send(jws)
  })

  app.get('/gateway/v1/stream', async (request, reply) => {
    const { ownerId, expiresAt } = gateway(request)
    const { authorization } = request.headers
    streams.open(ownerId, expiresAt, reply.raw, () => tokens.holds('gateway', authorization))
    return reply.hijack()
  })

  app.post('/gateway/v1/credentials', async (request, reply) => {
    gateway(request)
    reply.header('cache-control', 'no-store')
    return issueCredential(parse(credentialRequestSchema, request.body))
  })

  app.get('/gateway/v1/keys', async (request, reply) => {
    gateway(request)
    reply.header('cache-control', 'no-store')
    return keys.sealingKeys()
  })

  app.post('/gateway/v1/events', { bodyLimit: eventsBodyLimit }, async (request) => {
    const { ownerId } = gateway(request)
    const batch = parse(eventBatchSchema, request.body).events
    // Stored as it came: a chain of digests runs through it.
    const counted = events.add((request.body as { events: WorkloadEvent[] }).events, ownerId)
    // First definitions of tools become policy, so that every gateway holds to the same.
    if (toolPins.observe(batch, snapshots.current().config)) await snapshots.refresh()
    return counted
  })

  app.get('/gateway/v1/event-chains', async (request) => ({
    chains: events.chains(gateway(request).ownerId),
  }))

  app.get('/gateway/v1/event-chains/:id', async (request) => {
    const { ownerId } = gateway(request)
    const { id } = parse(z.object({ id: z.uuid() }), request.params)
    const { after } = parse(z.object({ after: z.coerce.number().int().nonnegative() }), request.query)
    return { events: events.chain(ownerId, id, after) }
  })
}

function parse<T>(schema: z.ZodType<T>, body: unknown): T {
  const parsed = schema.safeParse(body)
  if (parsed.success) return parsed.data
  // Names fields alone: the values may be codes and assertions.
  const fields = parsed.error.issues.slice(0, 5).map((issue) => `${issue.path.join('.')}: ${issue.code}`)
  throw new Fault('request.invalid', { detail: fields.join('; ') })
}

const byStatus: Record<number, FaultCode> = {
  400: 'request.invalid',
  408: 'http.body_timeout',
  413: 'http.body_too_large',
  415: 'http.content_type',
}

function asFault(error: FastifyError | unknown): Fault {
  if (error instanceof Fault) return error
  const status = (error as FastifyError).statusCode
  const code = status === undefined ? undefined : byStatus[status]
  return code ? new Fault(code, { detail: (error as FastifyError).code }) : Fault.from(error)
}

/** RFC 9110 §13.1.2, weak comparison. */
function matches(header: string | undefined, etag: string): boolean {
  const tags = (header ?? '').split(',').map((tag) => tag.trim().replace(/^W\//, ''))
  return tags.includes(`"${etag}"`) || tags.includes('*')
}

/** A gateway knows its URL as an origin or as origin + path. */
function isGatewayUrl(asked: string, configured: string): boolean {
  return URL.canParse(asked) && new URL(asked).origin === new URL(configured).origin
}
