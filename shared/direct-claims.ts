import { browserIpClaim } from './policy.ts'

/** Claims by which our own tokens say what we found out ourselves: from anybody else they mean nothing. */
const oursAlone: ReadonlySet<string> = new Set(['client_workload', 'idp', 'subject_type', browserIpClaim])
/** What a SAML response said is told by our own sign-in alone. */
const samlPrefix = 'saml.'

/** The claims of a token of another issuer, as far as another issuer may say them. */
export function directClaims(claims: Readonly<Record<string, unknown>>): Record<string, unknown> {
  return Object.fromEntries(
    Object.entries(claims).filter(([name]) => !oursAlone.has(name) && !name.startsWith(samlPrefix)),
  )
}
