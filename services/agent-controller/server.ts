import { createHash, timingSafeEqual } from 'node:crypto'
import { createServer, type Server } from 'node:http'
import Fastify, { type FastifyError, type FastifyInstance } from 'fastify'
import type { Clock } from '../../shared/clock.ts'
import { Fault } from '../../shared/faults.ts'
import type { Logger } from '../../shared/log.ts'
import { AnswerFault, problemContentType, toProblem } from '../../shared/problem.ts'
import {
  type GatewayEnrolment,
  type GatewayEnrolRequest,
  gatewayEnrolRequestSchema,
} from '../../shared/wire/enrolment.ts'
import type { ControlPlane } from './control-plane.ts'
import type { ControllerMetrics } from './metrics.ts'
import { RateLimit } from './rate-limit.ts'
import type { HealthState, Registrar } from './registrar.ts'
import type { ServerCertificate } from './tls.ts'

export interface ServerDeps {
  readonly registrar: Registrar
  readonly controlPlane: ControlPlane
  readonly metrics: ControllerMetrics
  /** What gateways must send in x-aembit-enrolment-secret; null asks for none. */
  readonly enrolmentSecret: string | null
  readonly build: { readonly version: string; readonly gitSHA: string }
  readonly hostname: string
  readonly clock: Clock
  readonly log: Logger
  readonly tls: ServerCertificate | null
}

/** Only a controller that works answers 200; 401 for Unregistered is documented. */
const healthStatus: Record<HealthState, number> = {
  Healthy: 200,
  Unregistered: 401,
  Registered: 503,
  RegisteredAndNotConnected: 503,
}

/** GET /health and POST /v1/gateways/enrol, over TLS or for programs on this machine alone: the caller listens. */
export function buildServer(deps: ServerDeps): FastifyInstance {
  const { registrar, build, hostname, clock, log, tls } = deps
  const app = Fastify({
    bodyLimit: 16 << 10,
    logger: false,
    serverFactory: (handler) => {
      const server = tls ? (tls.createServer(handler) as unknown as Server) : createServer(handler)
      server.requestTimeout = 10_000
      server.maxConnections = 256
      return server
    },
  })
  // A form or text/plain body is what a web page can send across origins without asking.
  app.removeContentTypeParser('text/plain')

  const enrolments = new RateLimit(clock, { burst: 20, everyMs: 3_000 })
  const wrongSecrets = new RateLimit(clock, { burst: 5, everyMs: 10_000 })

  app.addHook('onRequest', async (request) => {
    if (!isLocalName(request.headers.host) && !tls?.isFor(nameOf(request.headers.host)))
      throw new Fault('http.host')
    if (request.headers.origin !== undefined) throw new Fault('http.origin')
  })

  app.get('/health', async (_request, reply) => {
    const status = registrar.health
    reply.code(healthStatus[status]).header('cache-control', 'no-store')
    return { status, version: build.version, gitSHA: build.gitSHA, host: hostname }
  })

  app.post('/v1/gateways/enrol', async (request, reply) => {
    if (!secretFits(deps.enrolmentSecret, request.headers['x-aembit-enrolment-secret'])) {
      throw new Fault(wrongSecrets.take() ? 'enrolment.refused' : 'http.rate_limited')
    }
    if (!enrolments.take()) throw new Fault('http.rate_limited')
    const parsed = gatewayEnrolRequestSchema.safeParse(request.body)
    if (!parsed.success) throw new Fault('request.invalid')
    const enrolment = await enrol(deps, parsed.data)
    reply.header('cache-control', 'no-store')
    return enrolment
  })

  app.setNotFoundHandler(async (_request, reply) => {
    reply.code(404).type(problemContentType)
    return toProblem(new Fault('http.not_found'))
  })

  app.setErrorHandler<FastifyError | Fault>(async (error, request, reply) => {
    const fault = asFault(error)
    log[fault.spec.status >= 500 ? 'warn' : 'info'](
      { code: fault.code, detail: fault.detail, method: request.method, route: request.routeOptions.url },
      'request refused',
    )
    reply.code(fault.spec.status).type(problemContentType)
    return toProblem(fault)
  })
  return app
}

async function enrol(
  { registrar, controlPlane, metrics, log }: ServerDeps,
  request: GatewayEnrolRequest,
): Promise<GatewayEnrolment> {
  try {
    const token = await registrar.accessToken()
    const enrolment = await controlPlane.enrolGateway(token, request).catch(async (error) => {
      if (!(error instanceof AnswerFault) || error.status !== 401) throw error
      return controlPlane.enrolGateway(await registrar.replaceToken(token), request)
    })
    metrics.proxyTokenRequest('Success', registrar.controllerId)
    log.info({ gatewayId: enrolment.gatewayId, gatewayUrl: request.gatewayUrl }, 'gateway enrolled')
    return enrolment
  } catch (error) {
    metrics.proxyTokenRequest('Failure', registrar.controllerId)
    throw error
  }
}

/** DNS rebinding: a web page's own name may point at 127.0.0.1, but its requests carry that name. */
function isLocalName(host: string | undefined): boolean {
  return /^(localhost|127\.0\.0\.1|\[::1\])(:\d{1,5})?$/i.test(host ?? '')
}

/** The host of a Host header (RFC 9110 §7.2), without port and brackets. */
const nameOf = (host: string | undefined): string =>
  (host ?? '').replace(/:\d{1,5}$/, '').replace(/^\[|\]$/g, '')

/** Compares digests, so that neither the length nor the first difference shows in time. */
function secretFits(wanted: string | null, given: string | string[] | undefined): boolean {
  if (wanted === null) return true
  if (typeof given !== 'string') return false
  const digest = (text: string): Buffer => createHash('sha256').update(text).digest()
  return timingSafeEqual(digest(wanted), digest(given))
}

function asFault(error: FastifyError | Fault): Fault {
  if (error instanceof Fault) return error
  if (error.statusCode === 413) return new Fault('http.body_too_large')
  if (error.statusCode === 415) return new Fault('http.content_type')
  if (error.statusCode !== undefined && error.statusCode < 500) return new Fault('request.invalid')
  return Fault.from(error)
}
