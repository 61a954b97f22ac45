import { Fault } from '../../../shared/faults.ts'

/** RFC 6750 §2.1 `b64token`; the upper bound keeps one header from filling a cache. */
const credentials = /^bearer +([A-Za-z0-9\-._~+/]+=*)$/i
const maxTokenBytes = 16 * 1024

/**
 * The access token of a request: in exactly one Authorization header, never in the query string (OAuth 2.1 §5.1).
 * `rawHeaders` is name, value, name, value …, so that a second Authorization header, which Node drops from
 * `headers`, is seen. Throws token.missing, token.in_query, token.malformed.
 */
export function bearerToken(url: string, rawHeaders: readonly string[]): string {
  const query = url.indexOf('?')
  if (query !== -1 && new URLSearchParams(url.slice(query)).has('access_token'))
    throw new Fault('token.in_query')
  let value: string | undefined
  for (let at = 0; at < rawHeaders.length; at += 2) {
    const name = rawHeaders[at]!
    if (name.length !== 13 || name.toLowerCase() !== 'authorization') continue
    if (value !== undefined)
      throw new Fault('token.malformed', { detail: 'more than one Authorization header' })
    value = rawHeaders[at + 1]!
  }
  if (value === undefined) throw new Fault('token.missing')
  const token = credentials.exec(value)?.[1]
  if (token === undefined) {
    // Another scheme is no attempt at a bearer token: RFC 6750 §3.1 wants no error code then.
    if (!/^bearer\b/i.test(value))
      throw new Fault('token.missing', { detail: 'another authentication scheme' })
    throw new Fault('token.malformed', { detail: 'the Authorization header is not one Bearer token' })
  }
  if (token.length > maxTokenBytes) throw new Fault('token.malformed', { detail: `${token.length} bytes` })
  return token
}
