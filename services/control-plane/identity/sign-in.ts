import type { FastifyRequest } from 'fastify'
import { Fault } from '../../../shared/faults.ts'
import type { Logger } from '../../../shared/log.ts'
import type { IdentityProviderConfig } from '../config/schema.ts'
import type { AuditLog } from '../events/audit.ts'
import type { Refuse } from '../events/refusals.ts'
import type { Accounts } from './accounts.ts'
import type { BrowserBinding } from './csrf.ts'
import { type Directory, normalizeEmail } from './directory.ts'
import type { IdpTokenStore } from './idp-tokens.ts'
import type { Lockout } from './lockout.ts'
import type { PendingSignIns, SignInTarget } from './pending.ts'
import { allowedProviders, providerOfEmail, type SignInOptions, signInOptions } from './realm.ts'
import { type ExternalProvider, type Identity, SignInRefused } from './types.ts'

export interface SignInDeps {
  readonly providers: () => readonly IdentityProviderConfig[]
  readonly externals: () => ReadonlyMap<string, ExternalProvider>
  readonly directory: Directory
  readonly lockout: Lockout
  readonly accounts: Accounts
  readonly pending: PendingSignIns
  /** Keeps what came with a sign-in, where something needs it. */
  readonly keepTokens: IdpTokenStore['keep']
  readonly browser: BrowserBinding
  readonly issuer: string
  readonly refuse: Refuse
  readonly audit: Pick<AuditLog, 'add'>
  readonly log: Logger
}

/** Providers that a client's workload names; all where undefined or empty. */
export type Allowed = readonly string[] | undefined

export type PasswordAnswer =
  | { ok: true; identity: Identity }
  | { ok: false; status: 400 | 429 | 503; text: string; retryAfterSecs?: number }

export interface SignIn {
  /** What the sign-in page offers. */
  options(allowed?: Allowed): SignInOptions
  password(
    request: FastifyRequest,
    idp: string,
    email: string,
    password: string,
    allowed?: Allowed,
  ): Promise<PasswordAnswer>
  /** Where to send the browser; `choice` is what its form said. Throws SignInRefused. */
  begin(
    request: FastifyRequest,
    choice: { readonly idp?: unknown; readonly email?: unknown },
    target: SignInTarget,
    options?: { readonly allowed?: Allowed; readonly loginHint?: string | undefined },
  ): Promise<URL>
  /** Keeps what a provider posted until the browser asks for it; where to send the browser, null where nobody waits. */
  posted(
    request: FastifyRequest,
    idp: string,
    state: string | undefined,
    answer: string | undefined,
  ): URL | null
  /** A sign-in that came to its end where nothing waits for it any more. */
  tooLate(request: FastifyRequest, idp: string, subject: string): SignInRefused
  /** What the browser brought back. Throws SignInRefused; `target` is null where its state is unknown here. */
  finish(request: FastifyRequest, idp: string): Promise<{ identity: Identity; target: SignInTarget }>
}

const wrong = 'That email and password do not match.'

/** Proving who someone is, by whichever configured provider; whatever it is for. */
export function createSignIn(deps: SignInDeps): SignIn {
  const { directory, lockout, accounts, pending, browser, log } = deps
  const callbackUri = (idp: string): string => `${deps.issuer}/idp/${encodeURIComponent(idp)}/callback`
  const signedIn = (identity: Identity, request: FastifyRequest): void => {
    accounts.signedIn(identity)
    log.info(
      { event: 'sign_in.succeeded', subject: identity.subject, idp: identity.idp, address: request.ip },
      'signed in',
    )
    deps.audit.add({
      category: 'Authentication',
      activity: 'Signed in',
      actor: { type: 'User', displayName: identity.subject },
      target: named(identity.idp).name,
      outcome: 'Success',
      severity: 'Info',
      client: { ip: request.ip },
      detail: { identityProvider: identity.idp },
    })
  }
  const named = (idp: string): { id: string; name: string } => ({
    id: idp,
    name: deps.providers().find(({ id }) => id === idp)?.name ?? idp,
  })
  /** Leaves a record and gives the error its reference. */
  const refused = (
    request: FastifyRequest,
    idp: string | undefined,
    error: SignInRefused,
    subject?: string,
  ): SignInRefused => {
    error.reference = deps.refuse({
      event: 'sign_in.failed',
      activity: 'Sign-in refused',
      eventType: 'access.authorization',
      address: request.ip,
      identityProvider: idp === undefined ? undefined : named(idp),
      reason: error.reason,
      detail: error.detail,
      subject,
    })
    return error
  }

  return {
    options: (allowed) => signInOptions(allowedProviders(deps.providers(), allowed)),

    password: async (request, idp, email, password, allowed) => {
      const known = allowedProviders(deps.providers(), allowed).some(
        (provider) => provider.id === idp && provider.type === 'directory',
      )
      // What was typed as an address may be a password: who it was is said of those alone who are in the directory.
      const whom = known ? directory.find(idp, normalizeEmail(email))?.subject : undefined
      const failed = (detail: string, reason: SignInRefused['reason'] = 'ConditionFailed'): void =>
        void refused(request, known ? idp : undefined, new SignInRefused(wrong, detail, { reason }), whom)
      if (!known || email.length > 254 || password.length > 1024 || email === '' || password === '') {
        failed(known ? 'address or password is missing or too long' : 'no such directory is offered')
        return { ok: false, status: 400, text: wrong }
      }
      const account = `${idp}\n${normalizeEmail(email)}`
      const wait = lockout.waitMs(account, request.ip)
      if (wait > 0) {
        failed(`locked for ${Math.ceil(wait / 1000)} s after too many attempts`)
        const retryAfterSecs = Math.ceil(wait / 1000)
        const text = `Too many attempts. Try again in ${words(retryAfterSecs)}.`
        return { ok: false, status: 429, text, retryAfterSecs }
      }
      // Counted before the slow part, so that guesses sent side by side do not all slip in under the limit.
      lockout.failed(account, request.ip)
      try {
        const identity = await directory.verify(idp, email, password)
        if (!identity) {
          failed('no such account, or another password', 'MatchRuleFailed')
          return { ok: false, status: 400, text: wrong }
        }
        lockout.succeeded(account, request.ip)
        signedIn(identity, request)
        return { ok: true, identity }
      } catch (error) {
        if (error instanceof SignInRefused) {
          refused(request, idp, error, whom)
          return { ok: false, status: 400, text: error.message }
        }
        if (error instanceof Fault && error.code === 'http.busy') {
          failed('too many people are signing in at once')
          return {
            ok: false,
            status: 503,
            text: 'Too many people are signing in right now. Try again in a moment.',
          }
        }
        throw error
      }
    },

    begin: async (request, choice, target, { allowed, loginHint } = {}) => {
      const offered = allowedProviders(deps.providers(), allowed)
      const email = typeof choice.email === 'string' ? choice.email.slice(0, 254) : undefined
      const idp = choice.idp === undefined ? providerOfEmail(offered, email ?? '') : choice.idp
      const id = typeof idp === 'object' && idp !== null ? (idp as IdentityProviderConfig).id : idp
      if (id === undefined) {
        throw refused(
          request,
          undefined,
          new SignInRefused(
            'No way to sign in is known here for that address. Check it, or choose one of the others.',
            'no identity provider has the domain of the address',
            { reason: 'NoDataFound' },
          ),
        )
      }
      const external = offered.some((each) => each.id === id) ? deps.externals().get(String(id)) : undefined
      const bound = browser.id(request)
      if (!external || bound === undefined) {
        throw refused(
          request,
          external?.id,
          new SignInRefused(
            'This way to sign in is not offered here.',
            'unknown identity provider or no browser cookie',
          ),
        )
      }
      const { url, check } = await external
        .begin(callbackUri(external.id), email ?? loginHint)
        .catch((error: unknown) => {
          throw error instanceof SignInRefused ? refused(request, external.id, error) : error
        })
      pending.put(external.id, bound, check, target)
      return url
    },

    tooLate: (request, idp, subject) =>
      refused(
        request,
        idp,
        new SignInRefused(
          'This link has expired. Start again from your agent.',
          'the authorization request that it was for is gone',
        ),
        subject,
      ),

    posted: (request, idp, state, answer) => {
      const known = deps.externals().has(idp)
      if (state === undefined || answer === undefined || !pending.answer(idp, state, answer)) {
        const detail = 'an answer that belongs to no sign-in that waits here'
        refused(request, known ? idp : undefined, new SignInRefused(detail, detail))
        return null
      }
      const url = new URL(callbackUri(idp))
      url.searchParams.set('state', state)
      return url
    },

    finish: async (request, idp) => {
      const external = deps.externals().get(idp)
      const callback = new URL(request.url, deps.issuer)
      const state = callback.searchParams.get('state')
      const found = external && state ? pending.take(idp, browser.id(request), state) : null
      if (!external || !found) {
        throw refused(
          request,
          external?.id,
          new SignInRefused(
            'This link has expired. Start again from your agent.',
            'state is unknown, expired, used, or of another browser',
          ),
        )
      }
      try {
        const { tokens, ...identity } = await external.finish(callback, found.check, found.answer)
        signedIn(identity, request)
        if (tokens) deps.keepTokens(identity.idp, identity.subject, tokens)
        return { identity, target: found.target }
      } catch (error) {
        throw error instanceof SignInRefused ? refused(request, idp, error) : error
      }
    },
  }
}

function words(seconds: number): string {
  return seconds < 90 ? `${seconds} seconds` : `${Math.ceil(seconds / 60)} minutes`
}
