import type { Logger } from '../../../shared/log.ts'
import type { IdentityProviderConfig } from '../config/schema.ts'
import type { AuditLog } from '../events/audit.ts'
import type { DatabaseSync } from '../store/database.ts'
import { digest } from '../store/digest.ts'
import { type ExternalProvider, SignInRefused } from './types.ts'

export interface LogoutDeps {
  readonly db: DatabaseSync
  readonly log: Logger
  readonly audit: Pick<AuditLog, 'add'>
  readonly providers: () => readonly IdentityProviderConfig[]
  readonly externals: () => ReadonlyMap<string, ExternalProvider>
  /** Ends every browser session of a person; how many there were. */
  readonly endSessions: (subject: string) => number
  /** Ends what agents use in a person's name. */
  readonly endAgents: (subject: string) => Promise<void>
  /** What was kept of a person's sign-in is to be forgotten. */
  readonly signedOut: (subject: string) => boolean
}

export interface Logout {
  /** A provider says that one of its people signed out there. Throws SignInRefused. */
  backChannel(idp: string, token: string, address: string): Promise<void>
  /** The same by a SAML logout request; where the browser takes the answer, if anywhere. Throws SignInRefused. */
  saml(idp: string, query: string, address: string): Promise<URL | undefined>
}

/** Ends here what a person ended at their identity provider. */
export function createLogout(deps: LogoutDeps): Logout {
  const { db, log, audit, providers, externals } = deps
  const known = db.prepare('SELECT subject FROM account WHERE idp = ? AND idp_subject = ?')
  const use = db.prepare('INSERT OR IGNORE INTO used_assertion (digest, expires_at) VALUES (?, ?)')
  const refuseUnknown = (): never => {
    throw new SignInRefused('No such identity provider.', 'no provider of this protocol has this id', {
      reason: 'NoDataFound',
    })
  }
  const end = async (
    idp: Extract<IdentityProviderConfig, { logoutEndsAgents: boolean }>,
    idpSubject: string,
    address: string,
  ): Promise<void> => {
    for (const { subject } of known.all(idp.id, idpSubject)) {
      const person = String(subject)
      const sessions = deps.endSessions(person)
      deps.signedOut(person)
      if (idp.logoutEndsAgents) await deps.endAgents(person)
      log.info({ event: 'signed_out', subject: person, idp: idp.id, sessions }, 'signed out at the provider')
      audit.add({
        category: 'Authentication',
        activity: 'Signed out at the identity provider',
        actor: { type: 'System', displayName: idp.name },
        target: person,
        outcome: 'Success',
        severity: 'Info',
        client: { ip: address },
        detail: { identityProvider: idp.id, sessions, agentsEnded: idp.logoutEndsAgents },
      })
    }
  }
  return {
    backChannel: async (idp, token, address) => {
      const config = providers().find(({ id }) => id === idp)
      const verify = externals().get(idp)?.logoutToken
      if (!verify || config?.type !== 'oidc') return refuseUnknown()
      const { sub, jti, exp } = await verify(token)
      const spent = digest(JSON.stringify(['logout', config.issuer, jti]))
      if (use.run(spent, (exp + 120) * 1000).changes === 0) {
        throw new SignInRefused('The logout token was used before.', 'jti')
      }
      await end(config, sub, address)
    },
    saml: async (idp, query, address) => {
      const config = providers().find(({ id }) => id === idp)
      const read = externals().get(idp)?.logoutRequest
      if (!read || config?.type !== 'saml') return refuseUnknown()
      const { nameId, answer } = await read(query)
      await end(config, nameId, address)
      return answer
    },
  }
}
