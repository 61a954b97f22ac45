import type { GuardPhase } from '../../../shared/wire/content-security.ts'

/** What a guard looks at, and in whose name it goes. */
export interface Checked {
  readonly phase: GuardPhase
  readonly server: { readonly id: string; readonly name: string }
  /** The server's own name of the tool, where one was called. */
  readonly tool?: string
  /** The server's own name of the prompt; the resource's address. */
  readonly prompt?: string
  readonly uri?: string
  readonly user: { readonly subject: string; readonly email?: string }
  readonly client: { readonly id: string; readonly ip?: string }
  /** A list of tools, prompts, resources or resource templates, or one object. */
  readonly content: unknown
}

/** Content that is a list of what a server has. */
export const isListing = (phase: GuardPhase): boolean => phase.endsWith('listing')

export interface GuardAnswer {
  readonly decision: 'allowed' | 'transformed' | 'blocked'
  /** In place of what was checked; where the decision is `transformed`. */
  readonly content?: unknown
  readonly requestId?: string
  /** Names of what was detected, never content. */
  readonly reason?: string
}

/** How one kind of guard is spoken to. */
export interface Dialect {
  readonly url: string
  body(checked: Checked): unknown
  /** Throws where the answer is not of the guard's shape. */
  read(body: unknown, checked: Checked): GuardAnswer
}
