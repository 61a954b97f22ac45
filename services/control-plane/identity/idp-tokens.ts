import { randomInt } from 'node:crypto'
import { z } from 'zod'
import type { Clock } from '../../../shared/clock.ts'
import type { DatabaseSync } from '../store/database.ts'
import type { Sealer } from '../store/sealer.ts'

const schema = z.object({ idToken: z.string(), refreshToken: z.string().nullable() })
/** What an identity provider gave for a person when they signed in. */
export type IdpTokens = z.infer<typeof schema>

export interface StoredIdpTokens {
  readonly idp: string
  readonly subject: string
  readonly version: number
  /** Milliseconds since the epoch; another one is another sign-in. */
  readonly signedInAt: number
}

export interface IdpTokenStore {
  /** After a sign-in, in place of what was there. */
  keep(idp: string, subject: string, tokens: IdpTokens): void
  find(idp: string, subject: string): StoredIdpTokens | undefined
  /** Throws Fault `internal` where the row is not the one that was sealed. */
  open(stored: StoredIdpTokens): IdpTokens | undefined
  /** Renewed ones, unless the row changed since `stored`; answers whether it took them. */
  swap(stored: StoredIdpTokens, tokens: IdpTokens): boolean
  /** The identity provider ended it; the same condition. */
  end(stored: StoredIdpTokens): void
  /** Everything of a person who signed out; whether there was anything. */
  forget(subject: string): boolean
  /** Everything of identity providers that are not among `idps`. */
  prune(idps: ReadonlySet<string>): void
}

const maxBytes = 64 << 10

/** Sealed in their row. An answer too large to be tokens is not kept: the person is then asked to sign in again. */
export function createIdpTokens(db: DatabaseSync, sealer: Sealer, clock: Clock): IdpTokenStore {
  const where = 'idp = ? AND subject = ?'
  const put =
    db.prepare(`INSERT INTO idp_token (idp, subject, version, sealed, signed_in_at) VALUES (?, ?, ?, ?, ?)
    ON CONFLICT DO UPDATE SET version = version + 1, sealed = excluded.sealed, signed_in_at = excluded.signed_in_at`)
  const get = db.prepare(`SELECT version, signed_in_at FROM idp_token WHERE ${where}`)
  const read = db.prepare(`SELECT sealed FROM idp_token WHERE ${where}`)
  const update = db.prepare(
    `UPDATE idp_token SET version = version + 1, sealed = ? WHERE ${where} AND version = ?`,
  )
  const drop = db.prepare(`DELETE FROM idp_token WHERE ${where} AND version = ?`)
  const dropPerson = db.prepare('DELETE FROM idp_token WHERE subject = ?')
  const idpsThere = db.prepare('SELECT DISTINCT idp FROM idp_token')
  const dropIdp = db.prepare('DELETE FROM idp_token WHERE idp = ?')
  const context = (idp: string, subject: string): string => `idp-token:${JSON.stringify([idp, subject])}`
  const seal = (idp: string, subject: string, tokens: IdpTokens): Buffer | undefined => {
    const plain = Buffer.from(JSON.stringify(tokens))
    return plain.length > maxBytes ? undefined : sealer.seal(plain, context(idp, subject))
  }

  return {
    keep: (idp, subject, tokens) => {
      const sealed = seal(idp, subject, tokens)
      // Not where a row began that is gone: a late answer of that one would fit this one.
      if (sealed) put.run(idp, subject, randomInt(1, 2 ** 47), sealed, clock.now())
    },
    find: (idp, subject) => {
      const row = get.get(idp, subject)
      return row && { idp, subject, version: Number(row.version), signedInAt: Number(row.signed_in_at) }
    },
    open: ({ idp, subject }) => {
      const row = read.get(idp, subject)
      if (!row) return undefined
      const plain = sealer.open(Buffer.from(row.sealed as Uint8Array), context(idp, subject))
      return schema.parse(JSON.parse(plain.toString('utf8')))
    },
    swap: ({ idp, subject, version }, tokens) => {
      const sealed = seal(idp, subject, tokens)
      return sealed !== undefined && update.run(sealed, idp, subject, version).changes > 0
    },
    end: ({ idp, subject, version }) => void drop.run(idp, subject, version),
    forget: (subject) => dropPerson.run(subject).changes > 0,
    prune: (idps) => {
      for (const { idp } of idpsThere.all()) if (!idps.has(String(idp))) dropIdp.run(String(idp))
    },
  }
}
