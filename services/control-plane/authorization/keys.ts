import { calculateJwkThumbprint, exportJWK, generateKeyPair, type JWK } from 'jose'
import type { Clock } from '../../../shared/clock.ts'
import { type DatabaseSync, transaction } from '../store/database.ts'
import type { Sealer } from '../store/sealer.ts'

export type SigningAlgorithm = 'RS256' | 'ES256'
const algorithms: readonly SigningAlgorithm[] = ['RS256', 'ES256']

export interface SigningKeys {
  /** Newest first within an algorithm; the first one of an algorithm signs. */
  privateJwks(): { keys: JWK[] }
  /** What is published at the jwks endpoint and travels in the snapshot. */
  publicJwks(): { keys: JWK[] }
  /** Makes a new key of each algorithm; the old ones stay published, but no longer sign. */
  rotate(): Promise<void>
  /** Forgets retired keys older than `maxAgeMs`: longer than any token they signed may live. */
  prune(maxAgeMs: number): number
}

/**
 * The authorization server's signing keys: RS256 (2048 bit) and ES256, made at first start, private halves sealed
 * at rest, `kid` the RFC 7638 thumbprint.
 */
export async function createSigningKeys(
  db: DatabaseSync,
  sealer: Sealer,
  clock: Clock,
): Promise<SigningKeys> {
  const insert = db.prepare(
    'INSERT INTO signing_key (kid, algorithm, sealed_jwk, public_jwk, created_at) VALUES (?, ?, ?, ?, ?)',
  )
  const retire = db.prepare(
    'UPDATE signing_key SET retired_at = ? WHERE algorithm = ? AND retired_at IS NULL AND kid <> ?',
  )
  const list = db.prepare(
    'SELECT kid, sealed_jwk, public_jwk FROM signing_key ORDER BY retired_at IS NOT NULL, created_at DESC, kid',
  )
  const forget = db.prepare('DELETE FROM signing_key WHERE retired_at IS NOT NULL AND retired_at < ?')
  const context = (kid: string): string => `signing-key:${kid}`

  const add = async (alg: SigningAlgorithm): Promise<void> => {
    const { privateKey, publicKey } = await generateKeyPair(alg, { extractable: true, modulusLength: 2048 })
    const shared = { alg, use: 'sig' }
    const publicJwk = await exportJWK(publicKey)
    const kid = await calculateJwkThumbprint(publicJwk)
    const privateJwk = { ...(await exportJWK(privateKey)), ...shared, kid }
    transaction(db, () => {
      insert.run(
        kid,
        alg,
        sealer.seal(Buffer.from(JSON.stringify(privateJwk)), context(kid)),
        JSON.stringify({ ...publicJwk, ...shared, kid }),
        clock.now(),
      )
      retire.run(clock.now(), alg, kid)
    })
  }

  const present = db.prepare('SELECT 1 FROM signing_key WHERE algorithm = ? AND retired_at IS NULL')
  for (const alg of algorithms) if (!present.get(alg)) await add(alg)

  return {
    privateJwks: () => ({
      keys: list.all().map((row) => {
        const kid = String(row.kid)
        return JSON.parse(
          sealer.open(Buffer.from(row.sealed_jwk as Uint8Array), context(kid)).toString(),
        ) as JWK
      }),
    }),
    publicJwks: () => ({ keys: list.all().map((row) => JSON.parse(String(row.public_jwk)) as JWK) }),
    rotate: async () => {
      for (const alg of algorithms) await add(alg)
    },
    prune: (maxAgeMs) => Number(forget.run(clock.now() - maxAgeMs).changes),
  }
}
