/** What a guard looks at: the tools of a listing, the arguments of a call, or its result. */
export interface Checked {
  readonly phase: 'listing' | 'input' | 'output'
  readonly server: { readonly id: string; readonly name: string }
  /** The server's own name of the tool; absent for listings. */
  readonly tool?: string
  readonly user: { readonly subject: string; readonly email?: string }
  readonly client: { readonly id: string; readonly ip?: string }
  /** A list of tools, or one object. */
  readonly content: unknown
}

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
