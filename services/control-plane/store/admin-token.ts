import { randomBytes } from 'node:crypto'
import { existsSync, readFileSync } from 'node:fs'
import { writeFileAtomic } from '../../../shared/files.ts'

/** The bearer token of the REST API: 32 random bytes in a 0600 file, made at the first start. */
export async function loadAdminToken(path: string): Promise<string> {
  if (!existsSync(path)) await writeFileAtomic(path, `${randomBytes(32).toString('base64url')}\n`)
  return readFileSync(path, 'utf8').trim()
}
