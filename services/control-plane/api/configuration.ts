import type { FastifyInstance, FastifyRequest } from 'fastify'
import { z } from 'zod'
import { Fault } from '../../../shared/faults.ts'
import { type Change, diffConfig } from '../config/diff.ts'
import type { Config } from '../config/schema.ts'
import type { AuditLog } from '../events/audit.ts'
import type { SnapshotSource } from '../fleet/snapshots.ts'
import { parse } from './answers.ts'

export interface ConfigurationApiDeps {
  /** The file that the control plane was started with. */
  readonly path: string
  /** Reads and checks it. Throws Fault `config.invalid` with a line per problem. */
  readonly load: (warn: (line: string) => void) => Promise<Config>
  /** Puts it in force whole, or throws and keeps what runs. */
  readonly apply: (config: Config) => Promise<void>
  /** Throws Fault `config.invalid` where it can not be applied without a restart. */
  readonly check: (config: Config) => Promise<void>
  readonly snapshots: Pick<SnapshotSource, 'current'>
  readonly audit: AuditLog
}

export interface ConfigurationAnswer {
  readonly path: string
  readonly applied: boolean
  /** Of what is in force now. */
  readonly snapshotVersion: number
  readonly warnings: readonly string[]
  readonly changes: readonly Change[]
}

/** `/configuration`: the YAML file against what is in force (`preview`), and into force (`apply`), as SIGHUP does. */
export function registerConfiguration(app: FastifyInstance, deps: ConfigurationApiDeps): void {
  const { path, load, apply, check, snapshots, audit } = deps

  const work = async (request: FastifyRequest, applied: boolean): Promise<ConfigurationAnswer> => {
    parse(z.strictObject({}), request.body ?? {})
    const warnings: string[] = []
    const config = await load((line) => warnings.push(line))
    const changes = diffConfig(snapshots.current().config, config)
    await check(config)
    if (applied) {
      await apply(config)
      audit.add({
        category: 'Tenant',
        activity: 'Configuration applied',
        actor: { type: 'Administrator', displayName: 'administrator token' },
        target: path,
        outcome: 'Success',
        severity: 'Info',
        client: { ip: request.ip },
        detail: { changes: changes.slice(0, 100).map(({ what, path: at }) => `${what} ${at}`) },
      })
    }
    return { path, applied, snapshotVersion: snapshots.current().snapshot.version, warnings, changes }
  }

  for (const verb of ['preview', 'apply'] as const) {
    app.post(`/configuration/${verb}`, async (request, reply) => {
      try {
        return await work(request, verb === 'apply')
      } catch (error) {
        if (!(error instanceof Fault) || error.code !== 'config.invalid') throw error
        const problems = (error.detail ?? error.message).split('\n')
        const message = `${path} was not applied: ${problems.length} problems`
        return reply.code(400).send({ success: false, message, id: 0, problems })
      }
    })
  }
}
