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

/** Why a sign-in did not happen; `text` is for the person, `detail` for the log. */
export class SignInRefused extends Error {
  readonly detail: string

  constructor(text: string, detail: string, options?: ErrorOptions) {
    super(text, options)
    this.name = 'SignInRefused'
    this.detail = detail
  }
}

const alone = 'client:'

/** `sub` of a client without a person. No person can have a subject of this form. */
export const clientSubject = (clientId: string): string => `${alone}${clientId}`
export const isClientSubject = (subject: string): boolean => subject.startsWith(alone)
