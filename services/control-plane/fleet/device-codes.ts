import { createHmac, randomInt, timingSafeEqual } from 'node:crypto'
import type { Clock } from '../../../shared/clock.ts'
import { Fault } from '../../../shared/faults.ts'
import { type DatabaseSync, transaction } from '../store/database.ts'

export const deviceCodeLifeMs = 15 * 60_000
/** Live codes of all controllers together: it bounds what one guess can hit. */
const maxLiveCodes = 20

export interface DeviceCodes {
  /** Six digits, one use, 15 minutes; replaces the controller's former one. Throws `http.rate_limited` at 20 live ones. */
  make(controllerId: string): { code: string; expiresAt: number }
  /** The controller whose code this is; the code is gone then. */
  spend(code: string): string | undefined
  sweep(): void
}

/** Codes are stored as HMAC under `secret`: a plain hash of six digits is tried out in a second. */
export function createDeviceCodes(db: DatabaseSync, clock: Clock, secret: Buffer): DeviceCodes {
  const live = db.prepare('SELECT code_mac, controller_id FROM device_code WHERE expires_at > ?')
  const drop = db.prepare('DELETE FROM device_code WHERE controller_id = ? OR expires_at <= ?')
  const add = db.prepare('INSERT INTO device_code (code_mac, controller_id, expires_at) VALUES (?, ?, ?)')
  const mac = (code: string): Buffer => createHmac('sha256', secret).update(code).digest()
  return {
    make: (controllerId) =>
      transaction(db, () => {
        drop.run(controllerId, clock.now())
        const taken = live.all(clock.now()).map((row) => Buffer.from(row.code_mac as Uint8Array))
        if (taken.length >= maxLiveCodes) throw new Fault('http.rate_limited')
        const expiresAt = clock.now() + deviceCodeLifeMs
        for (;;) {
          const code = String(randomInt(1_000_000)).padStart(6, '0')
          if (taken.some((other) => other.equals(mac(code)))) continue
          add.run(mac(code), controllerId, expiresAt)
          return { code, expiresAt }
        }
      }),
    // Compares with every live code and always with all of them, so that time does not tell how near a guess came.
    spend: (code) =>
      transaction(db, () => {
        const given = mac(code)
        let owner: string | undefined
        for (const row of live.all(clock.now())) {
          if (timingSafeEqual(Buffer.from(row.code_mac as Uint8Array), given))
            owner = String(row.controller_id)
        }
        if (owner !== undefined) drop.run(owner, clock.now())
        return owner
      }),
    sweep: () => void drop.run('', clock.now()),
  }
}
