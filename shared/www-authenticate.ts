/** What a 401 or 403 says about the token and where to get one (RFC 6750 §3, RFC 9728 §5.1). */
export interface Challenge {
  readonly error: string | undefined
  readonly resourceMetadata: string | undefined
  readonly scope: string | undefined
}

const maxHeader = 8_192

/** Reads the first Bearer challenge of a WWW-Authenticate header; nothing of a header that is not well-formed. */
export function parseChallenge(header: string | null): Challenge {
  const none = { error: undefined, resourceMetadata: undefined, scope: undefined }
  if (header === null || header.length > maxHeader) return none
  const start = /(?:^|,)\s*bearer\s+/i.exec(header)
  if (!start) return none
  const found = new Map<string, string>()
  const parameter = /\s*,?\s*([A-Za-z0-9_-]+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s",]+))/y
  parameter.lastIndex = start.index + start[0].length
  for (let match = parameter.exec(header); match; match = parameter.exec(header)) {
    const [, name = '', quoted, bare] = match
    const key = name.toLowerCase()
    if (!found.has(key)) found.set(key, quoted === undefined ? (bare ?? '') : quoted.replace(/\\(.)/g, '$1'))
  }
  return {
    error: found.get('error'),
    resourceMetadata: found.get('resource_metadata'),
    scope: scopeOf(found.get('scope')),
  }
}

/** The tokens of several scope values, each once; undefined for none. */
export function unionOf(...scopes: readonly (string | null | undefined)[]): string | undefined {
  const tokens = new Set(scopes.flatMap((scope) => (scope ?? '').split(' ')).filter((token) => token !== ''))
  return tokens.size > 0 ? [...tokens].join(' ') : undefined
}

/** Whether every token of `part` is in `whole`. */
export function covers(whole: string, part: string): boolean {
  const have = new Set(whole.split(' '))
  return part.split(' ').every((token) => token === '' || have.has(token))
}

/** Scope tokens of RFC 6749 §3.3, else undefined. */
export function scopeOf(value: unknown): string | undefined {
  if (typeof value !== 'string' || value.length > 4_000) return undefined
  const tokens = value.split(' ').filter((token) => token !== '')
  return tokens.length > 0 && tokens.every((token) => /^[\x21\x23-\x5B\x5D-\x7E]+$/.test(token))
    ? [...new Set(tokens)].join(' ')
    : undefined
}
