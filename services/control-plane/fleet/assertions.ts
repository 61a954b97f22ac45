import { decodeProtectedHeader, importJWK, type JWK, type JWTPayload, jwtVerify } from 'jose'
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
  /**
   * Throws `machine.assertion` unless the assertion proves possession of a key of the controller, once. Gives the
   * `kid` of that key. A controller that registers by attestation proves what it is each time, and never this way.
   */
  verify(controllerId: string, assertion: string): Promise<string>
  sweep(): void
}

/** A JWT client assertion (RFC 7523 §3) by `jwk`: EdDSA, `iss` = `sub` = the controller, 60 s. Throws an Error. */
export async function readAssertion(
  assertion: string,
  jwk: JWK,
  { controllerId, audience, now }: { controllerId: string; audience: string; now: number },
): Promise<JWTPayload> {
  const { payload } = await jwtVerify(assertion, await importJWK(jwk, 'EdDSA'), {
    algorithms: ['EdDSA', 'Ed25519'],
    audience,
    issuer: controllerId,
    subject: controllerId,
    requiredClaims: ['exp', 'iat', 'jti'],
    clockTolerance: skewSecs,
    currentDate: new Date(now),
  })
  const { exp = 0, iat = 0 } = payload
  if (exp - iat > maxLifeSecs || exp > now / 1000 + maxLifeSecs + skewSecs) {
    throw new Error('lives longer than 60 s')
  }
  if (iat > now / 1000 + skewSecs) throw new Error('was issued in the future')
  return payload
}

/** Each `jti` once, restarts included. */
export function createAssertions(
  db: DatabaseSync,
  clock: Clock,
  controllers: Pick<Controllers, 'find' | 'key'>,
): Assertions {
  const use = db.prepare('INSERT OR IGNORE INTO used_assertion (digest, expires_at) VALUES (?, ?)')
  const expire = db.prepare('DELETE FROM used_assertion WHERE expires_at <= ?')

  const read = async (controllerId: string, assertion: string) => {
    const controller = controllers.find(controllerId)
    if (controller && controller.provider !== null) throw new Error('registers by attestation')
    const { kid: named } = decodeProtectedHeader(assertion)
    const key = controllers.key(controllerId, named)
    if (!key) throw new Error('no such registration')
    const now = clock.now()
    const payload = await readAssertion(assertion, key.jwk, {
      controllerId,
      audience: assertionAudience,
      now,
    })
    return { payload, kid: key.kid }
  }

  return {
    verify: async (controllerId, assertion) => {
      const { payload, kid } = await read(controllerId, assertion).catch((error: unknown) => {
        const why = error instanceof Error ? error.message : String(error)
        throw new Fault('machine.assertion', { detail: `controller ${controllerId}: ${why}` })
      })
      const until = ((payload.exp ?? 0) + skewSecs) * 1000 + 1000
      if (use.run(digest(JSON.stringify([controllerId, payload.jti])), until).changes === 0) {
        throw new Fault('machine.assertion', { detail: `controller ${controllerId}: replayed` })
      }
      return kid
    },
    sweep: () => void expire.run(clock.now()),
  }
}
