import type { Clock } from '../../../shared/clock.ts'
import { type DatabaseSync, transaction } from '../store/database.ts'
import { redirectKey } from './clients.ts'

export interface ConsentKey {
  readonly subject: string
  readonly clientId: string
  readonly redirectUri: string
  readonly resource: string
}

export interface Grants {
  /** Whether the person agreed to all of `scopes` for this client at this redirect URI before. */
  consented(key: ConsentKey, scopes: readonly string[]): boolean
  consent(key: ConsentKey, scopes: readonly string[]): void
  /** Notes where an authorization's code goes. `lifetimeMs`: how long its tokens may live. */
  record(grantId: string, key: ConsentKey, lifetimeMs: number, browserIp?: string): void
  redirectUriOf(grantId: string): string | undefined
  /** What a person agreed to, newest first; 500 at most. */
  list(subject: string): { clientId: string; redirect: string; scopes: string[]; grantedAt: number }[]
  /** Forgets the agreement and every authorization that came of it. False where there was none. */
  withdraw(subject: string, clientId: string): boolean
  /** Address of the browser that the person authorized with. */
  browserIpOf(grantId: string): string | undefined
  sweep(): void
}

/**
 * What people agreed to. Each authorization is a grant of its own, so that a replayed refresh token ends that one
 * alone and not the person's other windows; the agreement outlives it.
 */
export function createGrants(db: DatabaseSync, clock: Clock): Grants {
  const find = db.prepare(
    'SELECT scopes FROM consent WHERE subject = ? AND client_id = ? AND redirect = ? AND resource = ?',
  )
  const put = db.prepare(`INSERT INTO consent (subject, client_id, redirect, resource, scopes, granted_at)
    VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (subject, client_id, redirect, resource)
    DO UPDATE SET scopes = excluded.scopes, granted_at = excluded.granted_at`)
  const insert = db.prepare(`INSERT INTO authorization_grant
    (grant_id, subject, client_id, redirect_uri, created_at, expires_at, browser_ip) VALUES (?, ?, ?, ?, ?, ?, ?)`)
  const redirect = db.prepare('SELECT redirect_uri, browser_ip FROM authorization_grant WHERE grant_id = ?')
  const ofPerson = db.prepare(
    'SELECT client_id, redirect, scopes, granted_at FROM consent WHERE subject = ? ORDER BY granted_at DESC LIMIT 500',
  )
  const forget = db.prepare('DELETE FROM consent WHERE subject = ? AND client_id = ?')
  const end = db.prepare('DELETE FROM authorization_grant WHERE subject = ? AND client_id = ?')
  const old = db.prepare('DELETE FROM authorization_grant WHERE expires_at < ?')

  const scopesOf = (key: ConsentKey): string[] => {
    const row = find.get(key.subject, key.clientId, redirectKey(key.redirectUri), key.resource)
    return row ? (JSON.parse(String(row.scopes)) as string[]) : []
  }
  return {
    consented: (key, scopes) => {
      const agreed = scopesOf(key)
      return agreed.length > 0 && scopes.every((scope) => agreed.includes(scope))
    },
    consent: (key, scopes) => {
      const all = [...new Set([...scopesOf(key), ...scopes])]
      put.run(
        key.subject,
        key.clientId,
        redirectKey(key.redirectUri),
        key.resource,
        JSON.stringify(all),
        clock.now(),
      )
    },
    record: (grantId, key, lifetimeMs, browserIp) => {
      const now = clock.now()
      insert.run(
        grantId,
        key.subject,
        key.clientId,
        key.redirectUri,
        now,
        now + lifetimeMs,
        browserIp ?? null,
      )
    },
    redirectUriOf: (grantId) => {
      const row = redirect.get(grantId)
      return row && String(row.redirect_uri)
    },
    browserIpOf: (grantId) => {
      const address = redirect.get(grantId)?.browser_ip
      return typeof address === 'string' ? address : undefined
    },
    list: (subject) =>
      ofPerson.all(subject).map((row) => ({
        clientId: String(row.client_id),
        redirect: String(row.redirect),
        scopes: JSON.parse(String(row.scopes)) as string[],
        grantedAt: Number(row.granted_at),
      })),
    withdraw: (subject, clientId) =>
      transaction(db, () => {
        const gone = forget.run(subject, clientId).changes
        // A refresh is decided on the authorization it came of: without it there is no next token.
        return Number(end.run(subject, clientId).changes) + Number(gone) > 0
      }),
    sweep: () => void old.run(clock.now()),
  }
}
