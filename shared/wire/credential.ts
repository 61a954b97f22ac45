import { hash } from 'node:crypto'
import { z } from 'zod'

/** In `serverId`, before the id of a content guard whose secret is asked for; ids of servers have no slash. */
export const guardCredentialPrefix = 'contentSecurity/'

/** Asked of sync by proxy (sync.sock) and of the control plane by sync, in the same words. */
export const credentialRequestSchema = z.object({
  /** The person, as the access token names them. */
  issuer: z.string(),
  subject: z.string(),
  /** `client_id` of the agent's access token. */
  clientId: z.string(),
  serverId: z.string(),
  /** Where the agent asks from, as front saw it; conditions on place are decided on it once more. */
  clientIp: z.string().max(64).optional(),
  /** The address of the browser that the person signed in with, as their token has it. */
  browserIp: z.string().max(64).optional(),
  /**
   * Of a token that a trusted identity provider issued by itself: its claims, as the gateway verified them. Absent for
   * tokens of ours, whose people we know.
   */
  claims: z.record(z.string(), z.unknown()).optional(),
  /** SHA-256 (base64url) of a credential value that the server just refused with 401: do not answer it again. */
  rejected: z.string().optional(),
  /** Scopes that the server demanded by 403 insufficient_scope (RFC 6750 §3.1): the token at hand is good and not enough. */
  scope: z.string().max(4_000).optional(),
})

/** Whose answer for which server: what an invalidation names. */
export const credentialOwner = ({
  issuer,
  subject,
  serverId,
}: Pick<CredentialRequest, 'issuer' | 'subject' | 'serverId'>): string =>
  JSON.stringify([issuer, subject, serverId])

/**
 * What an answer hangs on besides its owner: the agent, the browser, and of a token of another issuer its claims, for
 * they decide, and tokens may be made of them. Who keeps answers keeps one for each. Not the address that the agent
 * asks from: an answer that hangs on that one may not be kept at all. Nor the token's times and id, which are others in each
 * token of an agent that fetches one for each call.
 */
export const credentialVariant = ({
  clientId,
  browserIp = '',
  claims,
}: Pick<CredentialRequest, 'clientId' | 'browserIp' | 'claims'>): string =>
  JSON.stringify([clientId, browserIp, claims ? digestOf(claims) : ''])

function digestOf({
  iat: _iat,
  nbf: _nbf,
  exp: _exp,
  jti: _jti,
  ...lasting
}: Record<string, unknown>): string {
  return hash('sha256', JSON.stringify(lasting), 'base64url')
}

/** The event by which this credential was given; a link of the authorization chain. */
const authorizationId = z.uuid().optional()

const pair = z.object({ name: z.string(), value: z.string() })

/** Headers to put on the upstream request, and parameters to add to its URL. */
const headersAnswer = z.object({
  kind: z.literal('headers'),
  headers: z.array(pair),
  query: z.array(pair).optional(),
  /** ISO 8601; null where the credential itself knows no end. */
  expiresAt: z.iso.datetime().nullable(),
  credentialProviderId: z.string(),
  authorizationId,
})

/** Temporary keys that each upstream request is signed with (AWS Signature Version 4). */
const signatureAnswer = z.object({
  kind: z.literal('aws-sigv4'),
  accessKeyId: z.string(),
  secretAccessKey: z.string(),
  sessionToken: z.string(),
  region: z.string(),
  service: z.string(),
  expiresAt: z.iso.datetime(),
  credentialProviderId: z.string(),
  authorizationId,
})

const noneAnswer = z.object({ kind: z.literal('none'), authorizationId })

/** The person must visit `url` in a browser first; the same call works afterwards. */
const authorizationAnswer = z.object({
  kind: z.literal('authorization_required'),
  url: z.string(),
  /** What the person reads: names the server, no secret. */
  message: z.string(),
  elicitationId: z.string(),
  /** `not_connected`, `insufficient_scope`, or why the connection ended. */
  reason: z.string().optional(),
})

const deniedAnswer = z.object({
  kind: z.literal('denied'),
  reason: z.string(),
  /** Who says no; policy unless told. */
  by: z.enum(['policy', 'provider']).optional(),
})

export const credentialAnswerSchema = z.discriminatedUnion('kind', [
  headersAnswer,
  signatureAnswer,
  noneAnswer,
  authorizationAnswer,
  deniedAnswer,
])

export type CredentialRequest = z.infer<typeof credentialRequestSchema>
export type CredentialAnswer = z.infer<typeof credentialAnswerSchema>

/**
 * The text whose SHA-256 (base64url) names a credential as `rejected`: the Authorization header's value, else all header
 * and parameter values in order, one a line; the access key id of a signature.
 */
export function credentialText(answer: CredentialAnswer): string {
  if (answer.kind === 'aws-sigv4') return answer.accessKeyId
  if (answer.kind !== 'headers') return ''
  const authorization = answer.headers.find(({ name }) => name.toLowerCase() === 'authorization')
  const values = [...answer.headers, ...(answer.query ?? [])].map(({ value }) => value)
  return authorization?.value ?? values.join('\n')
}

/** GET /v1/keys on sync.sock, GET /gateway/v1/keys at the control plane: the tenant's session-sealing keys. */
export const sealingKeysSchema = z.object({
  /** Newest first: seal with the first, open with any. */
  keys: z.array(z.object({ kid: z.string(), /** 32 bytes, base64url. */ key: z.string() })).min(1),
})
export type SealingKeys = z.infer<typeof sealingKeysSchema>
