import { randomUUID } from 'node:crypto'
import type { Clock } from '../../../shared/clock.ts'
import type { GatewayEnrolRequest } from '../../../shared/wire/enrolment.ts'
import type { DatabaseSync } from '../store/database.ts'

export interface Gateways {
  /**
   * The id of an enrolled gateway. A controller renews its own gateways alone: an id that it did not enrol (another's,
   * or one from before a restore) gets a new id instead of somebody else's name.
   */
  enrol(controllerId: string, request: GatewayEnrolRequest): string
}

/** Of one controller; the longest silent go. */
const maxPerController = 1000

export function createGateways(db: DatabaseSync, clock: Clock): Gateways {
  const renew = db.prepare(
    'UPDATE gateway SET url = ?, hostname = ?, version = ?, renewed_at = ? WHERE id = ? AND controller_id = ?',
  )
  const insert =
    db.prepare(`INSERT INTO gateway (id, controller_id, url, hostname, version, enrolled_at, renewed_at)
    VALUES (?, ?, ?, ?, ?, ?, ?)`)
  const trim = db.prepare(`DELETE FROM gateway WHERE id IN (
    SELECT id FROM gateway WHERE controller_id = ? ORDER BY renewed_at DESC LIMIT -1 OFFSET ?)`)
  return {
    enrol: (controllerId, { gatewayId, gatewayUrl, hostname, version }) => {
      const now = clock.now()
      if (
        gatewayId !== undefined &&
        renew.run(gatewayUrl, hostname, version, now, gatewayId, controllerId).changes > 0
      ) {
        return gatewayId
      }
      const id = randomUUID()
      insert.run(id, controllerId, gatewayUrl, hostname, version, now, now)
      trim.run(controllerId, maxPerController)
      return id
    },
  }
}
