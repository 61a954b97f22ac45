import { randomBytes } from 'node:crypto'
import type { Clock } from '../../../shared/clock.ts'
import { Fault } from '../../../shared/faults.ts'
import type { DatabaseSync } from '../store/database.ts'
import { digest } from '../store/digest.ts'

export type MachineKind = 'controller' | 'gateway'

export interface MachineTokens {
  /** A fresh bearer token. `lifetimeMs` from now; `expiresAt` in milliseconds since the epoch. */
  issue(
    kind: MachineKind,
    ownerId: string,
    lifetimeMs: number,
    /** Of a gateway: `kid` of the machine that vouches for it. */
    machine?: string,
  ): { token: string; expiresAt: number }
  /** Whose token an Authorization header carries. Throws `machine.token`. */
  authenticate(kind: MachineKind, authorization: string | undefined): { ownerId: string; expiresAt: number }
  /** Whether that token is still one: neither over nor taken back. */
  holds(kind: MachineKind, authorization: string | undefined): boolean
  /** Those of `owner` and of everything below it: `controller` takes back `controller/machine` too. */
  revoke(kind: MachineKind, owner: string): void
  sweep(): void
}

/**
 * Opaque random tokens, stored as SHA-256. Not signed JWTs: one service issues and checks them, so a look-up costs
 * nothing that matters, takes them back at once, and there is no signing key to keep or confuse with another. A token
 * of 256 random bits is found by its digest, so the time of the look-up says nothing about other tokens.
 */
export function createMachineTokens(db: DatabaseSync, clock: Clock): MachineTokens {
  const insert = db.prepare(
    'INSERT INTO machine_token (digest, kind, owner_id, expires_at, machine) VALUES (?, ?, ?, ?, ?)',
  )
  const live = db.prepare(
    'SELECT owner_id, expires_at FROM machine_token WHERE digest = ? AND kind = ? AND expires_at > ?',
  )
  const remove = db.prepare(
    "DELETE FROM machine_token WHERE kind = ?1 AND (owner_id = ?2 OR substr(owner_id, 1, length(?2) + 1) = ?2 || '/')",
  )
  const expire = db.prepare('DELETE FROM machine_token WHERE expires_at <= ?')
  const find = (kind: MachineKind, authorization: string | undefined) => {
    const token = /^Bearer ([A-Za-z0-9_-]{43})$/i.exec(authorization ?? '')?.[1]
    return token === undefined ? undefined : live.get(digest(token), kind, clock.now())
  }
  return {
    issue: (kind, ownerId, lifetimeMs, machine) => {
      const token = randomBytes(32).toString('base64url')
      const expiresAt = clock.now() + lifetimeMs
      insert.run(digest(token), kind, ownerId, expiresAt, machine ?? null)
      return { token, expiresAt }
    },
    authenticate: (kind, authorization) => {
      const row = find(kind, authorization)
      if (!row) throw new Fault('machine.token')
      return { ownerId: String(row.owner_id), expiresAt: Number(row.expires_at) }
    },
    holds: (kind, authorization) => find(kind, authorization) !== undefined,
    revoke: (kind, owner) => void remove.run(kind, owner),
    sweep: () => void expire.run(clock.now()),
  }
}
