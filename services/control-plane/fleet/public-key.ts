import { calculateJwkThumbprint, importJWK, type JWK } from 'jose'

/** The public members of a public Ed25519 JWK (RFC 8037 §2) with its RFC 7638 thumbprint as `kid`. Throws an Error. */
export async function publicKey({ kty, crv, x, d }: Record<string, unknown>): Promise<JWK & { kid: string }> {
  if (kty !== 'OKP' || crv !== 'Ed25519' || typeof x !== 'string' || d !== undefined) {
    throw new Error('it is not a public Ed25519 JWK')
  }
  const jwk = { kty, crv, x }
  await importJWK(jwk, 'EdDSA')
  return { ...jwk, kid: await calculateJwkThumbprint(jwk) }
}
