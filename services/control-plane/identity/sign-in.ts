import type { FastifyRequest } from 'fastify'
import { Fault } from '../../../shared/faults.ts'
import type { Logger } from '../../../shared/log.ts'
import type { IdentityProviderConfig } from '../config/schema.ts'
import type { Accounts } from './accounts.ts'
import type { BrowserBinding } from './csrf.ts'
import { type Directory, normalizeEmail } from './directory.ts'
import type { IdpTokenStore } from './idp-tokens.ts'
import type { Lockout } from './lockout.ts'
import type { PendingSignIns, SignInTarget } from './pending.ts'
import { allowedProviders, providerOfEmail, type SignInOptions, signInOptions } from './realm.ts'
import type { createRefusals } from './refusals.ts'
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
  readonly refused: ReturnType<typeof createRefusals>
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
  posted(idp: string, state: string, answer: string): URL | null
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
  }
  const failed = (
    request: FastifyRequest,
    idp: string,
    reason: string,
    more: Record<string, unknown> = {},
  ): void =>
    log.warn({ event: 'sign_in.failed', idp, address: request.ip, reason, ...more }, 'sign-in failed')

  return {
    options: (allowed) => signInOptions(allowedProviders(deps.providers(), allowed)),

    password: async (request, idp, email, password, allowed) => {
      const known = allowedProviders(deps.providers(), allowed).some(
        (provider) => provider.id === idp && provider.type === 'directory',
      )
      if (!known || email.length > 254 || password.length > 1024 || email === '' || password === '') {
        return { ok: false, status: 400, text: wrong }
      }
      const account = `${idp}\n${normalizeEmail(email)}`
      const wait = lockout.waitMs(account, request.ip)
      if (wait > 0) {
        failed(request, idp, 'locked', { waitMs: wait })
        const retryAfterSecs = Math.ceil(wait / 1000)
        const text = `Too many attempts. Try again in ${words(retryAfterSecs)}.`
        return { ok: false, status: 429, text, retryAfterSecs }
      }
      // Counted before the slow part, so that guesses sent side by side do not all slip in under the limit.
      lockout.failed(account, request.ip)
      try {
        const identity = await directory.verify(idp, email, password)
        if (!identity) {
          failed(request, idp, 'wrong_password')
          return { ok: false, status: 400, text: wrong }
        }
        lockout.succeeded(account, request.ip)
        signedIn(identity, request)
        return { ok: true, identity }
      } catch (error) {
        if (error instanceof SignInRefused) {
          failed(request, idp, error.detail)
          return { ok: false, status: 400, text: error.message }
        }
        if (error instanceof Fault && error.code === 'http.busy') {
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
        throw new SignInRefused(
          'No way to sign in is known here for that address. Check it, or choose one of the others.',
          'no identity provider has the domain of the address',
        )
      }
      const external = offered.some((each) => each.id === id) ? deps.externals().get(String(id)) : undefined
      const bound = browser.id(request)
      if (!external || bound === undefined) {
        throw new SignInRefused(
          'This way to sign in is not offered here.',
          'unknown identity provider or no browser cookie',
        )
      }
      const { url, check } = await external.begin(callbackUri(external.id), email ?? loginHint)
      pending.put(external.id, bound, check, target)
      return url
    },

    posted: (idp, state, answer) => {
      if (!pending.answer(idp, state, answer)) return null
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
        failed(request, idp, 'state is unknown, expired, used, or of another browser')
        throw new SignInRefused('This link has expired. Start again from your agent.', 'state')
      }
      try {
        const { tokens, ...identity } = await external.finish(callback, found.check, found.answer)
        signedIn(identity, request)
        if (tokens) deps.keepTokens(identity.idp, identity.subject, tokens)
        return { identity, target: found.target }
      } catch (error) {
        if (error instanceof SignInRefused) {
          const name = deps.providers().find(({ id }) => id === idp)?.name ?? idp
          deps.refused(error, { id: idp, name }, request.ip)
        }
        throw error
      }
    },
  }
}

function words(seconds: number): string {
  return seconds < 90 ? `${seconds} seconds` : `${Math.ceil(seconds / 60)} minutes`
}
