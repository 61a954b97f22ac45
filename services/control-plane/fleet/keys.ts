import { randomBytes, randomUUID } from 'node:crypto'
import { CompactSign, calculateJwkThumbprint, exportJWK, generateKeyPair, importJWK, type JWK } from 'jose'
import type { Clock } from '../../../shared/clock.ts'
import type { SealingKeys } from '../../../shared/wire/credential.ts'
import type { DatabaseSync } from '../store/database.ts'
import type { Sealer } from '../store/sealer.ts'

export interface FleetKeys {
  /** Compact JWS (RFC 7515) over JSON, ES256 with `kid`. */
  signSnapshot(payload: string): Promise<string>
  /** What gateways pin at enrolment. */
  snapshotJwks(): { keys: Record<string, unknown>[] }
  /** The tenant's session-sealing keys, newest first. */
  sealingKeys(): SealingKeys
}

/** Made at first start, sealed at rest, the same ever after: a gateway's sessions and pins outlive our restarts. */
export async function createFleetKeys(db: DatabaseSync, sealer: Sealer, clock: Clock): Promise<FleetKeys> {
  const list = db.prepare(
    'SELECT kid, sealed, public_jwk FROM fleet_key WHERE purpose = ? ORDER BY created_at DESC, kid',
  )
  const insert = db.prepare(
    'INSERT INTO fleet_key (kid, purpose, sealed, public_jwk, created_at) VALUES (?, ?, ?, ?, ?)',
  )
  const context = (purpose: string, kid: unknown): string => `fleet-key:${purpose}:${String(kid)}`
  const add = (purpose: string, kid: string, secret: Buffer, publicJwk: JWK | null): void =>
    void insert.run(
      kid,
      purpose,
      sealer.seal(secret, context(purpose, kid)),
      publicJwk && JSON.stringify(publicJwk),
      clock.now(),
    )
  const open = (purpose: string, row: Record<string, unknown>): Buffer =>
    sealer.open(Buffer.from(row.sealed as Uint8Array), context(purpose, row.kid))

  if (!list.get('snapshot')) {
    const pair = await generateKeyPair('ES256', { extractable: true })
    const publicJwk = await exportJWK(pair.publicKey)
    const kid = await calculateJwkThumbprint(publicJwk)
    const privateJwk = Buffer.from(JSON.stringify(await exportJWK(pair.privateKey)))
    add('snapshot', kid, privateJwk, { ...publicJwk, kid, alg: 'ES256', use: 'sig' })
  }
  if (!list.get('session')) add('session', randomUUID(), randomBytes(32), null)

  const signing = list.get('snapshot')!
  const key = await importJWK(JSON.parse(open('snapshot', signing).toString('utf8')) as JWK, 'ES256')
  const jwks = list
    .all('snapshot')
    .map((row) => JSON.parse(String(row.public_jwk)) as Record<string, unknown>)
  const sealing = list.all('session').map((row) => ({
    kid: String(row.kid),
    key: open('session', row).toString('base64url'),
  }))
  return {
    signSnapshot: (payload) =>
      new CompactSign(Buffer.from(payload))
        .setProtectedHeader({ alg: 'ES256', kid: String(signing.kid), typ: 'snapshot+json' })
        .sign(key),
    snapshotJwks: () => ({ keys: jwks }),
    sealingKeys: () => ({ keys: sealing }),
  }
}
