import { z } from 'zod'
import { type FaultCode, faults } from '../../../shared/faults.ts'
import type {
  JsonObject,
  JsonRpcNotification,
  JsonRpcRequest,
  JsonRpcResponse,
} from '../mcp/protocol/types.ts'

/**
 * What proxy workers of one gateway say to each other: HTTP/1.1 on unix sockets, JSON bodies, a version in the path.
 * Workers of two releases meet in a rolling upgrade: an endpoint may gain optional fields, anything else is `/v2`.
 */
export const paths = {
  rounds: '/v1/rounds',
  answers: '/v1/answers',
  cancellations: '/v1/cancellations',
  endings: '/v1/endings',
  levels: '/v1/levels',
  watching: '/v1/watching',
  lastUses: '/v1/last-uses',
  sessions: '/v1/sessions',
  notices: '/v1/notices',
} as const

const object = z.custom<JsonObject>(
  (value) => typeof value === 'object' && value !== null && !Array.isArray(value),
)
const rpcError = z.looseObject({ code: z.number(), message: z.string() })
const response = z
  .object({
    jsonrpc: z.literal('2.0'),
    id: z.union([z.string(), z.number(), z.null()]),
    result: object.optional(),
    error: rpcError.optional(),
  })
  .transform((value) => value as JsonRpcResponse)
const name = z.string().max(16_384)
const uuid = z.string().max(100)

/** The answers of a modern client to a parked call; answered by an event stream, see `roundEvent`. */
export const resumeSchema = z.object({
  id: z.string().max(100),
  round: z.number().int().nonnegative(),
  principalKey: name,
  serverId: z.string().max(200),
  inputResponses: object,
})

/** `owner` is the session id, or the person for clients without a session. */
export const answerSchema = z.object({ owner: name, message: response })
export const cancellationSchema = z.object({
  owner: name,
  requestId: z.union([z.string().max(1024), z.number()]),
})
const uri = z.string().max(4_096)
export const noticeSchema = z.union([
  z.object({
    list: z.enum(['tools', 'prompts', 'resources']),
    server: z.object({ id: z.string().max(200), url: z.string().max(4_096) }),
  }),
  z.object({ owner: name, unwatched: uri }),
  z.object({ owner: name, watched: uri, server: z.string().max(200) }),
  z.object({
    owner: name,
    held: z
      .object({
        jsonrpc: z.literal('2.0'),
        id: z.string().max(100),
        method: z.string().max(200),
        params: object.optional(),
      })
      .transform((value) => value as JsonRpcRequest),
  }),
  z.object({ owner: name, asked: z.string().max(100) }),
  z.object({ owner: name, rootsChanged: z.literal(true) }),
  z.object({
    owner: name,
    message: z
      .object({ jsonrpc: z.literal('2.0'), method: z.string().max(200), params: object.optional() })
      .transform((value) => value as JsonRpcNotification),
  }),
])
/** `until`: when the id would be dead anyway, ms since the epoch. */
export const endingSchema = z.object({ id: name, uuid, until: z.number() })
export const levelSchema = z.object({ uuid, level: z.string().max(20) })
export const lastUseSchema = z.object({ uuid })
export const lastUseAnswerSchema = z.object({ lastUse: z.number().nullable() })

/** A session watches a resource at a server from now on; null: not any more. */
export const watchingSchema = z.object({ uuid, uri, serverId: z.string().max(200).nullable() })

/** What a new worker asks the others for. */
export const sessionsSchema = z.object({
  tombstones: z.array(z.tuple([uuid, z.number()])),
  /** Session's uuid → log level. */
  levels: z.array(z.tuple([uuid, z.string().max(20)])),
  /** Not of a worker of an earlier release. */
  watching: z.array(watchingSchema).optional(),
  /** Session's uuid → its last use after it was issued, ms since the epoch. Not of a worker of an earlier release. */
  uses: z.array(z.tuple([uuid, z.number()])).optional(),
})
export type SharedSessions = z.infer<typeof sessionsSchema>

/** Entries of each kind that a worker hands to a new one; the newest are kept. */
export const maxShared = 100_000

export const notificationSchema = z
  .object({ jsonrpc: z.literal('2.0'), method: z.string(), params: object.optional() })
  .transform((value) => value as JsonRpcNotification)

export const turnSchema = z.union([
  z.object({
    answer: z.object({
      era: z.enum(['legacy', 'modern']),
      response,
    }),
  }),
  z.object({ id: z.string(), round: z.number().int(), inputRequests: object }),
])

export const faultSchema = z.object({
  code: z.custom<FaultCode>((value) => typeof value === 'string' && Object.hasOwn(faults, value)),
  detail: z.string().optional(),
  data: object.optional(),
})
