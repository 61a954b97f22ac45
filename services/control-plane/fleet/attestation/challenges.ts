import { createHmac, randomBytes, timingSafeEqual } from 'node:crypto'
import type { Clock } from '../../../../shared/clock.ts'
import type { Challenge } from '../../../../shared/wire/attestation.ts'
import type { DatabaseSync } from '../../store/database.ts'
import { digest } from '../../store/digest.ts'
import { EvidenceError } from './types.ts'

const lifeMs = 120_000
const randomBytesCount = 16
const timeBytes = 6
const macBytes = 16

export interface Challenges {
  make(controllerId: string, kid: string): Challenge
  /** The ten digits of a challenge of ours. Throws EvidenceError for a foreign, an old and a used one. */
  spend(challenge: string, controllerId: string, kid: string): string
}

/**
 * Challenges are not stored until they are spent, so that asking for them costs no room: random bytes and an end, under
 * a MAC that names controller and key. Nobody else's key can use one that was seen on its way.
 */
export function createChallenges(db: DatabaseSync, clock: Clock, secret: Buffer): Challenges {
  const use = db.prepare('INSERT OR IGNORE INTO used_assertion (digest, expires_at) VALUES (?, ?)')
  const mac = (purpose: string, ...parts: (string | Buffer)[]): Buffer => {
    const hmac = createHmac('sha256', secret).update(purpose)
    for (const part of parts) hmac.update(`\n${part.length}\n`).update(part)
    return hmac.digest()
  }
  /** Not to be known before the challenge is: from the MAC's secret. */
  const nonceOf = (challenge: string): string =>
    String(mac('nonce', challenge).readBigUInt64BE() % 10_000_000_000n).padStart(10, '0')

  return {
    make: (controllerId, kid) => {
      const body = Buffer.alloc(randomBytesCount + timeBytes)
      randomBytes(randomBytesCount).copy(body)
      body.writeUIntBE(clock.now() + lifeMs, randomBytesCount, timeBytes)
      const tag = mac('challenge', controllerId, kid, body).subarray(0, macBytes)
      const challenge = Buffer.concat([body, tag]).toString('base64url')
      return { challenge, nonce: nonceOf(challenge) }
    },
    spend: (challenge, controllerId, kid) => {
      const bytes = Buffer.from(challenge, 'base64url')
      if (
        bytes.length !== randomBytesCount + timeBytes + macBytes ||
        bytes.toString('base64url') !== challenge
      ) {
        throw new EvidenceError('the challenge is not one of ours')
      }
      const body = bytes.subarray(0, randomBytesCount + timeBytes)
      const tag = mac('challenge', controllerId, kid, body).subarray(0, macBytes)
      if (!timingSafeEqual(tag, bytes.subarray(randomBytesCount + timeBytes))) {
        throw new EvidenceError('the challenge was not made for this controller and key')
      }
      const until = body.readUIntBE(randomBytesCount, timeBytes)
      if (until <= clock.now()) throw new EvidenceError('the challenge is older than two minutes')
      if (use.run(digest(`challenge:${challenge}`), until + 1000).changes === 0) {
        throw new EvidenceError('the challenge was used before')
      }
      return nonceOf(challenge)
    },
  }
}
