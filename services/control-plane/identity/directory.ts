import { createHmac, randomBytes } from 'node:crypto'
import { Fault } from '../../../shared/faults.ts'
import type { DirectoryConfig } from '../config/schema.ts'
import { type DatabaseSync, transaction } from '../store/database.ts'
import { isPasswordHash, type Passwords } from './passwords.ts'
import type { Identity } from './types.ts'

export interface Directory {
  /**
   * Hashes what has to be hashed; the function it gives back replaces what the directories hold, whole. Throws
   * `config.invalid` for a hash that is none.
   */
  prepare(providers: readonly DirectoryConfig[]): Promise<() => void>
  /** Null for a wrong password and for an unknown address alike, after the same work. */
  verify(idp: string, email: string, password: string): Promise<Identity | null>
  /** Who is in the directory now; undefined once the configuration no longer names them. */
  find(idp: string, email: string): Identity | undefined
}

export function normalizeEmail(email: string): string {
  return email.trim().toLowerCase()
}

/** A directory is small; what was removed from it long ago is forgotten. */
const maxUnchanged = 50_000

/** Users of a single machine that has no identity provider: from the configuration, with scrypt hashes at rest. */
export function createDirectory(db: DatabaseSync, passwords: Passwords): Directory {
  const get = db.prepare(
    'SELECT email, name, groups, password_hash FROM directory_user WHERE idp = ? AND email = ?',
  )
  const insert = db.prepare(
    'INSERT INTO directory_user (idp, email, name, groups, password_hash) VALUES (?, ?, ?, ?, ?)',
  )
  const clear = db.prepare('DELETE FROM directory_user')

  /** MACs, under a key of this process, of passwords that were found to be those of their stored hash. */
  const unchanged = new Set<string>()
  const pepper = randomBytes(32)

  const hashFor = async (
    idp: string,
    email: string,
    user: DirectoryConfig['users'][number],
  ): Promise<string> => {
    if (user.passwordHash !== undefined) return user.passwordHash
    const password = user.password?.reveal() ?? ''
    const stored = get.get(idp, email)?.password_hash
    const mac = (hash: string): string =>
      createHmac('sha256', pepper)
        .update(JSON.stringify([idp, email, password, hash]))
        .digest('base64')
    // A change of policy must not wait for the slow hash of every password that did not change.
    if (typeof stored === 'string' && unchanged.has(mac(stored))) return stored
    // Keeps the stored hash of an unchanged password, so that applying the same file changes nothing.
    const keep = typeof stored === 'string' && (await passwords.verify(password, stored))
    const hash = keep ? stored : await passwords.hash(password)
    unchanged.add(mac(hash))
    return hash
  }
  const identity = (idp: string, row: Record<string, unknown>): Identity => {
    const email = String(row.email)
    return {
      idp,
      idpSubject: email,
      subject: email,
      email,
      ...(row.name === null ? {} : { name: String(row.name) }),
      groups: JSON.parse(String(row.groups)) as string[],
    }
  }

  return {
    prepare: async (providers) => {
      const broken = providers.flatMap(({ id, users }) =>
        users
          .filter(({ passwordHash }) => passwordHash !== undefined && !isPasswordHash(passwordHash))
          .map(
            ({ email }) =>
              `identityProviders: passwordHash of ${email} in ${id} is no scrypt hash, write $scrypt$ln=15,r=8,p=3$salt$hash`,
          ),
      )
      if (broken.length > 0) throw new Fault('config.invalid', { detail: broken.join('\n') })
      if (unchanged.size > maxUnchanged) unchanged.clear()
      const rows: [string, string, string | null, string, string][] = []
      for (const provider of providers) {
        for (const user of provider.users) {
          const email = normalizeEmail(user.email)
          const hash = await hashFor(provider.id, email, user)
          rows.push([provider.id, email, user.name ?? null, JSON.stringify(user.groups ?? []), hash])
        }
      }
      return () =>
        transaction(db, () => {
          clear.run()
          for (const row of rows) insert.run(...row)
        })
    },
    verify: async (idp, email, password) => {
      const row = get.get(idp, normalizeEmail(email))
      const matches = row
        ? await passwords.verify(password, String(row.password_hash))
        : await passwords.verifyNothing(password)
      return row && matches ? identity(idp, row) : null
    },
    find: (idp, email) => {
      const row = get.get(idp, email)
      return row && identity(idp, row)
    },
  }
}
