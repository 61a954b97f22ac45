import type { FastifyInstance } from 'fastify'
import type { Clock } from '../../shared/clock.ts'
import { Fault } from '../../shared/faults.ts'
import type { Logger } from '../../shared/log.ts'
import type { RevocationMatch } from '../../shared/revocations.ts'
import { createArtefactStore } from './authorization/adapter.ts'
import { registerAgents } from './authorization/agents.ts'
import type { IssuancePolicy } from './authorization/gate.ts'
import { createGrants } from './authorization/grants.ts'
import { registerInteractions } from './authorization/interactions.ts'
import { createSigningKeys, type SigningKeys } from './authorization/keys.ts'
import { createPresented } from './authorization/presented.ts'
import { resumeInteraction } from './authorization/resume.ts'
import { registerAuthorizationServer } from './authorization/routes.ts'
import { type AuthorizationSettings, authorizationSettings } from './authorization/settings.ts'
import type { Config } from './config/schema.ts'
import type { AccessEvents } from './events/access.ts'
import type { AuditLog } from './events/audit.ts'
import { createRefusals } from './events/refusals.ts'
import { type Accounts, createAccounts } from './identity/accounts.ts'
import { type BrowserSessions, createBrowserSessions } from './identity/browser-session.ts'
import { createCookieJar } from './identity/cookies.ts'
import { type BrowserBinding, createBrowserBinding } from './identity/csrf.ts'
import { createDirectory } from './identity/directory.ts'
import { createGuardedFetch, type GuardedFetch } from './identity/guarded-fetch.ts'
import { createIdpTokens, type IdpTokenStore } from './identity/idp-tokens.ts'
import { createLockout } from './identity/lockout.ts'
import { createLogout } from './identity/logout.ts'
import { createPasswords, type ScryptCost } from './identity/passwords.ts'
import { createPendingSignIns } from './identity/pending.ts'
import { registerIdentity } from './identity/routes.ts'
import { createAssertionReplay } from './identity/saml/replay.ts'
import { createSignIn } from './identity/sign-in.ts'
import type { ExternalProvider } from './identity/types.ts'
import { createRunning, type Running } from './identity-running.ts'
import { registerAssets } from './pages/layout.ts'
import type { DatabaseSync } from './store/database.ts'
import type { Sealer } from './store/sealer.ts'
import { serverSecret } from './store/server-secrets.ts'

export interface IdentityPlaneDeps {
  readonly db: DatabaseSync
  readonly sealer: Sealer
  readonly clock: Clock
  readonly log: Logger
  /** The policy of the running configuration. */
  readonly policy: () => IssuancePolicy
  /** Tells every gateway to refuse the access tokens that match. */
  readonly revoke: (match: RevocationMatch) => Promise<void>
  readonly audit: Pick<AuditLog, 'add'>
  /** What was kept of a person's sign-in is gone: they signed out. */
  readonly signedOut?: (subject: string) => void
  readonly events: Pick<AccessEvents, 'add'>
  /** How long a spent refresh token is answered again, ms. */
  readonly refreshGraceMs?: number
  /** How OpenID providers and GitHub are reached; tests stand in for them. */
  readonly idpFetch?: (allowed: readonly string[]) => GuardedFetch
  /** Cost of new password hashes; tests take a low one. */
  readonly passwordCost?: ScryptCost
}

export interface IdentityPlane {
  readonly sessions: BrowserSessions
  readonly accounts: Accounts
  /** Binds forms and flows of every page of ours to the browser. */
  readonly browser: BrowserBinding
  readonly keys: SigningKeys
  /** What sign-ins at external providers gave, where a credential provider needs it. */
  readonly idpTokens: IdpTokenStore
  /** External identity providers of the running configuration. */
  readonly externals: () => ReadonlyMap<string, ExternalProvider>
  register(app: FastifyInstance): void
  /**
   * Checks a configuration and makes everything that it needs; the function it gives back writes it, and gives what then
   * puts it in force, at once and without failing. Throws Fault `config.invalid` and changes nothing.
   */
  prepare(config: Config): Promise<() => () => void>
  /** Throws `config.invalid` where this configuration needs a restart. */
  check(config: Config): void
  /** Deletes what has expired. */
  sweep(): void
  close(): Promise<void>
}

const defaultGraceMs = 10_000
const unusedClientMs = 7 * 86_400_000
const sweepLimit = 5_000

/** Who people are and what agents get for it: sign-in, consent, tokens. Wired once; `prepare` fills it. */
export async function createIdentityPlane(deps: IdentityPlaneDeps, first: Config): Promise<IdentityPlane> {
  const { db, sealer, clock, log, policy, revoke, audit, events } = deps
  const { issuer } = authorizationSettings(first)
  let running: Running | undefined
  const settingsOf = (config: Config): AuthorizationSettings => {
    const settings = authorizationSettings(config)
    if (settings.issuer === issuer) return settings
    throw new Fault('config.invalid', {
      detail: `authorizationServer.issuer can not change while running (${issuer} → ${settings.issuer}); restart`,
    })
  }
  const current = (): Running => {
    if (!running) throw new Fault('config.invalid', { detail: 'no configuration is in force yet' })
    return running
  }
  const providers = () => current().config.identityProviders

  const refreshGraceMs = deps.refreshGraceMs ?? defaultGraceMs
  const store = createArtefactStore({ db, sealer, clock, refreshGraceMs, unusedClientMs })
  const grants = createGrants(db, clock)
  const keys = await createSigningKeys(db, sealer, clock)
  const cookies = createCookieJar(issuer)
  const refuse = createRefusals({ log, audit, events, clock })
  const browser = createBrowserBinding(serverSecret(db, sealer, clock, 'forms'), cookies, (request, why) =>
    refuse({
      event: 'form.refused',
      activity: 'Form refused',
      address: request.ip,
      reason: 'ConditionFailed',
      detail: `${request.url.split('?')[0]?.slice(0, 200)}: ${why}`,
    }),
  )
  const directory = createDirectory(db, createPasswords(deps.passwordCost))
  const accounts = createAccounts({
    db,
    clock,
    log,
    directory,
    providers,
    blocked: (subject) => policy().index.blocked.user.has(subject),
  })
  const lockout = createLockout(db, clock)
  const pending = createPendingSignIns(db, sealer, clock)
  const idpTokens = createIdpTokens(db, sealer, clock)
  /** Nothing is kept of a sign-in that no credential is made of. */
  const tokensWanted = (): ReadonlySet<string> =>
    new Set(
      current().config.credentialProviders.flatMap((each) =>
        each.type === 'mcp-enterprise-managed-access-token' ? [each.identityProvider] : [],
      ),
    )
  const replay = createAssertionReplay(db)
  const fetch = createGuardedFetch([])
  const presented = createPresented({ settings: () => current().settings, keys, clock, policy })
  const sessions = createBrowserSessions({ provider: () => current().provider, accounts, cookies, issuer })
  const signIn = createSignIn({
    providers,
    externals: () => current().externals.byId,
    refuse,
    audit,
    directory,
    lockout,
    accounts,
    pending,
    keepTokens: (idp, subject, tokens) => {
      if (tokensWanted().has(idp)) idpTokens.keep(idp, subject, tokens)
    },
    browser,
    issuer,
    log,
  })

  const signedOut = (subject: string): boolean => {
    const ended = idpTokens.forget(subject)
    if (ended) deps.signedOut?.(subject)
    return ended
  }
  const logout = createLogout({
    db,
    log,
    audit,
    providers,
    externals: () => current().externals.byId,
    endSessions: (subject) => store.endSessions(subject),
    endAgents: async (subject) => {
      store.endTokens(subject)
      await revoke({ subject })
    },
    signedOut,
  })

  const parts = { ...deps, refuse, keys, store, grants, accounts, cookies, fetch, replay }

  return {
    sessions,
    accounts,
    browser,
    keys,
    idpTokens,
    externals: () => current().externals.byId,
    register: (app) => {
      registerAssets(app)
      registerAuthorizationServer(app, { current, store, presented, refuse, clock, log })
      registerInteractions(app, {
        current,
        grants,
        accounts,
        policy,
        signIn,
        sessions,
        browser,
        refuse,
        audit,
        log,
      })
      registerAgents(app, { current, grants, sessions, browser, revoke, audit, log })
      registerIdentity(app, {
        signIn,
        sessions,
        browser,
        issuer,
        signedOut,
        logout,
        endSession: async (idp, returnTo, hint) =>
          current().externals.byId.get(idp)?.endSession?.(returnTo, hint),
        refuse,
        audit,
        samlMetadata: (idp) => current().externals.samlMetadata(idp),
        resume: (request, uid, subject) =>
          resumeInteraction(current().provider, sessions, request, uid, subject),
      })
    },
    check: (config) => void settingsOf(config),
    prepare: async (config) => {
      const next = await createRunning(parts, config, settingsOf(config))
      const directories = config.identityProviders.filter((idp) => idp.type === 'directory')
      const commit = await directory.prepare(directories)
      return () => {
        commit()
        return () => {
          const former = running
          running = next
          for (const connections of former?.outbound ?? []) {
            connections.close().catch((err: unknown) => log.debug({ err }, 'closing outbound connections'))
          }
        }
      }
    },
    sweep: () => {
      const gone = store.sweep(sweepLimit)
      grants.sweep()
      lockout.sweep()
      pending.sweep()
      idpTokens.prune(tokensWanted())
      replay.sweep(clock.now())
      current().assertions.sweep()
      if (gone > 0) log.debug({ artefacts: gone }, 'expired rows deleted')
    },
    close: async () => {
      await fetch.close()
      for (const connections of running?.outbound ?? []) await connections.close()
    },
  }
}
