import { randomBytes } from 'node:crypto'
import { existsSync } from 'node:fs'
import { rename } from 'node:fs/promises'
import { join } from 'node:path'
import { Fault } from '../../../shared/faults.ts'
import { writeFileAtomic } from '../../../shared/files.ts'
import { openDatabase, transaction } from './database.ts'
import { lockState } from './lock.ts'
import { loadMasterKey } from './master-key.ts'
import { opens, resealAll } from './sealed-columns.ts'
import type { Sealer } from './sealer.ts'

export interface Rotation {
  readonly stateDir: string
  /** What the database is sealed under. */
  readonly keyPath: string
  /** Where the new key is or will be; it then stays there. Absent: it takes the place of the former one. */
  readonly newKeyPath?: string | undefined
  readonly createSealer: (key: Buffer, formerKeys: readonly Buffer[]) => Sealer
}

export interface Rotated {
  /** Values sealed again; 0 where an interrupted rotation only had to be finished. */
  readonly count: number
  readonly keyPath: string
}

/**
 * Seals everything under a new master key. Safe to interrupt at any point and to run again: the new key is on disk
 * before anything is sealed under it, all values change in one transaction, and the key takes its place last. Nothing
 * sealed under the former key is left in the file. Throws `config.invalid` while the control plane runs.
 */
export async function rotateMasterKey({
  stateDir,
  keyPath,
  newKeyPath,
  createSealer,
}: Rotation): Promise<Rotated> {
  const databasePath = join(stateDir, 'control-plane.db')
  if (!existsSync(databasePath)) {
    throw new Fault('config.invalid', { detail: `${databasePath} does not exist: nothing is sealed yet` })
  }
  const unlock = lockState(stateDir)
  try {
    const nextPath = newKeyPath ?? `${keyPath}.next`
    const former = await loadMasterKey(keyPath, false)
    if (!existsSync(nextPath)) await writeFileAtomic(nextPath, `${randomBytes(32).toString('base64')}\n`)
    const next = await loadMasterKey(nextPath, false)
    if (next.equals(former)) {
      throw new Fault('config.invalid', { detail: `${nextPath} holds the same key as ${keyPath}` })
    }
    const db = openDatabase(databasePath)
    let count = 0
    try {
      // Overwrites what is replaced; what lies in free pages and the log from before goes with VACUUM.
      db.exec('PRAGMA secure_delete = ON')
      if (!opens(db, createSealer(next, []))) {
        if (!opens(db, createSealer(former, []))) {
          throw new Fault('config.invalid', {
            detail: `${databasePath} is sealed under another key than the one of ${keyPath}; restore that key`,
          })
        }
        count = transaction(db, () => resealAll(db, createSealer(next, [former])))
      }
      db.exec('VACUUM; PRAGMA wal_checkpoint(TRUNCATE)')
    } finally {
      db.close()
    }
    if (newKeyPath === undefined) await rename(nextPath, keyPath)
    return { count, keyPath: newKeyPath ?? keyPath }
  } finally {
    unlock()
  }
}
