import { randomUUID } from 'node:crypto'
import { z } from 'zod'
import type { Clock } from '../../../shared/clock.ts'
import type { DatabaseSync } from '../store/database.ts'
import type { Sealer } from './sealer.ts'
import type { CredentialKey } from './vault.ts'

const ticketSchema = z.object({
  id: z.string(),
  issuer: z.string(),
  subject: z.string(),
  serverId: z.string(),
  providerId: z.string(),
  /** What to ask for besides what the server asks for itself. */
  scope: z.string().optional(),
  /** Milliseconds since the epoch. */
  expiresAt: z.number(),
})
export type Ticket = z.infer<typeof ticketSchema>

export interface Tickets {
  /** What a connect link carries: for whom and which server, ten minutes, sealed. `id` names it in the audit trail. */
  make(key: CredentialKey, scope?: string): { text: string; id: string }
  /** Undefined for one that is not ours, has expired or was used. */
  read(text: unknown): Ticket | undefined
  /** Spends it; false where it was spent already. */
  use(ticket: Ticket): boolean
  sweep(): void
}

const lifeMs = 10 * 60_000
const context = 'connect-ticket'
const maxLength = 4_096

/**
 * Tickets are not stored until they are used: a gateway asks for one with each call of an agent that was not
 * connected yet, and most are never opened.
 */
export function createTickets(db: DatabaseSync, sealer: Sealer, clock: Clock): Tickets {
  const spend = db.prepare('INSERT OR IGNORE INTO used_ticket (id, expires_at) VALUES (?, ?)')
  const spent = db.prepare('SELECT 1 FROM used_ticket WHERE id = ?')
  const expire = db.prepare('DELETE FROM used_ticket WHERE expires_at <= ?')
  return {
    make: ({ issuer, subject, serverId, providerId }, scope) => {
      const id = randomUUID()
      const about = { id, issuer, subject, serverId, providerId, ...(scope === undefined ? {} : { scope }) }
      const ticket: Ticket = { ...about, expiresAt: clock.now() + lifeMs }
      return { id, text: sealer.seal(Buffer.from(JSON.stringify(ticket)), context).toString('base64url') }
    },
    read: (text) => {
      if (typeof text !== 'string' || text.length > maxLength || !/^[A-Za-z0-9_-]+$/.test(text))
        return undefined
      try {
        const plain = sealer.open(Buffer.from(text, 'base64url'), context)
        const ticket = ticketSchema.parse(JSON.parse(plain.toString('utf8')))
        return ticket.expiresAt > clock.now() && !spent.get(ticket.id) ? ticket : undefined
      } catch {
        return undefined
      }
    },
    use: (ticket) => spend.run(ticket.id, ticket.expiresAt).changes > 0,
    sweep: () => void expire.run(clock.now()),
  }
}
