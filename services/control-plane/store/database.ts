import { createHash } from 'node:crypto'
import { chmodSync, closeSync, existsSync, openSync, readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { Fault } from '../../../shared/faults.ts'

export type { DatabaseSync, StatementSync } from 'node:sqlite'

const migrationName = /^(\d{3})-[a-z0-9-]+\.sql$/

/**
 * Opens the control plane's database and brings it to this version. WAL, foreign keys, 5 s busy timeout; the file
 * and its -wal/-shm companions are 0600 (SQLite gives the companions the rights of the main file).
 *
 * Throws `config.invalid` where the file is no database, belongs to a newer version, or a migration that was
 * applied has changed since. `:memory:` opens a private one for tests.
 */
export function openDatabase(
  path: string,
  migrationsDir = join(import.meta.dirname, 'migrations'),
): DatabaseSync {
  if (path !== ':memory:') {
    // Created here rather than by SQLite, so that there is no moment in which others may read it.
    if (!existsSync(path)) closeSync(openSync(path, 'wx', 0o600))
    chmodSync(path, 0o600)
  }
  const db = new DatabaseSync(path, { timeout: 5_000, enableForeignKeyConstraints: true })
  try {
    db.exec('PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL; PRAGMA foreign_keys = ON')
    migrate(db, migrationsDir, path)
  } catch (error) {
    db.close()
    throw error instanceof Fault
      ? error
      : new Fault('config.invalid', {
          detail: `database ${path}: ${error instanceof Error ? error.message : String(error)}`,
          cause: error,
        })
  }
  return db
}

/** Runs `work` in one write transaction, that of its caller where there is one: all of it happens, or none. */
export function transaction<T>(db: DatabaseSync, work: () => T): T {
  if (db.isTransaction) return work()
  db.exec('BEGIN IMMEDIATE')
  try {
    const result = work()
    db.exec('COMMIT')
    return result
  } catch (error) {
    if (db.isTransaction) db.exec('ROLLBACK')
    throw error
  }
}

/** Applies `NNN-name.sql` files in order, each in one transaction with its record. */
function migrate(db: DatabaseSync, dir: string, path: string): void {
  db.exec(`CREATE TABLE IF NOT EXISTS migration (
    name TEXT PRIMARY KEY, sha256 TEXT NOT NULL, applied_at INTEGER NOT NULL
  ) STRICT`)
  const known = readdirSync(dir)
    .filter((name) => migrationName.test(name))
    .sort()
    .map((name) => {
      const sql = readFileSync(join(dir, name), 'utf8')
      return { name, sql, sha256: createHash('sha256').update(sql).digest('hex') }
    })
  const applied = new Map(
    db
      .prepare('SELECT name, sha256 FROM migration')
      .all()
      .map((row) => [String(row.name), String(row.sha256)]),
  )
  const names = new Set(known.map(({ name }) => name))
  const newer = [...applied.keys()].filter((name) => !names.has(name))
  if (newer.length > 0) {
    throw new Fault('config.invalid', {
      detail: `database ${path} was written by a newer version (it holds ${newer.join(', ')}); start that version, or restore a backup`,
    })
  }
  for (const { name, sql, sha256 } of known) {
    const before = applied.get(name)
    if (before === sha256) continue
    if (before !== undefined) {
      throw new Fault('config.invalid', {
        detail: `migration ${name} differs from the one that database ${path} was made with`,
      })
    }
    transaction(db, () => {
      // Another process may have been first, between our reading and this lock.
      if (db.prepare('SELECT 1 FROM migration WHERE name = ?').get(name)) return
      db.exec(sql)
      db.prepare('INSERT INTO migration (name, sha256, applied_at) VALUES (?, ?, ?)').run(
        name,
        sha256,
        Date.now(),
      )
    })
  }
}
