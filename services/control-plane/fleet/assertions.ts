import { importJWK, type JWTPayload, jwtVerify } from 'jose'
import type { Clock } from '../../../shared/clock.ts'
import { Fault } from '../../../shared/faults.ts'
import type { DatabaseSync } from '../store/database.ts'
import { digest } from '../store/digest.ts'
import type { Controllers } from './controllers.ts'

export const assertionAudience = 'aembit-control-plane'
const maxLifeSecs = 60
/** How far a controller's clock may be ahead or behind. */
const skewSecs = 5

export interface Assertions {
  /** Throws `machine.assertion` unless the assertion proves possession of the controller's key, once. */
  verify(controllerId: string, assertion: string): Promise<void>
  sweep(): void
}

/** JWT client assertions (RFC 7523 §3): EdDSA, `iss` = `sub` = the controller, short-lived, each `jti` once. */
export function createAssertions(db: DatabaseSync, clock: Clock, controllers: Controllers): Assertions {
  const use = db.prepare('INSERT OR IGNORE INTO used_assertion (digest, expires_at) VALUES (?, ?)')
  const expire = db.prepare('DELETE FROM used_assertion WHERE expires_at <= ?')

  const read = async (controllerId: string, assertion: string): Promise<JWTPayload> => {
    const jwk = controllers.find(controllerId)?.publicJwk
    if (!jwk) throw new Error('no such registration')
    const { payload } = await jwtVerify(assertion, await importJWK(jwk, 'EdDSA'), {
      algorithms: ['EdDSA', 'Ed25519'],
      audience: assertionAudience,
      issuer: controllerId,
      subject: controllerId,
      requiredClaims: ['exp', 'iat', 'jti'],
      clockTolerance: skewSecs,
      currentDate: new Date(clock.now()),
    })
    const now = clock.now() / 1000
    const { exp = 0, iat = 0 } = payload
    if (exp - iat > maxLifeSecs || exp > now + maxLifeSecs + skewSecs)
      throw new Error('lives longer than 60 s')
    if (iat > now + skewSecs) throw new Error('was issued in the future')
    return payload
  }

  return {
    verify: async (controllerId, assertion) => {
      let payload: JWTPayload
      try {
        payload = await read(controllerId, assertion)
      } catch (error) {
        const why = error instanceof Error ? error.message : String(error)
        throw new Fault('machine.assertion', { detail: `controller ${controllerId}: ${why}` })
      }
      const until = ((payload.exp ?? 0) + skewSecs) * 1000 + 1000
      if (use.run(digest(JSON.stringify([controllerId, payload.jti])), until).changes === 0) {
        throw new Fault('machine.assertion', { detail: `controller ${controllerId}: replayed` })
      }
    },
    sweep: () => void expire.run(clock.now()),
  }
}
