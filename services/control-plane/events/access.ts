import { randomUUID } from 'node:crypto'
import type { Clock } from '../../../shared/clock.ts'
import type { Decision } from '../../../shared/policy.ts'
import type { Decided } from '../../../shared/wire/event.ts'
import type { DatabaseSync } from '../store/database.ts'

export interface Named {
  readonly id: string
  readonly name: string
}

/** An access authorization event, in the field names that log consumers know. Holds no secret. */
export interface AccessEvent {
  readonly eventType: 'access.request' | 'access.authorization' | 'access.discovery' | 'access.credential'
  readonly severity: 'Error' | 'Warning' | 'Info'
  readonly outcome: { readonly result: 'Authorized' | 'Unauthorized' | 'Error'; readonly reason?: string }
  /** The client's address, where it is known. */
  readonly clientIp?: string
  /** Where the client wants to go. */
  readonly target?: { readonly host: string; readonly port: number }
  /** Ours: the person and the agent. */
  readonly environment: {
    /** Null where nobody was signed in yet. */
    readonly userId: string | null
    readonly oauthClientId: string | null
    /** What the person was shown, to be found again by. */
    readonly reference?: string
  }
  readonly clientWorkload?: Named & { readonly result: 'Identified' }
  readonly serverWorkload?: Named & { readonly result: 'Identified' }
  /** Ours: what policy decided, whether or not a policy is named. */
  readonly decision?: Decided
  readonly accessPolicy?: Named & { readonly result: 'Identified' }
  readonly trustProviders?: readonly (Named & {
    readonly result: 'Attested' | 'Unauthorized'
    /** MatchRuleFailed, InvalidSignature, NoDataFound or ConditionFailed. */
    readonly reason?: string
  })[]
  readonly credentialProvider?: Named & {
    readonly result: 'Identified' | 'Retrieved'
    readonly type: string
    /** Seconds that the credential is good for; absent where it knows no end. */
    readonly maxAge?: number
    readonly reason?: string
  }
}

export interface AccessEventQuery {
  readonly spanLastHours: number
  readonly severity?: string | undefined
  readonly user?: string | undefined
  readonly server?: string | undefined
  readonly page: number
  readonly perPage: number
}

export interface AccessEvents {
  /** The event's id, for the authorization chain of what it allows. */
  add(event: AccessEvent): string
  /** Newest first. */
  query(query: AccessEventQuery): { events: unknown[]; total: number }
  sweep(): void
}

export const decidedOf = ({ policyVersion, rule, reason }: Decision): Decided => ({
  policyVersion,
  rule,
  reasonCode: reason,
})

const defaultResourceSet = 'ffffffff-ffff-ffff-ffff-ffffffffffff'

/** Retention is that of workload events: by age and by number. */
export function createAccessEvents(
  db: DatabaseSync,
  clock: Clock,
  limits: () => { maxAgeMs: number; maxRows: number },
): AccessEvents {
  const insert =
    db.prepare(`INSERT INTO authorization_event (at, event_type, severity, user_id, server_id, body)
    VALUES (?, ?, ?, ?, ?, ?)`)
  const where = `at >= ?1 AND (?2 IS NULL OR severity = ?2) AND (?3 IS NULL OR user_id = ?3)
    AND (?4 IS NULL OR server_id = ?4)`
  const page = db.prepare(
    `SELECT body FROM authorization_event WHERE ${where} ORDER BY seq DESC LIMIT ?5 OFFSET ?6`,
  )
  const count = db.prepare(`SELECT count(*) AS n FROM authorization_event WHERE ${where}`)
  const expire = db.prepare(
    'DELETE FROM authorization_event WHERE at < ? OR seq <= (SELECT coalesce(max(seq), 0) FROM authorization_event) - ?',
  )
  return {
    add: ({ eventType, severity, outcome, clientIp, target, environment, ...objects }) => {
      const at = clock.now()
      const eventId = randomUUID()
      const meta = {
        clientIP: clientIp ?? null,
        timestamp: new Date(at).toISOString(),
        eventType,
        eventId,
        resourceSetId: defaultResourceSet,
        contextId: randomUUID(),
        severity,
      }
      const network = {
        sourceIP: clientIp ?? null,
        sourcePort: null,
        transportProtocol: 'TCP',
        proxyPort: null,
        targetHost: target?.host ?? null,
        targetPort: target?.port ?? null,
      }
      const body = { meta, clientRequest: { version: '1.0.0', network }, environment, outcome, ...objects }
      const server = objects.serverWorkload?.id ?? null
      insert.run(at, eventType, severity, environment.userId, server, JSON.stringify(body))
      return eventId
    },
    query: ({ spanLastHours, severity = null, user = null, server = null, page: number, perPage }) => {
      const filter = [clock.now() - spanLastHours * 3_600_000, severity, user, server] as const
      return {
        events: page
          .all(...filter, perPage, (number - 1) * perPage)
          .map((row) => JSON.parse(String(row.body))),
        total: Number(count.get(...filter)?.n ?? 0),
      }
    },
    sweep: () => {
      const { maxAgeMs, maxRows } = limits()
      expire.run(clock.now() - maxAgeMs, maxRows)
    },
  }
}
