import { createHash, randomBytes, timingSafeEqual } from 'node:crypto'
import { existsSync, readFileSync, statSync } from 'node:fs'
import { Fault } from '../../../shared/faults.ts'
import { writeFileAtomic } from '../../../shared/files.ts'

/** Whether an Authorization header carries the administrator's token. */
export type AdminCheck = (authorization: string | undefined) => boolean

/**
 * The administrator's bearer token, from a 0600 file that is made at first start. Replace the file's content and
 * restart to change it. Throws `config.invalid` where others may read it or it is too short to be no password.
 */
export async function loadAdminToken(path: string): Promise<AdminCheck> {
  if (!existsSync(path)) await writeFileAtomic(path, `${randomBytes(32).toString('base64url')}\n`)
  if ((statSync(path).mode & 0o077) !== 0) {
    throw new Fault('config.invalid', { detail: `${path} may be read by others; chmod 600 it` })
  }
  const token = readFileSync(path, 'utf8').trim()
  if (token.length < 32) {
    throw new Fault('config.invalid', {
      detail: `${path} must hold 32 characters at least; delete it for a new one`,
    })
  }
  // Digests have one length: comparing them in constant time says nothing of the token's.
  const hash = (value: string): Buffer => createHash('sha256').update(value).digest()
  const wanted = hash(token)
  return (authorization) => {
    const given = /^Bearer ([\x21-\x7e]{1,512})$/i.exec(authorization ?? '')?.[1]
    return timingSafeEqual(hash(given ?? ''), wanted)
  }
}
