import type { FastifyError, FastifyInstance } from 'fastify'
import { z } from 'zod'
import type { Clock } from '../../../shared/clock.ts'
import { Fault } from '../../../shared/faults.ts'
import type { Logger } from '../../../shared/log.ts'
import { createRateLimit } from '../../../shared/rate-limit.ts'
import type { SharedAdministration } from '../credentials/shared-routes.ts'
import type { AccessEvents } from '../events/access.ts'
import type { AuditLog } from '../events/audit.ts'
import type { EventStore } from '../events/store.ts'
import type { Controllers } from '../fleet/controllers.ts'
import type { KillSwitch } from '../fleet/kill-switch.ts'
import type { SnapshotSource } from '../fleet/snapshots.ts'
import type { ToolPins } from '../fleet/tool-pins.ts'
import type { Identity } from '../identity/types.ts'
import type { CircumstancesOf } from '../policy/issuance.ts'
import type { AdminCheck } from './admin-token.ts'
import { registerAgentControllers } from './agent-controllers.ts'
import { answer, list, pageQuery, parse } from './answers.ts'
import { registerCredentialProviders } from './credential-providers.ts'
import { explainDecision, explainRequestSchema } from './explain.ts'
import { registerKillSwitch } from './kill-switch.ts'
import { roleOf } from './role-tokens.ts'
import { registerToolPins } from './tool-pins.ts'

export interface ApiDeps {
  readonly isAdmin: AdminCheck
  readonly controllers: Controllers
  readonly events: EventStore
  readonly snapshots: SnapshotSource
  readonly killSwitch: KillSwitch
  readonly toolPins: ToolPins
  readonly audit: AuditLog
  /** Further routes of administrators, behind the same token. */
  readonly more?: ((app: FastifyInstance) => void) | undefined
  readonly accessEvents: AccessEvents
  /** What is known of a person, and what else a decision hangs on; absent: nothing can be explained. */
  readonly explaining?: {
    readonly person: (subject: string) => Identity | undefined
    readonly circumstances: CircumstancesOf
  }
  readonly shared: () => SharedAdministration | undefined
  readonly version: string
  readonly clock: Clock
  readonly log: Logger
}

const auditQuery = pageQuery.extend({ category: z.string().max(100).optional() })
const eventsQuery = pageQuery.extend({
  search: z.string().max(200).optional(),
  'span-last-hours': z.coerce.number().positive().max(87_600).default(24),
  severity: z.enum(['Error', 'Warning', 'Info']).optional(),
  user: z.string().max(254).optional(),
  server: z.string().max(63).optional(),
  tool: z.string().max(128).optional(),
  client: z.string().max(254).optional(),
})
const accessQuery = eventsQuery.pick({
  'span-last-hours': true,
  severity: true,
  user: true,
  server: true,
  page: true,
  'per-page': true,
})

/** Wrong tokens of one address: so many at once, then one in each interval. */
const wrongTokens = 20
const wrongTokenRefillMs = 6_000

/** The REST API of administrators: /api/v1, bearer token, errors as {success, message, id}. */
export function registerApi(root: FastifyInstance, deps: ApiDeps): void {
  const {
    isAdmin,
    controllers,
    events,
    snapshots,
    killSwitch,
    toolPins,
    audit,
    accessEvents,
    shared,
    version,
    clock,
    log,
  } = deps
  const wrong = createRateLimit(clock, wrongTokens, wrongTokenRefillMs)

  root.register(
    async (app) => {
      app.addHook('onSend', async (_request, reply) => {
        reply.header('cache-control', 'no-store').header('x-content-type-options', 'nosniff')
      })
      app.addHook('onRequest', async (request, reply) => {
        // For probes, which have no token: it tells them that the service lives and nothing else.
        if (request.routeOptions.url === '/api/v1/health') return
        if (isAdmin(request.headers.authorization)) return
        const role = await roleOf(snapshots, request.headers.authorization)
        if (role === 'administrator' || (role === 'auditor' && request.method === 'GET')) return
        if (role) return answer(request, reply, 403, 'The role of this token may read alone.')
        if (wrong.take(request.ip) > 0)
          return answer(request, reply, 429, 'Too many wrong tokens; wait a minute.')
        reply.header('www-authenticate', 'Bearer realm="aembit"')
        return answer(request, reply, 401, 'Send the administrator token as a bearer token.')
      })
      app.setErrorHandler((error: FastifyError | Fault, request, reply) => {
        const status = error instanceof Fault ? error.spec.status : (error.statusCode ?? 500)
        if (status >= 500) log.error({ err: error, requestId: request.id }, 'API request failed')
        return answer(request, reply, status, status >= 500 ? 'Internal error.' : error.message)
      })
      app.setNotFoundHandler((request, reply) =>
        answer(request, reply, 404, 'There is nothing at this path.'),
      )

      app.get('/health', async (request) => {
        const { snapshot } = snapshots.current()
        const more = { version, snapshotVersion: snapshot.version }
        return { status: 'Healthy', ...(isAdmin(request.headers.authorization) ? more : {}) }
      })

      app.post('/access-policies/explain', async (request, reply) => {
        const ask = parse(explainRequestSchema, request.body)
        const { explaining } = deps
        if (!explaining) return answer(request, reply, 404, 'Nothing can be explained here.')
        const told = explainDecision(
          snapshots.current(),
          ask,
          explaining.person(ask.user),
          explaining.circumstances,
        )
        return (
          told ?? answer(request, reply, 404, 'This user never signed in here; send their claims as well.')
        )
      })

      app.get('/workload-events', async (request) => {
        const query = parse(eventsQuery, request.query)
        const { page, search, severity, user, server, tool, client } = query
        const perPage = query['per-page']
        const found = events.query({
          page,
          perPage,
          spanLastHours: query['span-last-hours'],
          search,
          severity,
          user,
          server,
          tool,
          client,
        })
        return list(found.events, page, perPage, found.total, 'desc')
      })

      app.get('/authorization-events', async (request) => {
        const query = parse(accessQuery, request.query)
        const { page, severity, user, server, 'per-page': perPage, 'span-last-hours': spanLastHours } = query
        const found = accessEvents.query({ spanLastHours, severity, user, server, page, perPage })
        return list(found.events, page, perPage, found.total, 'desc')
      })

      app.get('/audit-logs', async (request) => {
        const { category, page, 'per-page': perPage } = parse(auditQuery, request.query)
        const found = audit.query({ category, page, perPage })
        return list(found.entries, page, perPage, found.total, 'desc')
      })
      registerCredentialProviders(app, shared)
      registerKillSwitch(app, { killSwitch, snapshots, audit, log })
      deps.more?.(app)
      registerToolPins(app, { toolPins, snapshots, audit })

      registerAgentControllers(app, { controllers, audit, log })
    },
    { prefix: '/api/v1' },
  )
}
