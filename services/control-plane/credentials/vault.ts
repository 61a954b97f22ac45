import { randomInt } from 'node:crypto'
import { z } from 'zod'
import type { Clock } from '../../../shared/clock.ts'
import { Fault } from '../../../shared/faults.ts'
import { type DatabaseSync, transaction } from '../store/database.ts'
import { authorizationServerSchema } from './discovery.ts'
import type { Sealer } from './sealer.ts'

/** Whose credential at which server, and which provider got it. */
export interface CredentialKey {
  readonly issuer: string
  readonly subject: string
  readonly serverId: string
  readonly providerId: string
}

/** One string for one credential, as the key of maps. */
export const idOf = ({ issuer, subject, serverId, providerId }: CredentialKey): string =>
  JSON.stringify([issuer, subject, serverId, providerId])

/** What log lines say of a credential. */
export const about = ({ subject, serverId, providerId }: CredentialKey) => ({ subject, serverId, providerId })

/** What is secret of a connection, and what it takes to refresh and revoke it. */
const tokenSetSchema = z.object({
  accessToken: z.string(),
  refreshToken: z.string().nullable(),
  clientId: z.string(),
  resource: z.string().optional(),
  server: authorizationServerSchema,
})
export type TokenSet = z.infer<typeof tokenSetSchema>

export interface StoredCredential extends CredentialKey {
  readonly version: number
  readonly state: 'connected' | 'broken'
  /** How the server's authorization server calls the person, where it said so. */
  readonly account: string | null
  /** As granted, space-separated. */
  readonly scopes: string
  /** As asked for. */
  readonly requestedScopes: string
  readonly authorizationServer: string
  /** Milliseconds since the epoch, as all times here; null where the token knows no end. */
  readonly expiresAt: number | null
  readonly connectedAt: number
  readonly refreshedAt: number
  readonly lastUsedAt: number | null
  readonly lastError: string | null
  /** Who authorized it for everyone; null for a person's own. */
  readonly connectedBy: string | null
}

export interface NewTokens {
  readonly tokens: TokenSet
  readonly scopes: string
  readonly expiresAt: number | null
}

export interface Vault {
  find(key: CredentialKey): StoredCredential | undefined
  /** Connected, used lately, and ending within the longest time ahead that any is renewed. */
  endingSoon(): StoredCredential[]
  list(issuer: string, subject: string): StoredCredential[]
  /** Throws Fault `internal` where the row is not the one that was sealed. */
  open(stored: CredentialKey): TokenSet
  /** A new connection in place of a former one. */
  connect(
    key: CredentialKey,
    fresh: NewTokens,
    account: string | null,
    requestedScopes: string,
    by?: string,
  ): void
  /** Replaces the tokens unless the connection changed since `stored`; answers whether it did. */
  swap(stored: StoredCredential, fresh: NewTokens): boolean
  /** The connection needs its owner; the same condition. */
  markBroken(stored: StoredCredential, error: string): boolean
  noteError(stored: StoredCredential, error: string): void
  used(stored: StoredCredential): void
  remove(key: CredentialKey): void
}

const maxSealedBytes = 128 << 10
/** A use is written down at most this often: a busy connection should not cost a write per call. */
const useEveryMs = 60_000
/** How long ahead of its end a token is renewed at most. */
export const longestAheadMs = 60_000
/** Somebody who used it in this time is about to use it again. */
const lately = 15 * 60_000
const maxEnding = 1_000

/** People's tokens, sealed; a row's four keys are the seal's context, so that a row moved to another person does not open. */
export function createVault(db: DatabaseSync, sealer: Sealer, clock: Clock): Vault {
  const where = 'issuer = ? AND subject = ? AND server_id = ? AND provider_id = ?'
  const select = db.prepare(`SELECT * FROM user_credential WHERE ${where}`)
  const selectAll = db.prepare(
    'SELECT * FROM user_credential WHERE issuer = ? AND subject = ? ORDER BY server_id, provider_id',
  )
  const insert = db.prepare(`INSERT INTO user_credential
    (issuer, subject, server_id, provider_id, version, state, sealed, account, scopes, requested_scopes,
     authorization_server, expires_at, connected_at, refreshed_at, connected_by)
    VALUES (?, ?, ?, ?, ?, 'connected', ?, ?, ?, ?, ?, ?, ?, ?, ?)
    ON CONFLICT DO UPDATE SET version = excluded.version, state = 'connected', sealed = excluded.sealed,
      account = excluded.account, scopes = excluded.scopes,
      requested_scopes = excluded.requested_scopes, authorization_server = excluded.authorization_server,
      expires_at = excluded.expires_at, connected_at = excluded.connected_at, refreshed_at = excluded.refreshed_at,
      connected_by = excluded.connected_by, last_error = NULL`)
  const selectEnding = db.prepare(`SELECT * FROM user_credential
    WHERE state = 'connected' AND expires_at < ? AND last_used_at > ? ORDER BY expires_at LIMIT ${maxEnding}`)
  const update =
    db.prepare(`UPDATE user_credential SET version = version + 1, state = 'connected', sealed = ?,
    scopes = ?, expires_at = ?, refreshed_at = ?, last_error = NULL WHERE ${where} AND version = ?`)
  const breakRow = db.prepare(
    `UPDATE user_credential SET version = version + 1, state = 'broken', last_error = ? WHERE ${where} AND version = ?`,
  )
  const note = db.prepare(`UPDATE user_credential SET last_error = ? WHERE ${where} AND version = ?`)
  const touch = db.prepare(`UPDATE user_credential SET last_used_at = ? WHERE ${where}`)
  const drop = db.prepare(`DELETE FROM user_credential WHERE ${where}`)

  const at = (key: CredentialKey) => [key.issuer, key.subject, key.serverId, key.providerId] as const
  const context = (key: CredentialKey): string => `user-credential:${JSON.stringify(at(key))}`
  const seal = (key: CredentialKey, tokens: TokenSet): Buffer => {
    const plain = Buffer.from(JSON.stringify(tokens))
    if (plain.length > maxSealedBytes) {
      throw new Fault('upstream.garbage', { detail: 'the token answer is larger than 128 KiB' })
    }
    return sealer.seal(plain, context(key))
  }
  const find = (key: CredentialKey): StoredCredential | undefined => {
    const row = select.get(...at(key))
    return row && read(row)
  }

  return {
    find,
    list: (issuer, subject) => selectAll.all(issuer, subject).map(read),
    open: (key) => {
      const row = select.get(...at(key))
      if (!row) throw new Fault('internal', { detail: 'the credential is gone' })
      const plain = sealer.open(Buffer.from(row.sealed as Uint8Array), context(key))
      return tokenSetSchema.parse(JSON.parse(plain.toString('utf8')))
    },
    endingSoon: () => selectEnding.all(clock.now() + longestAheadMs, clock.now() - lately).map(read),
    connect: (key, { tokens, scopes, expiresAt }, account, requestedScopes, by) =>
      transaction(db, () => {
        const now = clock.now()
        const former = find(key)
        // A row that comes back does not start where one began that is gone: a late answer of that one would fit.
        const version = former ? former.version + 1 : randomInt(1, 2 ** 47)
        const sealed = seal(key, tokens)
        insert.run(
          ...at(key),
          version,
          sealed,
          account,
          scopes,
          requestedScopes,
          tokens.server.issuer,
          expiresAt,
          now,
          now,
          by ?? null,
        )
      }),
    swap: (stored, { tokens, scopes, expiresAt }) =>
      update.run(seal(stored, tokens), scopes, expiresAt, clock.now(), ...at(stored), stored.version)
        .changes > 0,
    markBroken: (stored, error) => breakRow.run(error, ...at(stored), stored.version).changes > 0,
    noteError: (stored, error) => void note.run(error, ...at(stored), stored.version),
    used: (stored) => {
      const now = clock.now()
      if (now - (stored.lastUsedAt ?? 0) >= useEveryMs) touch.run(now, ...at(stored))
    },
    remove: (key) => void drop.run(...at(key)),
  }
}

function read(row: Record<string, unknown>): StoredCredential {
  const number = (value: unknown) => (value === null ? null : Number(value))
  const text = (value: unknown) => (value === null ? null : String(value))
  return {
    issuer: String(row.issuer),
    subject: String(row.subject),
    serverId: String(row.server_id),
    providerId: String(row.provider_id),
    version: Number(row.version),
    state: row.state === 'connected' ? 'connected' : 'broken',
    account: text(row.account),
    scopes: String(row.scopes),
    requestedScopes: String(row.requested_scopes),
    authorizationServer: String(row.authorization_server),
    expiresAt: number(row.expires_at),
    connectedAt: Number(row.connected_at),
    refreshedAt: Number(row.refreshed_at),
    lastUsedAt: number(row.last_used_at),
    lastError: text(row.last_error),
    connectedBy: text(row.connected_by),
  }
}
