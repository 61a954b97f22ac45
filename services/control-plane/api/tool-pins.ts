import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import { z } from 'zod'
import type { AuditLog } from '../events/audit.ts'
import type { SnapshotSource } from '../fleet/snapshots.ts'
import type { ToolPin, ToolPins } from '../fleet/tool-pins.ts'
import { answer, list, pageQuery, parse } from './answers.ts'

export interface ToolPinsApiDeps {
  readonly toolPins: ToolPins
  readonly snapshots: SnapshotSource
  readonly audit: AuditLog
}

const listQuery = pageQuery.extend({
  server: z.string().max(63).optional(),
  state: z.enum(['approved', 'pending']).optional(),
})
const named = z.strictObject({
  server: z.string().min(1).max(63),
  tool: z.string().min(1).max(256),
  digest: z.string().min(1).max(100),
})

/** `/tool-pins`: definitions of tools that gateways saw; approves one, or takes an approval back. */
export function registerToolPins(
  app: FastifyInstance,
  { toolPins, snapshots, audit }: ToolPinsApiDeps,
): void {
  app.get('/tool-pins', async (request) => {
    const query = parse(listQuery, request.query)
    const found = toolPins.list(query, query.page, query['per-page'])
    return list(found.pins.map(view), query.page, query['per-page'], found.total, 'desc')
  })

  const decide = (verb: 'approve' | 'withdraw') => async (request: FastifyRequest, reply: FastifyReply) => {
    const { server, tool, digest } = parse(named, request.body)
    const pin = toolPins[verb](server, tool, digest)
    if (!pin) return answer(request, reply, 404, 'No gateway has seen this definition of this tool.')
    await snapshots.refresh()
    audit.add({
      category: 'Workloads',
      activity: verb === 'approve' ? 'Tool definition approved' : 'Tool definition approval withdrawn',
      actor: { type: 'Administrator', displayName: 'administrator token' },
      target: `tool ${server}/${tool}`,
      outcome: 'Success',
      severity: 'Info',
      client: { ip: request.ip },
      detail: { digest },
    })
    return view(pin)
  }
  app.post('/tool-pins/approve', decide('approve'))
  app.post('/tool-pins/withdraw', decide('withdraw'))
}

function view({ firstSeenAt, decidedAt, ...pin }: ToolPin) {
  return {
    ...pin,
    firstSeenAt: new Date(firstSeenAt).toISOString(),
    decidedAt: decidedAt === null ? null : new Date(decidedAt).toISOString(),
  }
}
