import { createHash } from 'node:crypto'

/** SHA-256, base64url: how a bearer value is looked up without being stored. */
export function digest(value: string): string {
  return createHash('sha256').update(value).digest('base64url')
}
