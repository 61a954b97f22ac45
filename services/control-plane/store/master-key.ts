import { randomBytes } from 'node:crypto'
import { existsSync, readFileSync, statSync } from 'node:fs'
import { Fault } from '../../../shared/faults.ts'
import { writeFileAtomic } from '../../../shared/files.ts'

/**
 * The 32 bytes that everything at rest is sealed under, from a file of base64. Made (0600) where it is absent and
 * `create` allows: only before there is a database, else a lost key would be replaced by one that opens nothing.
 */
export async function loadMasterKey(path: string, create: boolean): Promise<Buffer> {
  if (!existsSync(path)) {
    if (!create) {
      throw new Fault('config.invalid', {
        detail: `AEMBIT_MASTER_KEY_PATH: ${path} does not exist, but there is a database sealed under it; restore the key`,
      })
    }
    await writeFileAtomic(path, `${randomBytes(32).toString('base64')}\n`)
  }
  if ((statSync(path).mode & 0o077) !== 0) {
    throw new Fault('config.invalid', {
      detail: `AEMBIT_MASTER_KEY_PATH: ${path} may be read by others; chmod 600 it`,
    })
  }
  const key = Buffer.from(readFileSync(path, 'utf8').trim(), 'base64')
  if (key.length !== 32) {
    throw new Fault('config.invalid', {
      detail: `AEMBIT_MASTER_KEY_PATH: ${path} must hold 32 bytes in base64, it holds ${key.length}`,
    })
  }
  return key
}
