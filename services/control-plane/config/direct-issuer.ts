import { createPublicKey } from 'node:crypto'
import { z } from 'zod'
import { webUrl } from './fields.ts'

const jwk = z.looseObject({
  kty: z.enum(
    ['RSA', 'EC', 'OKP'],
    'is no public key that verifies tokens; a shared secret would let whoever verifies sign as well',
  ),
  d: z.undefined('holds the private part of the key: write its public part alone').optional(),
})
export const publicJwks = z.strictObject({ keys: z.array(jwk).min(1).max(20) })

export const publicKey = z
  .string()
  .max(16_384)
  .transform((pem, context) => {
    try {
      const key = createPublicKey(pem)
      if (pem.includes('PRIVATE KEY')) throw new Error('private')
      return key.export({ format: 'jwk' }) as z.infer<typeof jwk>
    } catch {
      context.addIssue({
        code: 'custom',
        message: 'is no public key, write PEM that begins with -----BEGIN PUBLIC KEY-----',
      })
      return z.NEVER
    }
  })

/**
 * Tokens of an identity provider that agents send as they are, without our authorization server: who issues them and
 * under which keys they verify. Their audience has to be the gateway.
 */
export const directIssuer = z
  .strictObject({
    /** `iss` of the tokens, compared byte for byte. */
    issuer: z.string().min(1).max(2048),
    jwksUri: webUrl.optional(),
    jwks: publicJwks.optional(),
    publicKey: publicKey.optional(),
    /** Documented for attestation, where the control plane verifies and keeps it (agentControllers). */
    symmetricKey: z
      .never(
        'is refused here: gateways verify these tokens, and with the key each of them could sign as anybody. Have the provider sign with RS256 or ES256 and write jwksUri, jwks or publicKey',
      )
      .optional(),
    algorithms: z
      .array(
        z.enum(
          ['RS256', 'ES256', 'PS256', 'EdDSA'],
          'is none of RS256, ES256, PS256 and EdDSA; with a shared secret (HS256) every gateway could sign',
        ),
      )
      .min(1)
      .default(['RS256', 'ES256']),
  })
  .refine(
    ({ jwksUri, jwks, publicKey }) =>
      [jwksUri, jwks, publicKey].filter((each) => each !== undefined).length === 1,
    'needs its keys in one of three ways: jwksUri, jwks or publicKey',
  )

export type DirectIssuer = z.infer<typeof directIssuer>
