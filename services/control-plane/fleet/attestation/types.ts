/** What verified evidence says. */
export interface Attested {
  /** Which machine, for people: an ARN, an instance id, a subject. */
  readonly subject: string
  /** By name of a match rule's attribute; `OidcCustom:<claim>` for claims. */
  readonly attributes: Readonly<Record<string, readonly string[]>>
  /**
   * Evidence that is not made for one challenge could be shown again by who has seen it. It belongs to the key that
   * shows it first, until then (ms since the epoch).
   */
  readonly pin?: { readonly value: string; readonly until: number }
  /** Where nobody has shown it yet: the last moment for the first time. */
  readonly firstBefore?: number
}

export interface EvidenceContext {
  /** What fresh evidence must be made for. */
  readonly audience: string
  /** The same in ten digits. */
  readonly nonce: string
  /** ms since the epoch. */
  readonly now: number
}

/** Why evidence does not count, for the operator's log; the caller hears nothing of it. */
export class EvidenceError extends Error {
  override readonly name = 'EvidenceError'
}
