/**
 * Seals what lies in the database under the master key, `context` (table and row) as additional data: a sealed value
 * opens only in the row it was made for. `credentials/sealer.ts` is the one there is; the shape stands here, below
 * every room that stores something sealed.
 */
export interface Sealer {
  seal(plain: Buffer, context: string): Buffer
  /** Throws Fault `internal` where the value was changed, moved to another row, or sealed under another key. */
  open(sealed: Buffer, context: string): Buffer
}
