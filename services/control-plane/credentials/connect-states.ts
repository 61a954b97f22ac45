import { z } from 'zod'
import type { Clock } from '../../../shared/clock.ts'
import type { DatabaseSync } from '../store/database.ts'
import { digest } from '../store/digest.ts'
import { authorizationServerSchema } from './discovery.ts'
import type { Sealer } from './sealer.ts'

const stateSchema = z.object({
  issuer: z.string(),
  subject: z.string(),
  serverId: z.string(),
  providerId: z.string(),
  /** Digest of the browser's cookie. */
  browser: z.string(),
  verifier: z.string().nullable(),
  clientId: z.string(),
  resource: z.string().optional(),
  issuerKnown: z.boolean(),
  scope: z.string().nullable(),
  redirectUri: z.string(),
  /** Recorded before the browser leaves: the answer is checked against this one and exchanged nowhere else. */
  server: authorizationServerSchema,
})
export type ConnectState = z.infer<typeof stateSchema>

export interface ConnectStates {
  put(state: string, value: ConnectState): void
  /** Undefined where unknown, expired or taken before. The first call takes it, whatever comes of it. */
  take(state: unknown): ConnectState | undefined
  sweep(): void
}

const lifeMs = 10 * 60_000
const maxStates = 20_000

/** Authorizations that are away at a server's authorization server: by the state's digest, sealed, single use. */
export function createConnectStates(db: DatabaseSync, sealer: Sealer, clock: Clock): ConnectStates {
  const insert = db.prepare('INSERT INTO connect_state (state, sealed, expires_at) VALUES (?, ?, ?)')
  const trim = db.prepare(`DELETE FROM connect_state WHERE state IN (
    SELECT state FROM connect_state ORDER BY expires_at DESC LIMIT -1 OFFSET ${maxStates})`)
  const remove = db.prepare('DELETE FROM connect_state WHERE state = ? RETURNING sealed, expires_at')
  const expire = db.prepare('DELETE FROM connect_state WHERE expires_at <= ?')
  const context = (id: string): string => `connect-state:${id}`
  return {
    put: (state, value) => {
      const id = digest(state)
      insert.run(id, sealer.seal(Buffer.from(JSON.stringify(value)), context(id)), clock.now() + lifeMs)
      trim.run()
    },
    take: (state) => {
      if (typeof state !== 'string' || state.length > 200) return undefined
      const id = digest(state)
      const row = remove.get(id)
      if (!row || Number(row.expires_at) <= clock.now()) return undefined
      const plain = sealer.open(Buffer.from(row.sealed as Uint8Array), context(id))
      return stateSchema.parse(JSON.parse(plain.toString('utf8')))
    },
    sweep: () => void expire.run(clock.now()),
  }
}
