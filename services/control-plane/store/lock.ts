import { chmodSync, closeSync, existsSync, openSync } from 'node:fs'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { Fault } from '../../../shared/faults.ts'

/**
 * Takes a state folder for this process, until the function it gives back is called or the process ends, however it
 * does: the lock is SQLite's, which the kernel drops with its owner. Throws `config.invalid` where another has it.
 */
export function lockState(stateDir: string): () => void {
  const path = join(stateDir, 'control-plane.lock')
  if (!existsSync(path)) closeSync(openSync(path, 'wx', 0o600))
  chmodSync(path, 0o600)
  const db = new DatabaseSync(path, { timeout: 0 })
  try {
    db.exec('PRAGMA journal_mode = MEMORY; BEGIN EXCLUSIVE')
  } catch (cause) {
    db.close()
    throw new Fault('config.invalid', {
      detail: `${stateDir} is in use by another control plane or by a rotation of its key; stop that one first`,
      cause,
    })
  }
  return () => db.close()
}
