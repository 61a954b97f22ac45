import type { FastifyInstance } from 'fastify'
import { z } from 'zod'
import type { Logger } from '../../../shared/log.ts'
import type { AuditLog } from '../events/audit.ts'
import type { Controller, Controllers } from '../fleet/controllers.ts'
import type { Instance } from '../fleet/instances.ts'
import { answer, list, parse } from './answers.ts'

export interface AgentControllersDeps {
  readonly controllers: Controllers
  readonly audit: AuditLog
  readonly log: Logger
}

const newController = z.strictObject({ name: z.string().trim().min(1).max(200) })

/** Agent controllers, their device codes and their machines. */
export function registerAgentControllers(app: FastifyInstance, deps: AgentControllersDeps): void {
  const { controllers, audit, log } = deps
  const record = (activity: string, target: string, detail: Record<string, unknown>): void =>
    audit.add({
      category: 'AgentControllers',
      activity,
      actor: { type: 'Administrator', displayName: 'administrator' },
      target,
      outcome: 'Success',
      severity: 'Info',
      detail,
    })

  app.get('/agent-controllers', async () => {
    const all = controllers.list().map(view)
    return list(all, 1, Math.max(all.length, 1), all.length, 'asc')
  })
  app.get<{ Params: { id: string } }>('/agent-controllers/:id', async (request, reply) => {
    const controller = controllers.find(request.params.id)
    return controller ? view(controller) : answer(request, reply, 404, unknown)
  })
  app.post('/agent-controllers', async (request, reply) => {
    const controller = controllers.create(parse(newController, request.body).name)
    log.info({ controllerId: controller.id, name: controller.name }, 'agent controller created')
    record('Agent controller created', controller.name, { controllerId: controller.id })
    return reply.code(201).send(view(controller))
  })
  app.post<{ Params: { id: string } }>('/agent-controllers/:id/device-code', async (request, reply) => {
    const { id } = request.params
    const made = controllers.deviceCode(id)
    if (made === undefined) return answer(request, reply, 404, unknown)
    if (made === null) {
      return answer(
        request,
        reply,
        409,
        'This agent controller registers by attestation; it takes no device code.',
      )
    }
    log.info({ controllerId: id }, 'device code made')
    record('Device code made', controllers.find(id)?.name ?? id, { controllerId: id })
    return reply
      .code(201)
      .send({ device_code: made.code, expires_at: new Date(made.expiresAt).toISOString() })
  })
  app.delete<{ Params: { id: string; instance: string } }>(
    '/agent-controllers/:id/instances/:instance',
    async (request, reply) => {
      const { id, instance } = request.params
      const name = controllers.find(id)?.name
      if (name === undefined || !controllers.forget(id, instance)) {
        return answer(request, reply, 404, 'There is no such machine.')
      }
      log.info({ controllerId: id, instance }, 'machine of an agent controller forgotten')
      record('Machine of an agent controller forgotten', name, { controllerId: id, instance })
      return reply.code(204).send()
    },
  )
}

const unknown = 'There is no agent controller of this id.'

const iso = (ms: number | null): string | null => (ms === null ? null : new Date(ms).toISOString())

function view({ id, name, provider, instances, healthy, createdAt }: Controller) {
  const [latest] = instances
  return {
    externalId: id,
    name,
    version: latest?.version ?? null,
    isActive: true,
    isRegistered: instances.length > 0,
    isHealthy: healthy,
    /** Kind of the trust provider; null for one with a device code. */
    trustProvider: provider,
    createdAt: iso(createdAt),
    lastReportedUptime: latest?.uptimeSecs ?? null,
    lastReportedHealthTime: iso(latest?.lastHealthAt ?? null),
    instances: instances.map(instanceView),
  }
}

const instanceView = (instance: Instance) => ({
  id: instance.kid,
  subject: instance.subject,
  hostname: instance.hostname,
  version: instance.version,
  isHealthy: instance.healthy,
  registeredAt: iso(instance.registeredAt),
  lastAttestedAt: iso(instance.attestedAt),
  lastReportedUptime: instance.uptimeSecs,
  lastReportedHealthTime: iso(instance.lastHealthAt),
})
