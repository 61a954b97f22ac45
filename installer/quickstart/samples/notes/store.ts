import { DatabaseSync } from 'node:sqlite'
import type { Adapter, AdapterPayload } from 'oidc-provider'

/**
 * What the notes server remembers over a restart: its people's notes, its signing key, and the authorization
 * server's clients, grants and tokens, so that connections made through the gateway live on.
 */
export interface NotesStore {
  notes(account: string): string[]
  addNote(account: string, text: string): number
  /** The value kept under `name`, made by `create` the first time. */
  keep<T>(name: string, create: () => Promise<T>): Promise<T>
  adapter(model: string): Adapter
  close(): void
}

export function openNotesStore(path: string): NotesStore {
  const db = new DatabaseSync(path)
  db.exec(`
    PRAGMA journal_mode = WAL;
    CREATE TABLE IF NOT EXISTS notes (id INTEGER PRIMARY KEY, account TEXT NOT NULL, text TEXT NOT NULL);
    CREATE TABLE IF NOT EXISTS kept (name TEXT PRIMARY KEY, value TEXT NOT NULL);
    CREATE TABLE IF NOT EXISTS oidc (
      model TEXT NOT NULL, id TEXT NOT NULL, payload TEXT NOT NULL,
      grant_id TEXT, uid TEXT, expires_at INTEGER, PRIMARY KEY (model, id));
    CREATE INDEX IF NOT EXISTS oidc_grant ON oidc (grant_id);
    DELETE FROM oidc WHERE expires_at < unixepoch();
  `)
  const selectNotes = db.prepare('SELECT text FROM notes WHERE account = ? ORDER BY id LIMIT 1000')
  const insertNote = db.prepare('INSERT INTO notes (account, text) VALUES (?, ?)')
  const selectKept = db.prepare('SELECT value FROM kept WHERE name = ?')
  const insertKept = db.prepare('INSERT INTO kept (name, value) VALUES (?, ?)')
  const upsert = db.prepare(`
    INSERT INTO oidc (model, id, payload, grant_id, uid, expires_at) VALUES (?, ?, ?, ?, ?, ?)
    ON CONFLICT (model, id) DO UPDATE SET payload = excluded.payload, expires_at = excluded.expires_at`)
  const live = '(expires_at IS NULL OR expires_at >= unixepoch())'
  const selectById = db.prepare(`SELECT payload FROM oidc WHERE model = ? AND id = ? AND ${live}`)
  const selectByUid = db.prepare(`SELECT payload FROM oidc WHERE model = ? AND uid = ? AND ${live}`)
  const consume = db.prepare(
    `UPDATE oidc SET payload = json_set(payload, '$.consumed', unixepoch()) WHERE model = ? AND id = ?`,
  )
  const destroy = db.prepare('DELETE FROM oidc WHERE model = ? AND id = ?')
  const revoke = db.prepare('DELETE FROM oidc WHERE grant_id = ?')

  const payloadOf = (row: Record<string, unknown> | undefined): AdapterPayload | undefined =>
    row === undefined ? undefined : (JSON.parse(String(row.payload)) as AdapterPayload)

  return {
    notes: (account) => selectNotes.all(account).map((row) => String(row.text)),
    addNote: (account, text) => Number(insertNote.run(account, text).lastInsertRowid),
    keep: async <T>(name: string, create: () => Promise<T>): Promise<T> => {
      const row = selectKept.get(name)
      if (row) return JSON.parse(String(row.value)) as T
      const value = await create()
      insertKept.run(name, JSON.stringify(value))
      return value
    },
    adapter: (model) => ({
      upsert: async (id, payload, expiresIn) => {
        const expiresAt = expiresIn === undefined ? null : Math.floor(Date.now() / 1000) + expiresIn
        upsert.run(
          model,
          id,
          JSON.stringify(payload),
          payload.grantId ?? null,
          payload.uid ?? null,
          expiresAt,
        )
      },
      find: async (id) => payloadOf(selectById.get(model, id)),
      findByUid: async (uid) => payloadOf(selectByUid.get(model, uid)),
      findByUserCode: async () => undefined,
      consume: async (id) => void consume.run(model, id),
      destroy: async (id) => void destroy.run(model, id),
      revokeByGrantId: async (grantId) => void revoke.run(grantId),
    }),
    close: () => db.close(),
  }
}
