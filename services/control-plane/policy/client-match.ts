import type { Config } from '../config/schema.ts'

export interface ClientAsk {
  readonly redirectUri: string
  readonly clientId: string
}

type ClientWorkload = Config['clientWorkloads'][number]

/**
 * Which client workload this OAuth client is. A client id that an administrator wrote down counts most, then an
 * exact redirect URI, then the longest wildcard; among equals the first of the file. A dynamically registered
 * client has a random id that nobody wrote down, so its redirect URI is what identifies it.
 *
 * Redirect URIs: compared exactly; on loopback hosts the port is ignored (RFC 8252 §7.3); `*` as the port is any
 * port; a final `*` is any rest of the path; `*` alone is everyone.
 */
export function identifyClientWorkload(
  config: Pick<Config, 'clientWorkloads'>,
  ask: ClientAsk,
): ClientWorkload | null {
  let best: { workload: ClientWorkload; weight: number } | undefined
  for (const workload of config.clientWorkloads) {
    for (const identity of workload.identities) {
      const weight =
        identity.type === 'oauthRedirectUri'
          ? redirectWeight(identity.value, ask.redirectUri)
          : identity.value === ask.clientId
            ? Number.MAX_SAFE_INTEGER
            : 0
      if (weight > (best?.weight ?? 0)) best = { workload, weight }
    }
  }
  return best?.workload ?? null
}

/** 0 where the URI does not fit the pattern, else more for a pattern that says more. */
export function redirectWeight(pattern: string, redirectUri: string): number {
  if (!URL.canParse(redirectUri) || redirectUri.includes('#')) return 0
  if (pattern === '*') return 1
  const open = pattern.endsWith('*') && !/^https?:\/\/[^/]+:\*$/.test(pattern)
  const wanted = comparable(open ? pattern.slice(0, -1) : pattern)
  const given = comparable(redirectUri, wanted?.anyPort)
  if (!wanted || !given) return 0
  if (!open) return wanted.text === given.text ? 1_000_000 + wanted.text.length : 0
  return given.text.startsWith(wanted.text) ? 1 + wanted.text.length : 0
}

const loopback = new Set(['localhost', '127.0.0.1', '[::1]'])

/** The URI with its port left out where it does not count. */
function comparable(uri: string, anyPort = false): { text: string; anyPort: boolean } | undefined {
  const star = /^(https?:\/\/[^/:]+):\*(?=\/|$)/
  const plain = uri.replace(star, '$1')
  if (!URL.canParse(plain)) return undefined
  const url = new URL(plain)
  const ignore = anyPort || star.test(uri) || (url.protocol === 'http:' && loopback.has(url.hostname))
  if (ignore) url.port = ''
  // A dot-segment is resolved by the parser, an encoded one is not: it could climb out of a wildcard's path.
  if (/%2e|%2f|%5c/i.test(url.pathname)) return undefined
  return { text: url.href, anyPort: ignore }
}
