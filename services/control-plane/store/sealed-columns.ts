import type { DatabaseSync } from './database.ts'
import type { Sealer } from './sealer.ts'

interface SealedColumn {
  readonly table: string
  readonly column: string
  /** Primary key, in the order that `context` takes it. */
  readonly keys: readonly string[]
  /** What the value was sealed for; the same words as in the room that owns the table. */
  readonly context: (...keys: readonly string[]) => string
}

/** Every column that holds something sealed. A test holds this against the schema and against what the rooms write. */
export const sealedColumns: readonly SealedColumn[] = [
  {
    table: 'user_credential',
    column: 'sealed',
    keys: ['issuer', 'subject', 'server_id', 'provider_id'],
    context: (...keys) => `user-credential:${JSON.stringify(keys)}`,
  },
  {
    table: 'oauth_client',
    column: 'sealed',
    keys: ['provider_id', 'authorization_server', 'redirect_uri'],
    context: (...keys) => `oauth-client:${JSON.stringify(keys)}`,
  },
  {
    table: 'connect_state',
    column: 'sealed',
    keys: ['state'],
    context: (state) => `connect-state:${state}`,
  },
  {
    table: 'idp_token',
    column: 'sealed',
    keys: ['idp', 'subject'],
    context: (...keys) => `idp-token:${JSON.stringify(keys)}`,
  },
  { table: 'idp_sign_in', column: 'sealed', keys: ['state'], context: (state) => `idp-sign-in:${state}` },
  { table: 'idp_sign_in', column: 'answer', keys: ['state'], context: (state) => `idp-answer:${state}` },
  { table: 'signing_key', column: 'sealed_jwk', keys: ['kid'], context: (kid) => `signing-key:${kid}` },
  {
    table: 'fleet_key',
    column: 'sealed',
    keys: ['purpose', 'kid'],
    context: (purpose, kid) => `fleet-key:${purpose}:${kid}`,
  },
  { table: 'server_secret', column: 'sealed', keys: ['name'], context: (name) => `server-secret:${name}` },
  {
    table: 'oidc_artefact',
    column: 'sealed',
    keys: ['model', 'id'],
    context: (model, id) => `oidc:${model}:${id}`,
  },
  {
    table: 'oidc_artefact',
    column: 'successor',
    keys: ['model', 'id'],
    context: (_model, id) => `oidc:successor:${id}`,
  },
]

/** Opens every sealed value and seals it again, with what `sealer` seals under now. Answers how many there were. */
export function resealAll(db: DatabaseSync, sealer: Sealer): number {
  let count = 0
  for (const { table, column, keys, context } of sealedColumns) {
    const where = keys.map((key) => `${key} = ?`).join(' AND ')
    const update = db.prepare(`UPDATE ${table} SET ${column} = ? WHERE ${where}`)
    const rows = db
      .prepare(`SELECT ${[...keys, column].join(', ')} FROM ${table} WHERE ${column} IS NOT NULL`)
      .all()
    for (const row of rows) {
      const key = keys.map((name) => String(row[name]))
      const about = context(...key)
      const plain = sealer.open(Buffer.from(row[column] as Uint8Array), about)
      update.run(sealer.seal(plain, about), ...key)
      plain.fill(0)
      count += 1
    }
  }
  return count
}

/** Whether what is sealed opens; true where nothing is sealed yet. */
export function opens(db: DatabaseSync, sealer: Sealer): boolean {
  for (const { table, column, keys, context } of sealedColumns) {
    const row = db
      .prepare(`SELECT ${[...keys, column].join(', ')} FROM ${table} WHERE ${column} IS NOT NULL LIMIT 1`)
      .get()
    if (!row) continue
    try {
      sealer.open(Buffer.from(row[column] as Uint8Array), context(...keys.map((name) => String(row[name]))))
      return true
    } catch {
      return false
    }
  }
  return true
}
