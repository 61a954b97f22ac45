import { type Adapter, type AdapterPayload, Provider } from 'oidc-provider'
import type { Clock } from '../../../shared/clock.ts'
import { type DatabaseSync, transaction } from '../store/database.ts'
import { digest } from '../store/digest.ts'
import type { Sealer } from '../store/sealer.ts'

export interface ArtefactOptions {
  readonly db: DatabaseSync
  readonly sealer: Sealer
  readonly clock: Clock
  /** How long after its first use a rotated refresh token is answered with the same successor, ms. */
  readonly refreshGraceMs: number
  /** How long a dynamically registered client that nobody signed in with is kept, ms. */
  readonly unusedClientMs: number
}

export interface ArtefactStore {
  adapter(model: string): Adapter
  /** The newest refresh token that came of `token` by rotation, where there is one. */
  successorOf(token: string): string | undefined
  /** Keeps a client for `ms` from now: it was used. */
  keepClient(clientId: string, ms: number): void
  clientCount(): number
  /** Ends every browser session of a person. Returns how many. */
  endSessions(accountId: string): number
  /** Deletes what a person's agents would refresh with. */
  endTokens(accountId: string): void
  /** Deletes at most `limit` expired rows. Returns how many. */
  sweep(limit: number): number
}

/**
 * oidc-provider's storage on SQLite. Ids are bearer values (cookies, codes, refresh tokens), so that only their
 * digest is stored, and the payload, which repeats them, is sealed.
 */
export function createArtefactStore({
  db,
  sealer,
  clock,
  refreshGraceMs,
  unusedClientMs,
}: ArtefactOptions): ArtefactStore {
  const upsert = db.prepare(`
    INSERT INTO oidc_artefact (model, id, sealed, uid, grant_id, account_id, client_id, expires_at)
    VALUES (:model, :id, :sealed, :uid, :grantId, :accountId, :clientId, :expiresAt)
    ON CONFLICT (model, id) DO UPDATE SET sealed = excluded.sealed, uid = excluded.uid, grant_id = excluded.grant_id,
      account_id = excluded.account_id, client_id = excluded.client_id,
      expires_at = CASE WHEN model = 'Client' THEN expires_at ELSE excluded.expires_at END`)
  const byId = db.prepare(
    'SELECT id, sealed, consumed_at, successor FROM oidc_artefact WHERE model = ? AND id = ?',
  )
  const byUid = db.prepare('SELECT id, sealed, consumed_at FROM oidc_artefact WHERE model = ? AND uid = ?')
  const consume = db.prepare(
    'UPDATE oidc_artefact SET consumed_at = ? WHERE model = ? AND id = ? AND consumed_at IS NULL',
  )
  const succeed = db.prepare(
    "UPDATE oidc_artefact SET successor = ? WHERE model = 'RefreshToken' AND id = ? AND successor IS NULL",
  )
  const destroy = db.prepare('DELETE FROM oidc_artefact WHERE model = ? AND id = ?')
  const revoke = db.prepare('DELETE FROM oidc_artefact WHERE model = ? AND grant_id = ?')
  const keep = db.prepare("UPDATE oidc_artefact SET expires_at = ? WHERE model = 'Client' AND id = ?")
  const count = db.prepare("SELECT count(*) AS n FROM oidc_artefact WHERE model = 'Client'")
  const expired = db.prepare(
    'DELETE FROM oidc_artefact WHERE (model, id) IN (SELECT model, id FROM oidc_artefact WHERE expires_at < ? LIMIT ?)',
  )
  const sessionsOf = db.prepare("DELETE FROM oidc_artefact WHERE model = 'Session' AND account_id = ?")
  const tokensOf = db.prepare(
    "DELETE FROM oidc_artefact WHERE model IN ('RefreshToken', 'AuthorizationCode', 'Grant') AND account_id = ?",
  )
  const sealedFor = (model: string, id: string): string => `oidc:${model}:${id}`
  const successorFor = (id: string): string => `oidc:successor:${id}`

  const read = (model: string, row: Record<string, unknown> | undefined): AdapterPayload | undefined => {
    if (!row) return undefined
    const payload = JSON.parse(
      sealer.open(Buffer.from(row.sealed as Uint8Array), sealedFor(model, String(row.id))).toString(),
    ) as AdapterPayload
    const consumedAt = row.consumed_at as number | null
    // Within the grace window a spent refresh token still counts as unspent: parallel refreshes of one client, or
    // an answer that was lost on the way, are no replay. Past it, using it again ends the whole grant.
    const lenient =
      model === 'RefreshToken' && consumedAt !== null && clock.now() - consumedAt < refreshGraceMs
    if (consumedAt !== null && !lenient) payload.consumed = Math.floor(consumedAt / 1000)
    return payload
  }

  const write = (model: string, id: string, payload: AdapterPayload, expiresIn: number | undefined): void => {
    const key = digest(id)
    const lifetime =
      model === 'Client' ? unusedClientMs : expiresIn === undefined ? undefined : expiresIn * 1000
    upsert.run({
      model,
      id: key,
      sealed: sealer.seal(Buffer.from(JSON.stringify(payload)), sealedFor(model, key)),
      uid: payload.uid === undefined ? null : digest(payload.uid),
      grantId: payload.grantId ?? null,
      accountId: payload.accountId ?? null,
      clientId: payload.clientId ?? null,
      expiresAt: lifetime === undefined ? null : clock.now() + lifetime,
    })
  }

  return {
    adapter: (model) => ({
      upsert: async (id, payload, expiresIn) => {
        const rotated = model === 'RefreshToken' ? Provider.ctx?.oidc.entities.RotatedRefreshToken : undefined
        if (!rotated) return write(model, id, payload, expiresIn)
        const from = digest(rotated.jti)
        transaction(db, () => {
          // Of two refreshes at once the first one's successor stands; the other's is never stored nor answered.
          const { changes } = succeed.run(sealer.seal(Buffer.from(id), successorFor(from)), from)
          if (changes === 1) write(model, id, payload, expiresIn)
        })
      },
      find: async (id) => read(model, byId.get(model, digest(id))),
      findByUid: async (uid) => read(model, byUid.get(model, digest(uid))),
      findByUserCode: async () => undefined,
      consume: async (id) => void consume.run(clock.now(), model, digest(id)),
      destroy: async (id) => void destroy.run(model, digest(id)),
      revokeByGrantId: async (grantId) => void revoke.run(model, grantId),
    }),
    successorOf: (token) => {
      let newest: string | undefined
      let from = digest(token)
      // A chain longer than this within one grace window is no client's honest hurry.
      for (let step = 0; step < 20; step++) {
        const sealed = byId.get('RefreshToken', from)?.successor
        if (!(sealed instanceof Uint8Array)) break
        newest = sealer.open(Buffer.from(sealed), successorFor(from)).toString()
        from = digest(newest)
      }
      return newest
    },
    keepClient: (clientId, ms) => void keep.run(clock.now() + ms, digest(clientId)),
    endSessions: (accountId) => Number(sessionsOf.run(accountId).changes),
    endTokens: (accountId) => void tokensOf.run(accountId),
    clientCount: () => Number(count.get()?.n ?? 0),
    sweep: (limit) => Number(expired.run(clock.now(), limit).changes),
  }
}
