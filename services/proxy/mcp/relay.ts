import { Fault } from '../../../shared/faults.ts'
import type { Decision } from '../../../shared/policy.ts'
import type { ServerWorkload } from '../../../shared/wire/snapshot.ts'
import { clientCapabilities, connectAnswer } from './connect.ts'
import { Cancelled, type Flight } from './flight.ts'
import { faultError, isObject } from './protocol/jsonrpc.ts'
import { metaKeys, type ServerInfo, shapeError, shapeResult } from './protocol/shape.ts'
import type { JsonObject, JsonRpcError, JsonRpcRequest, McpCall, Recorder } from './protocol/types.ts'
import { AuthorizationRequired } from './upstream/authorization.ts'
import type { UpstreamAnswer, UpstreamRequest } from './upstream/request.ts'
import type { Upstreams } from './upstream/upstreams.ts'

export interface RelayTarget {
  server: ServerWorkload
  decision: Decision
  method: string
  params: JsonObject
  /** Mcp-Name towards the server. */
  name?: string
  toolName?: string
}

export type Answer = { result: JsonObject } | { error: JsonRpcError }

const levels = ['debug', 'info', 'notice', 'warning', 'error', 'critical', 'alert', 'emergency']
/** A server that keeps asking is stopped here (MRTR, client of the older era). */
const maxRounds = 8

const questionCapability: Readonly<Record<string, string>> = {
  'elicitation/create': 'elicitation',
  'sampling/createMessage': 'sampling',
  'roots/list': 'roots',
}

/** The part of an upstream request that the caller decides, whatever the method. */
export function requestBase(
  call: McpCall,
  server: ServerWorkload,
  signal: AbortSignal,
): Omit<UpstreamRequest, 'method' | 'params'> {
  const { elicitation, sampling, roots } = clientCapabilities(call)
  const capabilities: JsonObject = {}
  if (isObject(elicitation)) capabilities.elicitation = elicitation
  if (isObject(sampling)) capabilities.sampling = sampling
  // Changes of a client's roots are not relayed, so they are not announced.
  if (isObject(roots)) capabilities.roots = {}
  return {
    server,
    principal: call.principal,
    binding: call.session?.id ?? `${call.principal.issuer} ${call.principal.subject}`,
    capabilities: call.era === 'legacy' && !call.session ? {} : capabilities,
    live: call.era === 'legacy' && call.session !== null,
    signal,
  }
}

/** One call to one server and its answer in the client's words. Records both sides of it; throws Cancelled alone. */
export async function relay(
  deps: {
    upstreams: Upstreams
    recorder: Recorder
    info: ServerInfo
    logLevelOf(call: McpCall): string | undefined
  },
  call: McpCall & { message: JsonRpcRequest },
  flight: Flight,
  target: RelayTarget,
): Promise<Answer> {
  const { server, decision, toolName } = target
  // What the client asked decides the shape of the answer; what the server is asked may differ.
  const { method } = call.message
  const startedAt = performance.now()
  const event = { server, decision, ...(toolName === undefined ? {} : { toolName }) }
  deps.recorder.request(call, { ...event, outcome: 'Modified' })
  const respond = (
    answer: Answer,
    status: number,
    failure?: { reason: string; reasonCode: string },
  ): Answer => {
    deps.recorder.response(call, {
      ...event,
      outcome: failure ? 'Error' : 'Passthrough',
      ...failure,
      httpResponseCode: status,
      durationMs: performance.now() - startedAt,
    })
    return answer
  }
  try {
    const { response } = await withRounds(call, flight, target, (params) =>
      send(deps, call, flight, { ...target, params }),
    )
    if (response.error) {
      const error = shapeError(response.error, call.era)
      return respond({ error }, 200, {
        reason: `the server answered error ${response.error.code}`,
        reasonCode: 'upstream.error',
      })
    }
    const result = shapeResult(method, response.result ?? {}, call.era, deps.info)
    if (result.isError === true) {
      return respond({ result }, 200, { reason: 'the tool reported an error', reasonCode: 'tool.error' })
    }
    return respond({ result }, 200)
  } catch (error) {
    if (error instanceof AuthorizationRequired) {
      const answer = connectAnswer(call, method, server, error.link)
      if ('result' in answer) answer.result = shapeResult(method, answer.result, call.era, deps.info)
      return respond(answer, 200, {
        reason: 'the user has to connect an account first',
        reasonCode: 'credential.authorization_required',
      })
    }
    if (error instanceof Cancelled) {
      respond({ result: {} }, 499, { reason: 'cancelled by the client', reasonCode: 'cancelled' })
      throw error
    }
    const fault = Fault.from(error)
    return respond({ error: faultError(fault, call.era) }, fault.spec.status, {
      reason: fault.detail ?? fault.message,
      reasonCode: fault.code,
    })
  }
}

function send(
  deps: { upstreams: Upstreams; logLevelOf(call: McpCall): string | undefined },
  call: McpCall & { message: JsonRpcRequest },
  flight: Flight,
  target: RelayTarget,
): Promise<UpstreamAnswer> {
  const clientMeta = isObject(call.message.params?._meta) ? call.message.params._meta : {}
  const progressToken = clientMeta.progressToken
  const logLevel = deps.logLevelOf(call)
  return deps.upstreams.request({
    ...requestBase(call, target.server, flight.signal),
    method: target.method,
    params: target.params,
    ...(target.name === undefined ? {} : { name: target.name }),
    ...(logLevel === undefined ? {} : { logLevel }),
    wantsProgress: progressToken !== undefined,
    onNotification: async ({ method, params }) => {
      if (method === 'notifications/progress') {
        flight.extend()
        await flight.notify({ method, params: { ...params, progressToken } })
      } else if (method === 'notifications/message') {
        if (call.era === 'legacy' || passes(params?.level, clientMeta[metaKeys.logLevel])) {
          await flight.notify({ method, ...(params ? { params } : {}) })
        }
      } else if (method === 'notifications/elicitation/complete' && call.era === 'legacy') {
        await flight.notify({ method, ...(params ? { params } : {}) })
      }
    },
    ...(call.era === 'legacy' && call.session
      ? { onRequest: (question: JsonRpcRequest) => askClient(call, flight, question) }
      : {}),
  })
}

async function askClient(call: McpCall, flight: Flight, question: JsonRpcRequest) {
  const needed = questionCapability[question.method]
  if (needed === undefined || !isObject(clientCapabilities(call)[needed])) {
    return { error: { code: -32601, message: `The client did not declare what ${question.method} needs.` } }
  }
  return flight.ask(question)
}

/**
 * A modern server's `input_required` towards a legacy client: its questions are asked live on the call's stream and
 * the call is sent again with the answers (MCP 2026-07-28, multi round-trip requests). A modern client gets it as is.
 */
async function withRounds(
  call: McpCall & { message: JsonRpcRequest },
  flight: Flight,
  target: RelayTarget,
  attempt: (params: JsonObject) => Promise<UpstreamAnswer>,
): Promise<UpstreamAnswer> {
  let answer = await attempt(target.params)
  for (
    let round = 0;
    call.era === 'legacy' && answer.response.result?.resultType === 'input_required';
    round++
  ) {
    const { inputRequests, requestState } = answer.response.result
    if (round >= maxRounds || !call.session) {
      throw new Fault('upstream.rejected', {
        detail: 'the server asks for input that this client can not give',
      })
    }
    const inputResponses: JsonObject = {}
    for (const [key, question] of Object.entries(isObject(inputRequests) ? inputRequests : {})) {
      if (!isObject(question) || typeof question.method !== 'string') continue
      const asked = await askClient(call, flight, { ...question, jsonrpc: '2.0', id: key } as JsonRpcRequest)
      if ('error' in asked)
        throw new Fault('upstream.rejected', {
          detail: `the client refused ${question.method}: ${asked.error.message}`,
        })
      inputResponses[key] = asked.result
    }
    answer = await attempt({
      ...target.params,
      inputResponses,
      ...(requestState === undefined ? {} : { requestState }),
    })
  }
  return answer
}

function passes(level: unknown, wanted: unknown): boolean {
  if (typeof wanted !== 'string') return false
  return levels.indexOf(String(level)) >= levels.indexOf(wanted)
}
