import { createHmac, randomInt, randomUUID, timingSafeEqual } from 'node:crypto'
import { calculateJwkThumbprint, importJWK, type JWK } from 'jose'
import type { Clock } from '../../../shared/clock.ts'
import { Fault } from '../../../shared/faults.ts'
import { type DatabaseSync, transaction } from '../store/database.ts'

export const deviceCodeLifeMs = 15 * 60_000
/** A controller that has not reported for so long is shown as disconnected; it reports each minute. */
const healthyForMs = 90_000
/** Live codes of all controllers together: it bounds what one guess can hit. */
const maxLiveCodes = 20

export interface Controller {
  readonly id: string
  readonly name: string
  readonly publicJwk: JWK | null
  readonly version: string | null
  readonly hostname: string | null
  readonly createdAt: number
  readonly registeredAt: number | null
  readonly uptimeSecs: number | null
  readonly lastHealthAt: number | null
  readonly healthy: boolean
}

export interface Controllers {
  create(name: string): Controller
  list(): Controller[]
  find(id: string): Controller | undefined
  /** Six digits, one use, 15 minutes; replaces the controller's former one. Undefined for an unknown controller. */
  deviceCode(id: string): { code: string; expiresAt: number } | undefined
  /**
   * Spends a device code and binds its controller to the key, in place of a former one. Throws `device_code.refused`,
   * also for a key that is not a public Ed25519 one: the code is spent by its first use, whatever comes of it.
   */
  register(
    code: string,
    publicJwk: Record<string, unknown>,
    host: { version: string; hostname: string },
  ): Promise<Controller>
  reportHealth(id: string, report: { version: string; hostname: string; uptimeSecs: number }): void
  sweep(): void
}

export function createControllers(db: DatabaseSync, clock: Clock, codeSecret: Buffer): Controllers {
  const insert = db.prepare('INSERT INTO agent_controller (id, name, created_at) VALUES (?, ?, ?)')
  const all = db.prepare('SELECT * FROM agent_controller ORDER BY created_at, id')
  const one = db.prepare('SELECT * FROM agent_controller WHERE id = ?')
  const bind = db.prepare(
    'UPDATE agent_controller SET public_jwk = ?, version = ?, hostname = ?, registered_at = ? WHERE id = ?',
  )
  const health = db.prepare(
    'UPDATE agent_controller SET version = ?, hostname = ?, uptime_secs = ?, last_health_at = ? WHERE id = ?',
  )
  const liveCodes = db.prepare('SELECT code_mac, controller_id FROM device_code WHERE expires_at > ?')
  const dropCodes = db.prepare('DELETE FROM device_code WHERE controller_id = ? OR expires_at <= ?')
  const addCode = db.prepare('INSERT INTO device_code (code_mac, controller_id, expires_at) VALUES (?, ?, ?)')

  const mac = (code: string): Buffer => createHmac('sha256', codeSecret).update(code).digest()
  const read = (row: Record<string, unknown>): Controller => {
    const number = (value: unknown) => (value === null ? null : Number(value))
    const text = (value: unknown) => (value === null ? null : String(value))
    const lastHealthAt = number(row.last_health_at)
    return {
      id: String(row.id),
      name: String(row.name),
      publicJwk: row.public_jwk === null ? null : (JSON.parse(String(row.public_jwk)) as JWK),
      version: text(row.version),
      hostname: text(row.hostname),
      createdAt: Number(row.created_at),
      registeredAt: number(row.registered_at),
      uptimeSecs: number(row.uptime_secs),
      lastHealthAt,
      healthy: lastHealthAt !== null && clock.now() - lastHealthAt < healthyForMs,
    }
  }
  const find = (id: string): Controller | undefined => {
    const row = one.get(id)
    return row && read(row)
  }
  /** Compares with every live code and always with all of them, so that time does not tell how near a guess came. */
  const spend = (code: string): string | undefined =>
    transaction(db, () => {
      const given = mac(code)
      let owner: string | undefined
      for (const row of liveCodes.all(clock.now())) {
        if (timingSafeEqual(Buffer.from(row.code_mac as Uint8Array), given)) owner = String(row.controller_id)
      }
      if (owner !== undefined) dropCodes.run(owner, clock.now())
      return owner
    })

  return {
    create: (name) => {
      const id = randomUUID()
      insert.run(id, name, clock.now())
      return find(id)!
    },
    list: () => all.all().map(read),
    find,
    deviceCode: (id) => {
      if (!find(id)) return undefined
      return transaction(db, () => {
        dropCodes.run(id, clock.now())
        const taken = liveCodes.all(clock.now()).map((row) => Buffer.from(row.code_mac as Uint8Array))
        if (taken.length >= maxLiveCodes) throw new Fault('http.rate_limited')
        const expiresAt = clock.now() + deviceCodeLifeMs
        for (;;) {
          const code = String(randomInt(1_000_000)).padStart(6, '0')
          if (taken.some((other) => other.equals(mac(code)))) continue
          addCode.run(mac(code), id, expiresAt)
          return { code, expiresAt }
        }
      })
    },
    register: async (code, publicJwk, { version, hostname }) => {
      const id = spend(code)
      if (id === undefined) throw new Fault('device_code.refused')
      const key = await publicKey(publicJwk)
      bind.run(JSON.stringify(key), version, hostname, clock.now(), id)
      return find(id)!
    },
    reportHealth: (id, { version, hostname, uptimeSecs }) =>
      void health.run(version, hostname, Math.floor(uptimeSecs), clock.now(), id),
    sweep: () => void dropCodes.run('', clock.now()),
  }
}

/** The public members alone of a public Ed25519 JWK (RFC 8037 §2). */
async function publicKey({ kty, crv, x, d }: Record<string, unknown>): Promise<JWK> {
  if (kty !== 'OKP' || crv !== 'Ed25519' || typeof x !== 'string' || d !== undefined) {
    throw new Fault('device_code.refused', {
      detail: 'the key is not a public Ed25519 JWK; the code is spent',
    })
  }
  const jwk = { kty, crv, x }
  try {
    await importJWK(jwk, 'EdDSA')
    return { ...jwk, kid: await calculateJwkThumbprint(jwk) }
  } catch (cause) {
    throw new Fault('device_code.refused', { detail: 'the key does not import; the code is spent', cause })
  }
}
