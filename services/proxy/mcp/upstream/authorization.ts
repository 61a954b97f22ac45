import type { CredentialAnswer } from '../../../../shared/wire/credential.ts'

export type AuthorizationLink = Extract<CredentialAnswer, { kind: 'authorization_required' }>

/** The person must visit a page before this server can be used for them. Not a failure: an answer of its own kind. */
export class AuthorizationRequired extends Error {
  readonly link: AuthorizationLink
  constructor(link: AuthorizationLink) {
    super('authorization required')
    this.name = 'AuthorizationRequired'
    this.link = link
  }
}
