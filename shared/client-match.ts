import ipaddr from 'ipaddr.js'
import type { ClientWorkload } from './wire/snapshot.ts'

/** What is known of a client when it has to be told which workload it is. */
export interface ClientAsk {
  readonly clientId: string
  /** Absent where the client came without a redirect: client credentials, assertions, tokens of another issuer. */
  readonly redirectUri?: string | undefined
  /** Where it connects from. */
  readonly address?: string | undefined
  /** What it asks for, or what its token was given. */
  readonly scopes?: readonly string[] | undefined
  /** Of a token that another issuer made. */
  readonly claims?: Readonly<Record<string, unknown>> | undefined
}

type Identified = Pick<ClientWorkload, 'id' | 'name' | 'identities'>
type Identity = ClientWorkload['identities'][number]

/**
 * Which client workload this is. What tells OAuth clients apart (client id, client id metadata document, redirect URI)
 * is one attribute; the scope is one; the OIDC issuer, subject, audience and each other claim are one each; so is the
 * source address. Several values of one attribute are any-of; every attribute that a workload names must fit, and a
 * source address alone names nobody.
 *
 * Of several that fit, a client id that an administrator wrote down counts most, then OIDC attributes, then a scope,
 * then an exact redirect URI, then the longest wildcard; among equals the first of the list. A dynamically registered
 * client has a random id that nobody wrote down, so its redirect URI is what identifies it.
 *
 * Redirect URIs: compared exactly; on loopback hosts the port is ignored (RFC 8252 §7.3); `*` as the port is any
 * port; a final `*` is any rest of the path; `*` alone is everyone.
 */
export function identifyClient<W extends Identified>(workloads: readonly W[], ask: ClientAsk): W | null {
  let best: { workload: W; weight: number } | undefined
  for (const workload of workloads) {
    const weight = addressFits(workload, ask.address) ? weightOf(workload, ask) : 0
    if (weight > (best?.weight ?? 0)) best = { workload, weight }
  }
  return best?.workload ?? null
}

/** Whether a workload that names source addresses may be used from this one; one that names none may from anywhere. */
export function addressFits(
  { identities }: Pick<Identified, 'identities'>,
  address: string | undefined,
): boolean {
  const wanted = identities.filter(({ type }) => type === 'sourceIPAddress')
  if (wanted.length === 0) return true
  if (address === undefined || !ipaddr.isValid(address)) return false
  const given = ipaddr.process(address)
  return wanted.some(({ value }) => {
    const [base, bits] = value.includes('/')
      ? ipaddr.parseCIDR(value)
      : ([ipaddr.process(value), undefined] as const)
    return base.kind() === given.kind() && given.match(base, bits ?? (given.kind() === 'ipv4' ? 32 : 128))
  })
}

const writtenDown = Number.MAX_SAFE_INTEGER
/** Above every redirect URI, below a client id; a token's claim says more than a scope that a client asks for. */
const ofToken = 1e9
const ofScope = 1e8

const ofClient: ReadonlySet<Identity['type']> = new Set([
  'oauthRedirectUri',
  'oauthClientId',
  'aembitClientId',
  'cimdClientId',
])
const claimOf: Partial<Record<Identity['type'], string>> = {
  oidcIdTokenIssuer: 'iss',
  oidcIdTokenSubject: 'sub',
  oidcIdTokenAudience: 'aud',
}

/** 0 where an attribute that is named does not fit. */
function weightOf({ identities }: Identified, ask: ClientAsk): number {
  const client = identities.filter(({ type }) => ofClient.has(type))
  const weights = client.map((identity) => clientWeight(identity, ask))
  if (client.length > 0 && Math.max(...weights) === 0) return 0
  let weight = Math.max(0, ...weights)
  const scopes = identities.filter(({ type }) => type === 'oauthScope')
  if (scopes.length > 0) {
    const given = ask.scopes ?? scopesOf(ask.claims)
    if (!scopes.some(({ value }) => given.includes(value))) return 0
    weight = Math.min(writtenDown, weight + ofScope)
  }
  for (const [claim, wanted] of claimsWanted(identities)) {
    const given = textsOf(ask.claims, claim)
    if (!wanted.some((value) => given.includes(value))) return 0
    weight = Math.min(writtenDown, weight + ofToken)
  }
  return weight
}

/** The claims that identities are about, each with the values of which any will do. */
function claimsWanted(identities: readonly Identity[]): Map<string, string[]> {
  const wanted = new Map<string, string[]>()
  for (const { type, key, value } of identities) {
    const claim = type === 'oidcIdToken' ? key : claimOf[type]
    if (claim !== undefined) wanted.set(claim, [...(wanted.get(claim) ?? []), value])
  }
  return wanted
}

/** A claim's values as text: none where it is absent or something else than text, numbers and booleans. */
function textsOf(claims: ClientAsk['claims'], name: string): readonly string[] {
  if (!claims || !Object.hasOwn(claims, name)) return []
  const value = claims[name]
  const list: readonly unknown[] = Array.isArray(value) ? value : [value]
  return list.filter((each) => ['string', 'number', 'boolean'].includes(typeof each)).map(String)
}

/** RFC 8693 §4.2 `scope`, one text; `scp` of Entra ID and Okta, a text or a list. */
export function scopesOf(claims: ClientAsk['claims']): readonly string[] {
  return [...textsOf(claims, 'scope'), ...textsOf(claims, 'scp')].flatMap((text) => text.split(' '))
}

function clientWeight({ type, value }: Identity, ask: ClientAsk): number {
  if (type !== 'oauthRedirectUri') return value === ask.clientId ? writtenDown : 0
  return ask.redirectUri === undefined ? 0 : redirectWeight(value, ask.redirectUri)
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
