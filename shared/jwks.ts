import { createLocalJWKSet, type JSONWebKeySet, type JWTVerifyGetKey } from 'jose'

/**
 * Keys of a set that is at hand, by `kid`. A key without one (RFC 7517 §4.5 leaves it open, and a public key in PEM has
 * none) serves tokens whose `kid` no other key has: jose itself takes it only for tokens without.
 */
export function localKeys(jwks: {
  readonly keys: readonly Readonly<Record<string, unknown>>[]
}): JWTVerifyGetKey {
  const named = createLocalJWKSet(jwks as unknown as JSONWebKeySet)
  const nameless = jwks.keys.filter(({ kid }) => kid === undefined)
  if (nameless.length === 0) return named
  const others = createLocalJWKSet({ keys: nameless } as unknown as JSONWebKeySet)
  const known = new Set(jwks.keys.map(({ kid }) => kid))
  return ({ kid, ...header }, token) =>
    kid !== undefined && known.has(kid) ? named({ ...header, kid }, token) : others(header, token)
}
