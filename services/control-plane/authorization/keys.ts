import { calculateJwkThumbprint, exportJWK, generateKeyPair, type JWK } from 'jose'
import type { Clock } from '../../../shared/clock.ts'
import { type DatabaseSync, transaction } from '../store/database.ts'
import type { Sealer } from '../store/sealer.ts'

export type SigningAlgorithm = 'RS256' | 'ES256'
const algorithms: readonly SigningAlgorithm[] = ['RS256', 'ES256']

export interface SigningKeyInfo {
  readonly kid: string
  readonly algorithm: SigningAlgorithm
  /** `next`: published, signs later; `active`: signs; `retired`: verifies what it signed until that is gone. */
  readonly state: 'next' | 'active' | 'retired'
  readonly createdAt: number
  readonly retiredAt: number | null
}

export interface SigningKeys {
  /** Those that sign first, the rest after them: the first one of an algorithm signs. */
  privateJwks(): { keys: JWK[] }
  /** What is published at the jwks endpoint and travels in the snapshot. */
  publicJwks(): { keys: JWK[] }
  list(): SigningKeyInfo[]
  /** Makes a successor of each algorithm that has none yet: published, not signing. */
  publish(): Promise<void>
  /** Successors published at least `leadMs` ago sign from now on, their predecessors retire. Returns how many. */
  promote(leadMs: number): number
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
    'INSERT INTO signing_key (kid, algorithm, sealed_jwk, public_jwk, created_at, pending) VALUES (?, ?, ?, ?, ?, ?)',
  )
  const retire = db.prepare(
    'UPDATE signing_key SET retired_at = ? WHERE algorithm = ? AND retired_at IS NULL AND pending = 0',
  )
  const activate = db.prepare('UPDATE signing_key SET pending = 0, created_at = ? WHERE kid = ?')
  const list = db.prepare(
    `SELECT kid, algorithm, sealed_jwk, public_jwk, created_at, retired_at, pending FROM signing_key
     ORDER BY retired_at IS NOT NULL, pending, created_at DESC, kid`,
  )
  const ripe = db.prepare('SELECT kid, algorithm FROM signing_key WHERE pending = 1 AND created_at <= ?')
  const forget = db.prepare('DELETE FROM signing_key WHERE retired_at IS NOT NULL AND retired_at < ?')
  const context = (kid: string): string => `signing-key:${kid}`

  const add = async (alg: SigningAlgorithm, pending: boolean): Promise<void> => {
    const { privateKey, publicKey } = await generateKeyPair(alg, { extractable: true, modulusLength: 2048 })
    const shared = { alg, use: 'sig' }
    const publicJwk = await exportJWK(publicKey)
    const kid = await calculateJwkThumbprint(publicJwk)
    const privateJwk = { ...(await exportJWK(privateKey)), ...shared, kid }
    const sealed = sealer.seal(Buffer.from(JSON.stringify(privateJwk)), context(kid))
    insert.run(
      kid,
      alg,
      sealed,
      JSON.stringify({ ...publicJwk, ...shared, kid }),
      clock.now(),
      pending ? 1 : 0,
    )
  }

  const present = db.prepare(
    'SELECT 1 FROM signing_key WHERE algorithm = ? AND retired_at IS NULL AND pending = ?',
  )
  for (const alg of algorithms) if (!present.get(alg, 0)) await add(alg, false)

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
    list: () =>
      list.all().map((row) => ({
        kid: String(row.kid),
        algorithm: String(row.algorithm) as SigningAlgorithm,
        state: row.retired_at !== null ? 'retired' : row.pending === 1 ? 'next' : 'active',
        createdAt: Number(row.created_at),
        retiredAt: row.retired_at === null ? null : Number(row.retired_at),
      })),
    publish: async () => {
      for (const alg of algorithms) if (!present.get(alg, 1)) await add(alg, true)
    },
    promote: (leadMs) => {
      const now = clock.now()
      return transaction(db, () => {
        const successors = ripe.all(now - leadMs)
        for (const { kid, algorithm } of successors) {
          retire.run(now, String(algorithm))
          activate.run(now, String(kid))
        }
        return successors.length
      })
    },
    prune: (maxAgeMs) => Number(forget.run(clock.now() - maxAgeMs).changes),
  }
}
