/** What this service asks of the room that seals secrets (AES-256-GCM under the master key, `context` as AAD). */
export interface Sealer {
  seal(plain: Buffer, context: string): Buffer
  open(sealed: Buffer, context: string): Buffer
}
