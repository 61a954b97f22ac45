import type { FastifyInstance, FastifyRequest } from 'fastify'
import { z } from 'zod'
import type { Logger } from '../../../shared/log.ts'
import type { AuditLog } from '../events/audit.ts'
import type { KillSwitch, KillSwitchEntry } from '../fleet/kill-switch.ts'
import type { SnapshotSource } from '../fleet/snapshots.ts'
import { answer, list, pageQuery, parse } from './answers.ts'

export interface KillSwitchApiDeps {
  readonly killSwitch: KillSwitch
  readonly snapshots: SnapshotSource
  readonly audit: AuditLog
  readonly log: Logger
}

const newEntry = z.strictObject({
  kind: z.enum(['user', 'client', 'server', 'token']),
  /** Long enough for a whole access token. */
  value: z
    .string()
    .trim()
    .min(1)
    .max(16 * 1024),
  reason: z.string().trim().min(1).max(500),
})
const listQuery = pageQuery.extend({ active: z.enum(['true', 'false']).default('true') })

/**
 * `/kill-switch`: shuts a user, client, server or token out of every gateway at once, and lets it in again. An answer
 * means that the new policy is signed and on its way down every stream.
 */
export function registerKillSwitch(app: FastifyInstance, deps: KillSwitchApiDeps): void {
  const { killSwitch, snapshots, audit, log } = deps

  const record = (request: FastifyRequest, activity: string, entry: KillSwitchEntry): void => {
    const { id, kind, value, reason } = entry
    log.warn({ event: 'kill_switch', activity, id, kind, value, reason, address: request.ip }, activity)
    audit.add({
      category: kind === 'user' ? 'Users' : kind === 'token' ? 'Authentication' : 'Workloads',
      activity,
      actor: { type: 'Administrator', displayName: 'administrator token' },
      target: `${kind} ${value}`,
      outcome: 'Success',
      severity: 'Alert',
      client: { ip: request.ip },
      detail: { killSwitchId: id, reason },
    })
  }

  app.get('/kill-switch', async (request) => {
    const query = parse(listQuery, request.query)
    const found = killSwitch.list(query.active === 'true', query.page, query['per-page'])
    return list(found.entries.map(view), query.page, query['per-page'], found.total, 'desc')
  })

  app.post('/kill-switch', async (request, reply) => {
    const { kind, value, reason } = parse(newEntry, request.body)
    let made: ReturnType<KillSwitch['block']>
    try {
      made = killSwitch.block(kind, value, reason)
    } catch (error) {
      if (error instanceof RangeError) return answer(request, reply, 400, error.message)
      throw error
    }
    await snapshots.refresh()
    if (made.created) record(request, 'Kill switch set', made.entry)
    return reply.code(made.created ? 201 : 200).send(view(made.entry))
  })

  app.delete<{ Params: { id: string } }>('/kill-switch/:id', async (request, reply) => {
    const entry = killSwitch.revert(request.params.id)
    if (!entry) return answer(request, reply, 404, 'There is no kill switch of this id that still acts.')
    await snapshots.refresh()
    record(request, 'Kill switch taken back', entry)
    return view(entry)
  })
}

function view({ id, kind, value, reason, createdAt, revertedAt }: KillSwitchEntry) {
  const iso = (ms: number | null) => (ms === null ? null : new Date(ms).toISOString())
  return {
    externalId: id,
    kind,
    value,
    reason,
    isActive: revertedAt === null,
    createdAt: iso(createdAt),
    revertedAt: iso(revertedAt),
  }
}
