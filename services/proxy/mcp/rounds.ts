import { hash } from 'node:crypto'
import type { Clock } from '../../../shared/clock.ts'
import { Fault } from '../../../shared/faults.ts'
import { isConnectState } from './connect.ts'
import type { Answered, Flight, RequestCall } from './flight.ts'
import { clientCapabilities } from './party.ts'
import { isObject } from './protocol/jsonrpc.ts'
import type { JsonObject, JsonRpcRequest, McpCall, Seals } from './protocol/types.ts'
import type { UpstreamAnswer } from './upstream/request.ts'

/** A server that keeps asking is stopped here. */
const maxRounds = 8
/** A client has this long to answer what a server asked. */
const stateLifeMs = 60 * 60_000
const purpose = 'mcp-request-state/1'
/** Boxes come back in a body and are bounded there. */
const maxStateChars = 32_768

const questionCapability: Readonly<Record<string, string>> = {
  'elicitation/create': 'elicitation',
  'sampling/createMessage': 'sampling',
  'roots/list': 'roots',
}

/** Whether the client said that it can answer a question of this method. */
const canAnswer = (call: McpCall, method: string): boolean => {
  const needed = Object.hasOwn(questionCapability, method) ? questionCapability[method] : undefined
  return needed !== undefined && isObject(clientCapabilities(call)[needed])
}

/** A live question of a server to a legacy client, on the stream of the call that it belongs to. */
export async function askClient(
  flight: Flight,
  question: Pick<JsonRpcRequest, 'method' | 'params'>,
): Promise<Answered> {
  if (canAnswer(flight.call, question.method)) return flight.ask(question)
  return { error: { code: -32601, message: `The client did not declare what ${question.method} needs.` } }
}

/**
 * A modern server's `input_required` towards a legacy client: its questions are asked live on the call's stream and
 * the call is sent again with the answers (MCP 2026-07-28, multi round-trip requests).
 */
export async function answerLive(
  flight: Flight,
  params: JsonObject,
  first: UpstreamAnswer,
  attempt: (params: JsonObject) => Promise<UpstreamAnswer>,
): Promise<UpstreamAnswer> {
  let answer = first
  for (let round = 0; answer.response.result?.resultType === 'input_required'; round++) {
    if (round >= maxRounds) throw new Fault('upstream.rejected', { detail: 'the server asks without end' })
    const { inputRequests, requestState } = answer.response.result
    const inputResponses: JsonObject = {}
    for (const [key, question] of Object.entries(isObject(inputRequests) ? inputRequests : {})) {
      if (!isObject(question) || typeof question.method !== 'string') continue
      const { method, params: asked } = question
      const given = await askClient(flight, isObject(asked) ? { method, params: asked } : { method })
      if ('error' in given) {
        throw new Fault('upstream.rejected', {
          detail: `the client refused ${method}: ${given.error.message}`,
        })
      }
      inputResponses[key] = given.result
    }
    answer = await attempt({
      ...params,
      inputResponses,
      ...(requestState === undefined ? {} : { requestState }),
    })
  }
  return answer
}

export interface RequestStates {
  /** A server's `input_required` as the modern client gets it: its state in a box that only this request opens. */
  wrap(call: RequestCall, serverId: string, result: JsonObject, principalKey: string): JsonObject
  /** The server that a retry goes back to, where its state says so. */
  serverOf(params: JsonObject, principalKey: string): string | undefined
  /** Parameters for the server: its own state out of the box, nothing of ours. Throws `rpc.params`. */
  unwrap(call: RequestCall, serverId: string, params: JsonObject, principalKey: string): JsonObject
}

/**
 * `requestState` comes back through the client, who may change it, keep it or give it to someone else. So it is sealed
 * with the person, the server, the request and an end; policy is asked anew on each retry.
 */
export function createRequestStates(seals: Seals, clock: Clock): RequestStates {
  /** The request as the client wrote it. */
  const digest = ({ message: { method, params } }: RequestCall): string =>
    hash('sha256', JSON.stringify([method, params?.name ?? params?.uri, params?.arguments]), 'base64url')

  const open = (
    state: unknown,
    principalKey: string,
  ): [server: string, request: string, state: string] | undefined => {
    const plain = typeof state === 'string' ? seals.open(purpose, state) : undefined
    if (plain === undefined) return undefined
    const [person, server, request, end, inner] = JSON.parse(plain)
    return person === principalKey && end > clock.now() ? [server, request, inner] : undefined
  }

  return {
    wrap(call, serverId, result, principalKey) {
      const { inputRequests, requestState } = result
      for (const question of Object.values(isObject(inputRequests) ? inputRequests : {})) {
        if (isObject(question) && !canAnswer(call, String(question.method))) {
          throw new Fault('upstream.rejected', {
            detail: `the server asks for ${question.method}, which is not declared`,
          })
        }
      }
      if (typeof requestState !== 'string') return result
      if (requestState.length > maxStateChars)
        throw new Fault('upstream.too_large', { detail: 'requestState' })
      const plain = [principalKey, serverId, digest(call), clock.now() + stateLifeMs, requestState]
      const sealed = seals.seal(purpose, JSON.stringify(plain))
      if (sealed === undefined) throw new Fault('session.keys_missing')
      return { ...result, requestState: sealed }
    },
    serverOf: ({ requestState }, principalKey) => open(requestState, principalKey)?.[0],
    unwrap(call, serverId, params, principalKey) {
      const { requestState, ...rest } = params
      if (requestState === undefined || call.era === 'legacy') return params
      if (isConnectState(requestState)) {
        const { inputResponses: _ours, ...without } = rest
        return without
      }
      const found = open(requestState, principalKey)
      if (!found || found[0] !== serverId || found[1] !== digest(call)) {
        throw new Fault('rpc.params', {
          data: { field: 'requestState' },
          detail: 'not a state of this request',
        })
      }
      return { ...rest, requestState: found[2] }
    },
  }
}
