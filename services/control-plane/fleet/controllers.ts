import { randomUUID } from 'node:crypto'
import type { JWK } from 'jose'
import type { Clock } from '../../../shared/clock.ts'
import { Fault } from '../../../shared/faults.ts'
import type { Config } from '../config/schema.ts'
import { type DatabaseSync, transaction } from '../store/database.ts'
import { createDeviceCodes } from './device-codes.ts'
import { createInstances, type HealthReport, type HostFacts, type Instance } from './instances.ts'
import { publicKey } from './public-key.ts'

export interface Controller {
  readonly id: string
  readonly name: string
  readonly createdAt: number
  /** The kind of trust provider that vouches for its machines; null: it registers with a device code. */
  readonly provider: string | null
  /** The one that reported last comes first. */
  readonly instances: readonly Instance[]
  /** Whether any of its machines reported within 90 s. */
  readonly healthy: boolean
}

export interface Controllers {
  create(name: string): Controller
  list(): Controller[]
  find(id: string): Controller | undefined
  /** What the file declares is there, what it no longer declares is gone with its machines, tokens and gateways. */
  declare(config: Pick<Config, 'agentControllers'>): void
  /** Undefined for an unknown controller; null for one that registers by attestation. */
  deviceCode(id: string): { code: string; expiresAt: number } | undefined | null
  /**
   * Spends a device code and binds its controller to the key, in place of a former one. Throws `device_code.refused`,
   * also for a key that is not a public Ed25519 one: the code is spent by its first use, whatever comes of it.
   */
  register(code: string, publicJwk: Record<string, unknown>, host: HostFacts): Promise<Controller>
  /** A machine proved what it is: its key stands for it from now on. Gives the key's id. */
  attested(id: string, publicJwk: JWK, subject: string, host: HostFacts): Promise<string>
  /** The key of one machine; of a device-code controller the one there is where `kid` is not given. */
  key(id: string, kid: string | undefined): { kid: string; jwk: JWK } | undefined
  reportHealth(id: string, kid: string, report: HealthReport): void
  /** Forgets a machine, its tokens and those of its gateways, and what evidence it showed. False where there is none. */
  forget(id: string, kid: string): boolean
  /** Says of each machine that fell silent, or spoke again, so once. */
  watch(): void
  sweep(): void
}

export interface ControllerDeps {
  readonly db: DatabaseSync
  readonly clock: Clock
  readonly codeSecret: Buffer
  /** A machine was seen for the first time in 90 s, or not for 90 s. */
  readonly onConnection?: (controller: Controller, instance: Instance) => void
}

export function createControllers({ db, clock, codeSecret, onConnection }: ControllerDeps): Controllers {
  const insert = db.prepare('INSERT INTO agent_controller (id, name, created_at) VALUES (?, ?, ?)')
  const upsert = db.prepare(`INSERT INTO agent_controller (id, name, created_at, provider) VALUES (?, ?, ?, ?)
    ON CONFLICT (id) DO UPDATE SET name = excluded.name, provider = excluded.provider`)
  const declared = db.prepare('SELECT id FROM agent_controller WHERE provider IS NOT NULL')
  const remove = db.prepare('DELETE FROM agent_controller WHERE id = ?')
  const removeGatewayTokens = db.prepare(`DELETE FROM machine_token
    WHERE kind = 'gateway' AND owner_id IN (SELECT id FROM gateway WHERE controller_id = ?)`)
  const all = db.prepare('SELECT * FROM agent_controller ORDER BY created_at, id')
  const one = db.prepare('SELECT * FROM agent_controller WHERE id = ?')
  const codes = createDeviceCodes(db, clock, codeSecret)
  const instances = createInstances(db, clock)

  const read = (row: Record<string, unknown>): Controller => {
    const id = String(row.id)
    const machines = instances.of(id)
    return {
      id,
      name: String(row.name),
      createdAt: Number(row.created_at),
      provider: row.provider === null ? null : String(row.provider),
      instances: machines,
      healthy: machines.some(({ healthy }) => healthy),
    }
  }
  const find = (id: string): Controller | undefined => {
    const row = one.get(id)
    return row && read(row)
  }
  const announce = (id: string, kid: string): void => {
    const controller = find(id)
    const instance = controller?.instances.find((entry) => entry.kid === kid)
    if (controller && instance) onConnection?.(controller, instance)
  }

  return {
    create: (name) => {
      const id = randomUUID()
      insert.run(id, name, clock.now())
      return find(id)!
    },
    list: () => all.all().map(read),
    find,
    declare: ({ agentControllers }) =>
      transaction(db, () => {
        const kept = new Set(agentControllers.map(({ id }) => id))
        for (const { id } of declared.all()) {
          if (kept.has(String(id))) continue
          removeGatewayTokens.run(String(id))
          instances.clear(String(id))
          remove.run(String(id))
        }
        for (const { id, name, trustProvider } of agentControllers) {
          // One that was made with a device code and is now vouched for: its old key is worth nothing.
          if (one.get(id)?.provider === null) instances.clear(id)
          upsert.run(id, name, clock.now(), trustProvider.provider)
        }
      }),
    deviceCode: (id) => {
      const controller = find(id)
      if (!controller) return undefined
      return controller.provider === null ? codes.make(id) : null
    },
    register: async (code, publicJwk, host) => {
      const id = codes.spend(code)
      if (id === undefined || find(id)?.provider !== null) throw new Fault('device_code.refused')
      let jwk: JWK & { kid: string }
      try {
        jwk = await publicKey(publicJwk)
      } catch (cause) {
        const why = cause instanceof Error ? cause.message : 'it is no key'
        throw new Fault('device_code.refused', {
          detail: `the key is refused (${why}); the code is spent`,
          cause,
        })
      }
      transaction(db, () => {
        instances.clear(id)
        instances.put(id, jwk, host, null)
      })
      return find(id)!
    },
    attested: async (id, publicJwk, subject, host) => {
      const jwk = await publicKey(publicJwk)
      instances.put(id, jwk, host, subject)
      return jwk.kid
    },
    key: (id, kid) => instances.key(id, kid),
    reportHealth: (id, kid, report) => {
      if (instances.report(id, kid, report)) announce(id, kid)
    },
    forget: (id, kid) => instances.forget(id, kid),
    watch: () => {
      for (const { controllerId, kid } of instances.silent()) announce(controllerId, kid)
    },
    sweep: () => {
      codes.sweep()
      instances.sweep()
    },
  }
}
