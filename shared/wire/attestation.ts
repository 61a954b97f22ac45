import { z } from 'zod'
import { controllerTokenSchema } from './enrolment.ts'

/**
 * How an agent controller proves what it runs on, without a device code: it asks for a challenge, collects evidence
 * that names the challenge, and exchanges it for an access token. Every token takes a proof of its own.
 */

/** RFC 8037 §2, the public members alone. */
const publicJwk = z.strictObject({
  kty: z.literal('OKP'),
  crv: z.literal('Ed25519'),
  x: z.string().regex(/^[A-Za-z0-9_-]{43}$/),
})

/** POST /controller/v1/challenges. The challenge is good for this controller and this key, once, for two minutes. */
export const challengeRequestSchema = z.object({ controllerId: z.uuid(), publicJwk })
export const challengeSchema = z.object({
  challenge: z.string().regex(/^[A-Za-z0-9_-]{20,200}$/),
  /** The challenge in the ten digits that Azure's attested document has room for. */
  nonce: z.string().regex(/^\d{10}$/),
})

const short = z.string().max(4096)
const long = z.string().max(24 << 10)

/** One member per source, in the shapes of the Edge API's client workload details; what a machine has, it sends. */
export const evidenceSchema = z.object({
  aws: z
    .object({
      /** The document as served, byte for byte, and its signature in base64 (RSA, SHA-256). */
      instanceIdentityDocument: long.optional(),
      instanceIdentityDocumentSignature: short.optional(),
      /** PKCS #7 with the document in it, base64, RSA-2048. */
      instanceIdentityDocumentRsa2048: long.optional(),
      stsGetCallerIdentity: z
        .object({ headers: z.record(z.string().max(64), short), region: z.string().max(32) })
        .optional(),
    })
    .optional(),
  azure: z
    .object({
      attestedDocument: z.object({
        encoding: z.literal('pkcs7'),
        signature: long,
        nonce: z.string().max(64),
      }),
    })
    .optional(),
  gcp: z.object({ identityToken: long }).optional(),
  oidc: z.object({ identityToken: long }).optional(),
  /** A JWS (RFC 7515) with the chain in `x5c`; payload: `aud`, the bound audience, `iat`. */
  certificate: z.object({ proof: long }).optional(),
})

/** POST /controller/v1/attested-tokens; `assertion` is RFC 7523 §3 by `publicJwk`, its `aud` the bound audience. */
export const attestedTokenRequestSchema = z.object({
  ...challengeRequestSchema.shape,
  challenge: challengeSchema.shape.challenge,
  evidence: evidenceSchema,
  assertion: short,
  version: z.string().max(100),
  hostname: z.string().max(255),
})
export const attestedTokenSchema = z.object({ ...controllerTokenSchema.shape, tenantId: z.string() })

/**
 * What evidence is made for: this service, this tenant, this challenge. It always begins with our name, so that a
 * control plane can not have a controller make evidence for somebody else.
 */
export const boundAudience = (tenantId: string, challenge: string): string =>
  `aembit-control-plane/${tenantId}/${challenge}`

/** The header of a signed GetCallerIdentity that holds the bound audience. */
export const audienceHeader = 'x-aembit-audience'
/** The one request that a signature for STS may be about. */
export const callerIdentityBody = 'Action=GetCallerIdentity&Version=2011-06-15'
export const stsHost = (region: string): string =>
  `sts.${region}.amazonaws.com${region.startsWith('cn-') ? '.cn' : ''}`

export type ControllerPublicJwk = z.infer<typeof publicJwk>
export type Challenge = z.infer<typeof challengeSchema>
export type Evidence = z.infer<typeof evidenceSchema>
export type AttestedTokenRequest = z.infer<typeof attestedTokenRequestSchema>
export type AttestedToken = z.infer<typeof attestedTokenSchema>
