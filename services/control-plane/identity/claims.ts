/**
 * What an identity provider says of a person beyond name, address and groups, for rules of policy and for credentials
 * that name it. Names that mean something in our own tokens are not taken from anybody else.
 */
const reserved = new Set([
  ...['iss', 'sub', 'aud', 'exp', 'iat', 'nbf', 'jti', 'azp', 'nonce', 'scope', 'cnf', 'act', 'typ', 'sid'],
  ...['at_hash', 'c_hash', 's_hash', 'client_id', 'client_workload', 'idp', 'browser_ip', 'subject_type'],
  ...['email', 'name', 'groups'],
])
const maxChars = 16_384
const maxClaimChars = 4_096

/** What dynamic claims of SAML are kept under; no other protocol may say them. */
const samlPrefix = 'saml.'

/** Bounded: what does not fit is left out, the largest first. */
export function keepClaims(
  claims: Readonly<Record<string, unknown>>,
  source: 'saml' | 'oauth' = 'oauth',
): Readonly<Record<string, unknown>> {
  const sized = Object.entries(claims)
    .filter(([name]) => !reserved.has(name) && name.length <= 300)
    .filter(([name]) => source === 'saml' || !name.startsWith(samlPrefix))
    .map(([name, value]) => ({
      name,
      value,
      chars: JSON.stringify(value)?.length ?? Number.POSITIVE_INFINITY,
    }))
    .filter(({ chars }) => chars <= maxClaimChars)
    .sort((a, b) => a.chars - b.chars)
  const kept: [string, unknown][] = []
  let chars = 0
  for (const each of sized) {
    chars += each.chars + each.name.length
    if (chars > maxChars) break
    kept.push([each.name, each.value])
  }
  return Object.fromEntries(kept)
}

/** The claims of a person that go into a token: those that the policy in force reads, and no more. */
export function claimsFor(
  claims: Readonly<Record<string, unknown>> | undefined,
  read: ReadonlySet<string>,
): Record<string, unknown> {
  return Object.fromEntries(
    [...read].flatMap((name) =>
      claims && !reserved.has(name) && Object.hasOwn(claims, name) ? [[name, claims[name]] as const] : [],
    ),
  )
}
