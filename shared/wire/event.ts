import { z } from 'zod'
import { eventChainSchema } from './event-chain.ts'

/**
 * A workload event, in the field shape that log consumers of the product parse (mcp.request / mcp.response).
 * Bodies are never recorded, header values are redacted unless known to be harmless.
 */
const named = z.object({ id: z.string(), name: z.string() }).nullable()
/** More entries that fit one tool say nothing more. */
export const maxMatchedRules = 20

export const toolPinningSchema = z.object({
  mode: z.enum(['flag', 'hold']),
  /** Tools with another definition than an approved one, and tools that were left out. */
  changed: z.number().int(),
  held: z.number().int(),
  /** Not all of them where there are many; the next listing tells of more. */
  definitions: z.array(z.object({ name: z.string().max(256), digest: z.string().max(100) })).max(100),
})
export type ToolPinning = z.infer<typeof toolPinningSchema>

const guardVerdict = z.object({
  decision: z.enum(['allowed', 'transformed', 'blocked']),
  /** The guard's own id of the check, to find it there. */
  requestId: z.string().optional(),
  /** Names of what was detected; never content. */
  reason: z.string().optional(),
})
const header = z.record(z.string(), z.string())

/** Ours: what policy decided; with `meta.policyId` what it takes to explain or replay it. */
export const decidedSchema = z.object({
  /** Of the policy that decided; null where none did. */
  policyVersion: z.number().int().nullable(),
  /** What of it: `trustProvider:<id>`, `accessCondition:<id>`, `contentSecurity:<id>`, `block:<kind>`; null for it as a whole. */
  rule: z.string().nullable(),
  reasonCode: z.string(),
})
export type Decided = z.infer<typeof decidedSchema>

/** Claim of our access tokens: ids of the access events by which the token was issued. */
export const authorizationChainClaim = 'authorization_chain'

export const workloadEventSchema = z.object({
  version: z.literal('1.0.0'),
  authorizationChain: z.array(z.string()).max(100).optional(),
  meta: z.object({
    timestamp: z.iso.datetime(),
    eventType: z.enum(['mcp.request', 'mcp.response']),
    /** One per client request: joins the client-side and server-side events of it. */
    connectionId: z.uuid(),
    eventId: z.uuid(),
    action: z.literal('forward'),
    severity: z.enum(['Error', 'Warning', 'Info']),
    policyId: z.string().nullable(),
    resourceSetId: z.string().optional(),
  }),
  workload: z.object({ client: named, server: named }),
  network: z
    .object({
      clientWorkloadIP: z.string().nullable(),
      clientWorkloadPort: z.number().nullable(),
      transportProtocol: z.literal('TCP'),
      serverWorkloadHost: z.string().nullable(),
      serverWorkloadIP: z.string().nullable(),
      serverWorkloadPort: z.number().nullable(),
      proxyPort: z.number().nullable(),
    })
    .optional(),
  outcome: z.object({
    result: z.enum(['Passthrough', 'Modified', 'Error']),
    reason: z.string().optional(),
    /** Ours: the machine-readable reason of a denial or failure (a fault code or a decision's reason code). */
    reasonCode: z.string().optional(),
  }),
  decision: decidedSchema.optional(),
  application: z.object({
    mcp: z.object({
      httpMethod: z.string().optional(),
      httpVersion: z.string(),
      uri: z.string().optional(),
      headers: z.array(header),
      httpResponseCode: z.number().int().optional(),
      mcpMethod: z.string(),
      mcpSessionId: z.string(),
      mcpProtocolVersion: z.string().optional(),
      mcpServerName: z.string().optional(),
      mcpToolName: z.string().optional(),
      mcpRequestId: z.string().optional(),
      userId: z.string().optional(),
      /** Ours: the OAuth client_id of the agent. */
      oauthClientId: z.string().optional(),
      /** Ours: milliseconds from request to response, on mcp.response. */
      durationMs: z.number().optional(),
    }),
  }),
  contentSecurity: z
    .object({
      aembitMcpToolsAcl: z
        .object({
          decision: z.enum(['allowed', 'filtered', 'blocked']),
          control: z.enum(['visible', 'invocable']),
          /** Entries that fit, on calls. */
          matchedRules: z.array(z.string()).max(maxMatchedRules).optional(),
          /** On listings. */
          toolsRemoved: z.number().int().optional(),
          toolsReturned: z.number().int().optional(),
          reason: z.string().optional(),
        })
        .optional(),
      /** On listings: definitions of tools that are not approved. */
      aembitToolPinning: toolPinningSchema.optional(),
      crowdStrikeAidr: guardVerdict.optional(),
      /** Ours: what a guard of type HttpGuard said. */
      httpGuard: guardVerdict.optional(),
    })
    .optional(),
  /** Ours: its place among the events of the process that wrote it. */
  chain: eventChainSchema.optional(),
})

export type WorkloadEvent = z.infer<typeof workloadEventSchema>

/** POST /gateway/v1/events. At most 1,000 a batch; the control plane drops ids it has seen. */
export const eventBatchSchema = z.object({ events: z.array(workloadEventSchema).min(1).max(1000) })
export const eventBatchAnswerSchema = z.object({ accepted: z.number().int(), duplicates: z.number().int() })
