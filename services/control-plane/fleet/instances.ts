import type { JWK } from 'jose'
import type { Clock } from '../../../shared/clock.ts'
import { type DatabaseSync, transaction } from '../store/database.ts'

/** A machine that has not reported for so long is shown as disconnected; it reports each minute. */
const healthyForMs = 90_000
/** Machines come and go under one id: those not seen for so long are forgotten. */
const keptForMs = 30 * 86_400_000

export interface HostFacts {
  readonly version: string
  readonly hostname: string
}
export interface HealthReport extends HostFacts {
  readonly uptimeSecs: number
}

/** One machine behind a controller. */
export interface Instance extends HostFacts {
  /** RFC 7638 thumbprint of its key. */
  readonly kid: string
  /** What its evidence says it is; null: device code. */
  readonly subject: string | null
  readonly registeredAt: number
  readonly attestedAt: number | null
  readonly uptimeSecs: number | null
  readonly lastHealthAt: number | null
  readonly healthy: boolean
}

export interface Instances {
  of(controllerId: string): Instance[]
  put(controllerId: string, jwk: JWK & { kid: string }, host: HostFacts, subject: string | null): void
  key(controllerId: string, kid: string | undefined): { kid: string; jwk: JWK } | undefined
  /** True where it had not been connected. */
  report(controllerId: string, kid: string, report: HealthReport): boolean
  /** Those that fell silent since the last call. */
  silent(): { controllerId: string; kid: string }[]
  forget(controllerId: string, kid: string): boolean
  /** All of a controller, with their tokens. */
  clear(controllerId: string): void
  sweep(): void
}

/** Whose bearer token it is: a machine of a controller. */
export const instanceOwner = (controllerId: string, kid: string): string => `${controllerId}/${kid}`
export const ownerParts = (owner: string): { controllerId: string; kid: string } => {
  const [controllerId = '', kid = ''] = owner.split('/')
  return { controllerId, kid }
}

export function createInstances(db: DatabaseSync, clock: Clock): Instances {
  const list = db.prepare(
    'SELECT * FROM controller_instance WHERE controller_id = ? ORDER BY last_health_at DESC, registered_at DESC, kid',
  )
  const put = db.prepare(`INSERT INTO controller_instance
    (controller_id, kid, public_jwk, subject, version, hostname, registered_at, attested_at)
    VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)
    ON CONFLICT (controller_id, kid) DO UPDATE SET
      subject = excluded.subject, version = excluded.version, hostname = excluded.hostname,
      attested_at = excluded.attested_at`)
  const keyOf = db.prepare(
    'SELECT kid, public_jwk FROM controller_instance WHERE controller_id = ?1 AND kid = coalesce(?2, kid) LIMIT 2',
  )
  const connectedOf = db.prepare(
    'SELECT connected FROM controller_instance WHERE controller_id = ? AND kid = ?',
  )
  const report = db.prepare(`UPDATE controller_instance
    SET version = ?, hostname = ?, uptime_secs = ?, last_health_at = ?, connected = 1
    WHERE controller_id = ? AND kid = ?`)
  const silent = db.prepare(`UPDATE controller_instance SET connected = 0
    WHERE connected = 1 AND last_health_at <= ? RETURNING controller_id, kid`)
  const remove = db.prepare('DELETE FROM controller_instance WHERE controller_id = ? AND kid = ?')
  const removeToken = db.prepare("DELETE FROM machine_token WHERE kind = 'controller' AND owner_id = ?")
  // One whose machine is not known counts too: it comes again within a minute if its machine is good.
  const removeGatewayTokens = db.prepare(`DELETE FROM machine_token
    WHERE kind = 'gateway' AND coalesce(machine, ?2) = ?2
    AND owner_id IN (SELECT id FROM gateway WHERE controller_id = ?1)`)
  const unpin = db.prepare('DELETE FROM attestation_pin WHERE controller_id = ? AND kid = ?')
  const old = db.prepare(`DELETE FROM controller_instance WHERE attested_at IS NOT NULL
    AND max(attested_at, coalesce(last_health_at, 0)) < ?`)

  const read = (row: Record<string, unknown>): Instance => {
    const number = (value: unknown) => (value === null ? null : Number(value))
    const lastHealthAt = number(row.last_health_at)
    return {
      kid: String(row.kid),
      subject: row.subject === null ? null : String(row.subject),
      version: String(row.version),
      hostname: String(row.hostname),
      registeredAt: Number(row.registered_at),
      attestedAt: number(row.attested_at),
      uptimeSecs: number(row.uptime_secs),
      lastHealthAt,
      healthy: lastHealthAt !== null && clock.now() - lastHealthAt < healthyForMs,
    }
  }
  const drop = (controllerId: string, kid: string): boolean => {
    removeToken.run(instanceOwner(controllerId, kid))
    removeGatewayTokens.run(controllerId, kid)
    unpin.run(controllerId, kid)
    return remove.run(controllerId, kid).changes > 0
  }
  return {
    of: (controllerId) => list.all(controllerId).map(read),
    put: (controllerId, jwk, { version, hostname }, subject) => {
      const now = clock.now()
      put.run(
        controllerId,
        jwk.kid,
        JSON.stringify(jwk),
        subject,
        version,
        hostname,
        now,
        subject === null ? null : now,
      )
    },
    key: (controllerId, kid) => {
      const rows = keyOf.all(controllerId, kid ?? null)
      const [row] = rows
      if (!row || rows.length > 1) return undefined
      return { kid: String(row.kid), jwk: JSON.parse(String(row.public_jwk)) as JWK }
    },
    report: (controllerId, kid, { version, hostname, uptimeSecs }) => {
      const before = connectedOf.get(controllerId, kid)
      report.run(version, hostname, Math.floor(uptimeSecs), clock.now(), controllerId, kid)
      return before !== undefined && Number(before.connected) === 0
    },
    silent: () =>
      silent
        .all(clock.now() - healthyForMs)
        .map((row) => ({ controllerId: String(row.controller_id), kid: String(row.kid) })),
    forget: (controllerId, kid) => transaction(db, () => drop(controllerId, kid)),
    clear: (controllerId) => {
      for (const row of list.all(controllerId)) drop(controllerId, String(row.kid))
    },
    sweep: () => void old.run(clock.now() - keptForMs),
  }
}
