import type { Configuration } from 'openid-client'
import type { TrustReason } from '../events/refusals.ts'
import type { IdpTokens } from './idp-tokens.ts'

/** The person behind a browser session or a token, as the rest of the control plane knows them. */
export interface User {
  /** `iss` of our tokens. */
  readonly issuer: string
  /** `sub` of our tokens. */
  readonly subject: string
  readonly idp: string
  readonly email?: string
  readonly name?: string
  readonly groups: string[]
}

/** What an identity provider said about someone who just proved who they are. */
export interface Identity {
  readonly idp: string
  /** The provider's own name for the person; never changes there. */
  readonly idpSubject: string
  /** `sub` of our tokens for them. */
  readonly subject: string
  readonly email?: string
  readonly name?: string
  readonly groups: readonly string[]
  /** Everything else that the provider says of them; see claims.ts. */
  readonly claims?: Readonly<Record<string, unknown>>
}

export type RefusalReason = TrustReason

/** Why a sign-in did not happen; the message is for the person, `detail` for the log. */
export class SignInRefused extends Error {
  readonly detail: string
  readonly reason: RefusalReason
  /** What the person can tell an operator, who finds the same in log and events. */
  reference: string | undefined

  constructor(text: string, detail: string, options: ErrorOptions & { reason?: RefusalReason } = {}) {
    super(text, options)
    this.name = 'SignInRefused'
    this.detail = detail
    this.reason = options.reason ?? 'ConditionFailed'
  }
}

/** What must come back with the browser; sealed at rest while it is away. */
export interface PendingCheck {
  readonly state: string
  /** Whatever else the provider's protocol binds an answer to. */
  readonly [name: string]: string
}

/** `tokens`: what the provider gave for later requests in the person's name, where it gives any. */
export type SignedIn = Identity & { readonly tokens?: IdpTokens | undefined }

/** An identity provider beyond our own directory, whatever it speaks. */
export interface ExternalProvider {
  readonly id: string
  /** URL to send the browser to, and what to check its return against. Throws SignInRefused where unreachable. */
  begin(redirectUri: string, loginHint?: string): Promise<{ url: URL; check: PendingCheck }>
  /**
   * `callback` is the full URL the browser came back to, `answer` what it posted before that, where the protocol posts.
   * Throws SignInRefused for anything that does not verify.
   */
  finish(callback: URL, check: PendingCheck, answer?: string): Promise<SignedIn>
  /** Who we are there and where, for further requests in a person's name; absent where there are none. */
  configuration?(): Promise<Configuration>
  /** Whom a logout token of the provider is about. Throws SignInRefused. */
  logoutToken?(token: string): Promise<{ sub: string; jti: string; exp: number }>
  /**
   * Whom a SAML logout request is about, and where the browser takes the answer; `query` is the request's own. Throws
   * SignInRefused.
   */
  logoutRequest?(query: string): Promise<{ nameId: string; answer?: URL }>
  /** Where a person signs out at the provider as well; undefined where it has no such place. */
  endSession?(returnTo: string, hint: string | undefined): Promise<URL | undefined>
  close(): Promise<void>
}

const alone = 'client:'

/** `sub` of a client without a person. No person can have a subject of this form. */
export const clientSubject = (clientId: string): string => `${alone}${clientId}`
export const isClientSubject = (subject: string): boolean => subject.startsWith(alone)
