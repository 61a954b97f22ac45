import type { Fault } from '../../../shared/faults.ts'

/** A quoted-string of RFC 9110 §5.6.4; RFC 6750 §3 allows no quotes, backslashes or non-ASCII in these values. */
function quoted(value: string): string {
  return `"${value.replace(/[^\x20-\x7e]|["\\]/g, '')}"`
}

/**
 * `WWW-Authenticate` of a 401 (RFC 6750 §3 with `resource_metadata` of RFC 9728 §5.1). A request without a token
 * gets no error code (RFC 6750 §3.1). `scopes` are those that a token for this gateway should ask for.
 */
export function challenge(fault: Fault, metadataUrl: string, scopes: readonly string[]): string {
  const parts = [`resource_metadata=${quoted(metadataUrl)}`]
  if (scopes.length > 0) parts.push(`scope=${quoted(scopes.join(' '))}`)
  if (fault.spec.oauth) {
    parts.push(`error=${quoted(fault.spec.oauth)}`, `error_description=${quoted(fault.message)}`)
  }
  return `Bearer ${parts.join(', ')}`
}
