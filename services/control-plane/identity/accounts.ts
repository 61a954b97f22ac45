import type { Clock } from '../../../shared/clock.ts'
import type { Logger } from '../../../shared/log.ts'
import type { IdentityProviderConfig } from '../config/schema.ts'
import type { DatabaseSync } from '../store/database.ts'
import { keepClaims } from './claims.ts'
import type { Directory } from './directory.ts'
import { type Identity, isClientSubject, SignInRefused } from './types.ts'

export interface Accounts {
  /** Records a sign-in. Throws SignInRefused where the subject belongs to another identity provider. */
  signedIn(identity: Identity): void
  /**
   * Records what an assertion says of a person and answers who they are with it: what it leaves out stays as their
   * sign-in said. Throws SignInRefused as `signedIn` does.
   */
  asserted(identity: Identity, saysGroups: boolean): Identity
  /** Who a subject is now; undefined once their provider, or they in the directory, are no longer configured, and while they are blocked. */
  find(subject: string): Identity | undefined
}

export interface AccountsDeps {
  readonly db: DatabaseSync
  readonly clock: Clock
  readonly log: Logger
  readonly directory: Directory
  /** The providers of the running configuration. */
  readonly providers: () => readonly IdentityProviderConfig[]
  /** Whether the kill switch shuts this subject out. */
  readonly blocked: (subject: string) => boolean
}

type Row = Readonly<Record<string, unknown>>

/**
 * Who signed in, by the subject of our tokens. A subject has one provider: were two providers able to name the same
 * person, the weaker one could take the other's downstream credentials. It moves only when its provider is gone.
 */
export function createAccounts({ db, clock, log, directory, providers, blocked }: AccountsDeps): Accounts {
  const get = db.prepare(
    'SELECT idp, idp_subject, email, name, groups, claims FROM account WHERE subject = ?',
  )
  const put = db.prepare(`INSERT INTO account
      (subject, idp, idp_subject, email, name, groups, claims, first_seen_at, last_sign_in_at)
    VALUES (:subject, :idp, :idpSubject, :email, :name, :groups, :claims, :now, :now)
    ON CONFLICT (subject) DO UPDATE SET idp = excluded.idp, idp_subject = excluded.idp_subject,
      email = excluded.email, name = excluded.name, groups = excluded.groups, claims = excluded.claims, last_sign_in_at = excluded.last_sign_in_at`)
  const configured = (id: unknown): IdentityProviderConfig | undefined =>
    providers().find((idp) => idp.id === id)

  /** What is stored of a subject that this identity may have. */
  const admit = (identity: Identity): Row | undefined => {
    if (blocked(identity.subject)) {
      throw new SignInRefused(
        'This account is blocked here. Ask your administrator.',
        `kill switch of user ${identity.subject}`,
      )
    }
    if (isClientSubject(identity.subject)) {
      throw new SignInRefused(
        'This name can not be used here.',
        `subject ${identity.subject} has the form of a client without a person`,
      )
    }
    const before = get.get(identity.subject)
    const owner = before && before.idp !== identity.idp ? configured(before.idp) : undefined
    if (owner) {
      throw new SignInRefused(
        `${identity.subject} belongs to "${owner.name}" here. Sign in there instead.`,
        `subject of identity provider ${owner.id} claimed through ${identity.idp}`,
      )
    }
    return before
  }
  const record = (identity: Identity, before: Row | undefined): void => {
    if (before && before.idp !== identity.idp) {
      log.warn(
        { subject: identity.subject, from: before.idp, to: identity.idp },
        'account moved to another identity provider',
      )
    } else if (before && before.idp_subject !== identity.idpSubject) {
      // A reassigned address, or a new application registration that changed every pairwise `sub`.
      log.warn(
        { subject: identity.subject, idp: identity.idp },
        "account's subject changed at its identity provider",
      )
    }
    put.run({
      subject: identity.subject,
      idp: identity.idp,
      idpSubject: identity.idpSubject,
      email: identity.email ?? null,
      name: identity.name ?? null,
      groups: JSON.stringify(identity.groups),
      claims: JSON.stringify(identity.claims ?? {}),
      now: clock.now(),
    })
  }

  return {
    signedIn: (identity) => record(identity, admit(identity)),
    asserted: (identity, saysGroups) => {
      const row = admit(identity)
      const before = row?.idp === identity.idp ? stored(identity.idp, identity.subject, row) : undefined
      // An assertion may name the person by the `sub` of another client: signing out goes by that of the sign-in.
      const now: Identity = before
        ? {
            ...before,
            ...identity,
            idpSubject: before.idpSubject,
            groups: saysGroups ? identity.groups : before.groups,
            claims: keepClaims({ ...before.claims, ...identity.claims }),
          }
        : identity
      record(now, row)
      return now
    },
    find: (subject) => {
      if (blocked(subject)) return undefined
      const row = get.get(subject)
      const provider = row && configured(row.idp)
      if (!row || !provider) return undefined
      if (provider.type === 'directory') return directory.find(provider.id, subject)
      return stored(provider.id, subject, row)
    },
  }
}

function stored(idp: string, subject: string, row: Row): Identity {
  return {
    idp,
    idpSubject: String(row.idp_subject),
    subject,
    ...(row.email === null ? {} : { email: String(row.email) }),
    ...(row.name === null ? {} : { name: String(row.name) }),
    groups: JSON.parse(String(row.groups)) as string[],
    claims: JSON.parse(String(row.claims)) as Record<string, unknown>,
  }
}
