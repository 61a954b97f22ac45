import { z } from 'zod'
import { isDynamic } from '../../../shared/dynamic-claims.ts'
import { duration, headerName, text, webUrl } from './fields.ts'

export const scheme = z.string().regex(/^\S{1,40}$/, 'is no scheme, write one word like Bearer')
export const queryName = z
  .string()
  .regex(/^[A-Za-z0-9_.~-]{1,64}$/, 'is no query parameter name, write one like api_key')

/** Where a token goes that is made or fetched by us; `Authorization: Bearer <token>` unless told. */
export const header = z.strictObject({ name: headerName, scheme: scheme.optional() })

export const subject = {
  /** `sub` of the token; with subjectType dynamic it may hold `${oidc.identityToken.decode.payload.<claim>}`. */
  subject: z.string().min(1).max(500),
  subjectType: z.enum(['literal', 'dynamic']).default('literal'),
}
export const subjectFits = (value: { subject: string; subjectType: 'literal' | 'dynamic' }): boolean =>
  value.subjectType === 'dynamic' ? isDynamic(value.subject) !== 'broken' : true
// An example for people, not a template.
const expressionForm = '$' + '{oidc.identityToken.decode.payload.<claim>}'
// What agents' hosts say of themselves (environment, cloud account and role) reaches nobody here: an MCP client brings an
// access token and nothing else. Expressions that would never resolve are refused when they are written.
const ofTheHost = /\$\{(?:os\.environment\.|aws\.)/
export const subjectProblem = {
  path: ['subject'],
  error: ({ input }: { input?: unknown }) => {
    const value = input as { subject?: unknown; value?: unknown } | undefined
    return ofTheHost.test(String(value?.subject ?? value?.value ?? ''))
      ? `reads os.environment or aws, which an MCP client does not attest: it brings an access token alone; write ${expressionForm}`
      : `holds an expression that is not known, write ${expressionForm} with the name of a claim`
  },
}

const reservedClaims = new Set(['iss', 'sub', 'aud', 'exp', 'iat', 'nbf', 'jti'])
export const customClaims = z
  .array(
    z
      .strictObject({
        key: z
          .string()
          .min(1)
          .max(100)
          .refine(
            (key) => !reservedClaims.has(key),
            'is a claim that the gateway writes itself, choose another',
          ),
        value: z.string().max(1_000),
        valueType: z.enum(['literal', 'dynamic']).default('literal'),
      })
      .refine(({ value, valueType }) => valueType === 'literal' || isDynamic(value) !== 'broken', {
        ...subjectProblem,
        path: ['value'],
      }),
  )
  .max(50)
  .default([])

const reservedParameters = new Set([
  'client_id',
  'client_secret',
  'code',
  'code_challenge',
  'code_challenge_method',
  'code_verifier',
  'grant_type',
  'redirect_uri',
  'resource',
  'response_type',
  'scope',
  'state',
])
export const customParameters = z
  .array(
    z.strictObject({
      key: z
        .string()
        .min(1)
        .max(100)
        .refine(
          (key) => !reservedParameters.has(key),
          'is a parameter that the gateway writes itself, choose another',
        ),
      value: z.string().max(1_000),
      valueType: z.literal('literal').default('literal'),
    }),
  )
  .max(20)
  .default([])

export const scopes = z.array(text).max(100)
export const algorithmType = z.enum(['RS256', 'ES256']).default('RS256')

/** Given together they replace discovery, which then is not done. */
export const endpoints = {
  oauthAuthorizationUrl: webUrl.optional(),
  oauthTokenUrl: webUrl.optional(),
  oauthIntrospectionUrl: webUrl.optional(),
  oauthRevocationUrl: webUrl.optional(),
}
export const endpointsFit = (value: { oauthAuthorizationUrl?: unknown; oauthTokenUrl?: unknown }): boolean =>
  (value.oauthAuthorizationUrl === undefined) === (value.oauthTokenUrl === undefined)
export const endpointsProblem = {
  path: ['oauthTokenUrl'],
  message: 'goes together with oauthAuthorizationUrl, write both or leave both to discovery',
}

/** A JWT of our own that the server itself takes. */
export const ownToken = {
  ...subject,
  audience: text,
  algorithmType,
  lifetime: duration('15m', '12h'),
  customClaims,
  header: header.optional(),
}
