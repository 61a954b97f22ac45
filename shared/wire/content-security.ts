import { z } from 'zod'

const scope = z.enum(['All', 'Specific'])

export const toolAccessControlSchema = z.object({
  type: z.literal('AembitMcpToolAccessControl'),
  id: z.string(),
  name: z.string(),
  mode: z.enum(['Allow', 'Block']),
  visibility: scope,
  /** Globs on the server's own tool names; count where visibility is Specific. */
  visibilityEntries: z.array(z.string()).default([]),
  invocation: scope,
  invocationEntries: z.array(z.string()).default([]),
  /** Ours: whether prompts and resources of the server may be used at all. */
  prompts: z.enum(['All', 'None']).default('All'),
  resources: z.enum(['All', 'None']).default('All'),
})

/**
 * What a guard can look at: tools of a listing; lists of prompts, of resources and their templates; arguments and result of
 * a call; what prompts/get, resources/read and completion/complete answer; the texts of errors; what a server asks the
 * person or their model for; progress and log messages.
 */
export const guardPhases = [
  'listing',
  'prompt_listing',
  'resource_listing',
  'input',
  'output',
  'prompt',
  'resource',
  'completion',
  'error',
  'question',
  'notice',
] as const
export type GuardPhase = (typeof guardPhases)[number]

const guardFields = {
  id: z.string(),
  name: z.string(),
  /** What happens where the guard gives no answer: true lets content through, false stops it. */
  failOpen: z.boolean(),
  /** Of one try. */
  timeoutMs: z.number().int().positive(),
  maxRetries: z.number().int().nonnegative(),
  /** CIDR blocks in private or loopback space that the guard may resolve to. */
  allowedNetworks: z.array(z.string()),
  /** Its secret is asked for as a credential is; false: it has none. */
  secret: z.boolean(),
}

/** CrowdStrike AI Detection and Response: listings, inputs and outputs of calls. */
export const aidrSchema = z.object({
  type: z.literal('CrowdStrikeAIDR'),
  baseUrl: z.string(),
  ...guardFields,
})

/** Ours: any service that answers allow, transform or block (services/proxy/guard/README.md). */
export const httpGuardSchema = z.object({
  type: z.literal('HttpGuard'),
  url: z.string(),
  checks: z.array(z.enum(guardPhases)).min(1),
  ...guardFields,
})

export const contentSecuritySchema = z.discriminatedUnion('type', [
  toolAccessControlSchema,
  aidrSchema,
  httpGuardSchema,
])

export type ContentSecurity = z.infer<typeof contentSecuritySchema>
export type ContentGuard = z.infer<typeof aidrSchema> | z.infer<typeof httpGuardSchema>
export type ToolAccessControl = z.infer<typeof toolAccessControlSchema>
