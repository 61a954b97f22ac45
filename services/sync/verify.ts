import { calculateJwkThumbprint, compactVerify, importJWK, type JWK } from 'jose'
import { Fault } from '../../shared/faults.ts'
import { type Snapshot, snapshotSchema } from '../../shared/wire/snapshot.ts'
import type { Pins } from './last-good.ts'

export interface VerifiedSnapshot {
  readonly snapshot: Snapshot
  /** The signed bytes: what proxies read. */
  readonly payload: Uint8Array
}

/**
 * A compact JWS (RFC 7515 §7.1) as the snapshot it holds. ES256 alone, under the pinned key that its `kid` names;
 * the tenant must be the pinned one. Throws `snapshot.refused`, before the payload was looked at where the
 * signature fails.
 */
export async function verifySnapshot(jws: string, pins: Pins): Promise<VerifiedSnapshot> {
  const refuse = (detail: string, cause?: unknown): Fault => new Fault('snapshot.refused', { detail, cause })
  let payload: Uint8Array
  try {
    const verified = await compactVerify(
      jws,
      async ({ kid }) => {
        const key = pins.jwks.keys.find((candidate) => kid !== undefined && candidate.kid === kid)
        if (!key) throw new Error(`no pinned key is named ${JSON.stringify(kid)}`)
        return importJWK(key as JWK, 'ES256')
      },
      { algorithms: ['ES256'] },
    )
    payload = verified.payload
  } catch (error) {
    throw refuse(`signature: ${error instanceof Error ? error.message : String(error)}`, error)
  }
  let json: unknown
  try {
    json = JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(payload))
  } catch (error) {
    throw refuse('the payload is not JSON', error)
  }
  const parsed = snapshotSchema.safeParse(json)
  if (!parsed.success) {
    const where = parsed.error.issues.slice(0, 5).map((issue) => `${issue.path.join('.')}: ${issue.message}`)
    throw refuse(`another format than this version reads: ${where.join('; ')}`)
  }
  if (parsed.data.tenantId !== pins.tenantId) {
    throw refuse(`it is of tenant ${parsed.data.tenantId}, this gateway belongs to ${pins.tenantId}`)
  }
  return { snapshot: parsed.data, payload }
}

/**
 * Whether `next` is the same authority as `former`: one tenant, and a key in common. A rotation overlaps; where
 * nothing does, the control plane was set up anew and its versions start again.
 */
export async function sameAuthority(former: Pins, next: Pins): Promise<boolean> {
  if (former.tenantId !== next.tenantId) return false
  const prints = async (pins: Pins): Promise<string[]> =>
    Promise.all(pins.jwks.keys.map((key) => calculateJwkThumbprint(key as JWK).catch(() => '')))
  const known = new Set((await prints(former)).filter((print) => print !== ''))
  return (await prints(next)).some((print) => known.has(print))
}
