/**
 * RFC 8707 §2: the URL that clients name as the one they want a token for. They write it with or without a trailing
 * slash, with another case of the host or with the default port; all of these are the canonical one. Anything else
 * is handed back unchanged, to be refused as invalid_target.
 */
export function canonicalResource(given: string, canonical: string): string {
  const parsed = URL.parse(given)
  const wanted = new URL(canonical)
  if (!parsed) return given
  if (parsed.hash !== '' || parsed.username !== '' || parsed.password !== '') return given
  const same =
    parsed.origin === wanted.origin &&
    trim(parsed.pathname) === trim(wanted.pathname) &&
    parsed.search === wanted.search
  return same ? canonical : given
}

function trim(pathname: string): string {
  return pathname.replace(/\/$/, '')
}

/** The same for the whole set of `resource` parameters: once where all of them mean the one we have. */
export function canonicalResources(given: readonly string[], canonical: string): string[] {
  return [
    ...new Set(given.filter((value) => value !== '').map((value) => canonicalResource(value, canonical))),
  ]
}
