import { isIP } from 'node:net'
import { z } from 'zod'
import { clientIdentityTypes } from '../../../shared/wire/snapshot.ts'
import { isCidr, networks } from './fields.ts'
import type { Secret } from './secret.ts'

/** What the configuration says about clients: registered ones, documents about themselves, how they are told apart. */
export const jwtBearerGrant = 'urn:ietf:params:oauth:grant-type:jwt-bearer'

const host = /^(\*\.)?[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*$/

export const clientIdMetadataDocuments = z.strictObject({
  enabled: z.boolean().default(true),
  /** Hosts whose documents are taken, beside those that client workloads name: `agent.example`, `*.agent.example`. */
  allowedDomains: z
    .array(z.string().regex(host, 'is no host name, write one like agent.example or *.agent.example'))
    .default([]),
  /** Private networks that such a host may be in. */
  allowedNetworks: networks,
})

const publicJwk = z
  .record(z.string(), z.unknown())
  .refine((key) => !('d' in key) && !('k' in key), 'is a private key, write the public half alone')

export function createRegisteredClient<S extends z.ZodType<Secret>>(secret: S) {
  return z
    .strictObject({
      clientId: z.string().min(1).max(200),
      name: z.string().min(1).max(200).optional(),
      clientSecret: secret.optional(),
      /** Public keys of a client that authenticates by private_key_jwt. */
      jwks: z.strictObject({ keys: z.array(publicJwk).min(1).max(10) }).optional(),
      jwksUri: z.url({ protocol: /^https$/ }).optional(),
      redirectUris: z.array(z.string().min(1)).default([]),
      grantTypes: z
        .array(z.enum(['authorization_code', 'refresh_token', 'client_credentials', jwtBearerGrant]))
        .min(1)
        .default(['authorization_code', 'refresh_token']),
      /** May ask whether any token of ours is good (RFC 7662), not only its own. */
      introspection: z.boolean().default(false),
    })
    .superRefine((client, context) => {
      const problem = (path: string, message: string): void =>
        context.addIssue({ code: 'custom', path: [path], message })
      const authenticates = [client.clientSecret, client.jwks, client.jwksUri].filter(
        (value) => value !== undefined,
      ).length
      if (authenticates > 1) {
        problem(
          'clientSecret',
          'is one way too many to authenticate, keep one of clientSecret, jwks and jwksUri',
        )
      }
      const code = client.grantTypes.includes('authorization_code')
      if (code && client.redirectUris.length === 0) {
        problem('redirectUris', 'is empty, name where the client takes its code, or drop authorization_code')
      }
      const alone = client.grantTypes.some(
        (grant) => grant === 'client_credentials' || grant === jwtBearerGrant,
      )
      if ((alone || client.introspection) && authenticates === 0) {
        problem(
          alone ? 'grantTypes' : 'introspection',
          'needs a client that can prove itself, add jwks, jwksUri or clientSecret',
        )
      }
    })
}

export const clientIdentity = z
  .strictObject({
    type: z.enum([...clientIdentityTypes, 'hostname']),
    /** The claim that `oidcIdToken` is about. */
    key: z.string().min(1).max(200).optional(),
    value: z.string().min(1).max(2000),
  })
  .superRefine(({ type, key, value }, context) => {
    if ((type === 'oidcIdToken') !== (key !== undefined)) {
      context.addIssue({
        code: 'custom',
        path: ['key'],
        message: 'belongs to type oidcIdToken alone and names the claim, add or remove it',
      })
    }
    if (type === 'hostname') {
      context.addIssue({
        code: 'custom',
        path: ['type'],
        message:
          'is what an Agent Proxy on the client’s machine reports, and clients of the gateway have none: write sourceIPAddress',
      })
    }
    const message =
      type === 'oauthScope' && !isOwnScope(value)
        ? 'is no scope that tells clients apart, write one word of your own; every agent has mcp, openid, profile, email and offline_access'
        : type === 'oauthRedirectUri' && !isRedirectPattern(value)
          ? 'is no redirect URI pattern, write a URI, "*" alone, or "*" as the port or after a path, as in https://host/path/*'
          : type === 'sourceIPAddress' && isIP(value) === 0 && !isCidr(value)
            ? 'is no address, write one like 192.0.2.7 or a block like 192.0.2.0/24'
            : type === 'cimdClientId' && !isDocumentUrl(value)
              ? 'is no URL of a client id metadata document, write https://host/path without query'
              : undefined
    if (message !== undefined) context.addIssue({ code: 'custom', path: ['value'], message })
  })
  // Refused above; what comes out are the types that a snapshot has.
  .transform(({ type, ...rest }) => ({ type: type as Exclude<typeof type, 'hostname'>, ...rest }))

/** The one scope of the gateway, and those of OpenID Connect that its authorization server knows. */
export const resourceScope = 'mcp'
export const identityScopes = ['openid', 'profile', 'email', 'offline_access'] as const

/** RFC 6749 §3.3 `scope-token`, and none that every client gets. */
function isOwnScope(value: string): boolean {
  const everybodys: readonly string[] = [resourceScope, ...identityScopes]
  return /^[!#-[\]-~]{1,200}$/.test(value) && !everybodys.includes(value)
}

/** A client id that is the URL of a document: https, a path, no query, user information, fragment or dot segments. */
export function isDocumentUrl(value: string): boolean {
  const url = URL.parse(value)
  return (
    url !== null &&
    value.length <= 2048 &&
    url.protocol === 'https:' &&
    url.pathname !== '/' &&
    url.search === '' &&
    !/[?#@\\]|%2e|%2f|%5c/i.test(value) &&
    // What the parser would change is another client's name that looks like this one.
    url.href === value
  )
}

/**
 * `*` alone; or a URI whose only stars are a whole port and the last character of a path. A star that could swallow
 * a part of the host ("https://good.example*") is refused.
 */
function isRedirectPattern(value: string): boolean {
  if (value === '*') return true
  const plain = value.replace(/^(https?:\/\/[^/:*]+):\*(?=\/|$)/, '$1').replace(/\*$/, '')
  if (plain.includes('*') || plain.includes('#') || !URL.canParse(plain)) return false
  return !value.endsWith('*') || /^[a-z][a-z0-9+.-]*:\/\/[^/]*\//i.test(plain) || /:\*$/.test(value)
}
