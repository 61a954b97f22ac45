import { Fault } from '../../../../shared/faults.ts'
import type { Answered, Flight } from '../flight.ts'
import { clientCapabilities } from '../party.ts'
import { isObject } from '../protocol/jsonrpc.ts'
import type { UpstreamAnswer } from '../protocol/peers.ts'
import type { JsonObject, JsonRpcRequest, McpCall } from '../protocol/types.ts'

/** A server that keeps asking is stopped here, whoever is asked and however. */
export const maxRounds = 8

const questionCapability: Readonly<Record<string, string>> = {
  'elicitation/create': 'elicitation',
  'sampling/createMessage': 'sampling',
  'roots/list': 'roots',
}

export type Question = Pick<JsonRpcRequest, 'method' | 'params'>

/** Whether the client said that it can answer this question. An elicitation that names no mode is a form. */
export const canAnswer = (call: McpCall, question: Question): boolean =>
  declares(clientCapabilities(call), question)

export function declares(capabilities: JsonObject, { method, params }: Question): boolean {
  const needed = Object.hasOwn(questionCapability, method) ? questionCapability[method] : undefined
  const declared = needed === undefined ? undefined : capabilities[needed]
  if (!isObject(declared)) return false
  return method !== 'elicitation/create' || params?.mode !== 'url' || isObject(declared.url)
}

export const notDeclared = (method: string): Answered => ({
  error: { code: -32601, message: `The client did not declare what ${method.slice(0, 100)} needs.` },
})

/** A live question of a server to a legacy client, on the stream of the call that it belongs to. */
export async function askClient(flight: Flight, question: Question): Promise<Answered> {
  return canAnswer(flight.call, question) ? flight.ask(question) : notDeclared(question.method)
}

/**
 * A modern server's `input_required` towards a legacy client: its questions are asked live on the call's stream and
 * the call is sent again with the answers (MCP 2026-07-28, multi round-trip requests).
 */
export async function answerLive(
  askOne: (question: Question) => Promise<Answered>,
  params: JsonObject,
  first: UpstreamAnswer,
  attempt: (params: JsonObject) => Promise<UpstreamAnswer>,
): Promise<UpstreamAnswer> {
  let answer = first
  for (let round = 0; answer.response.result?.resultType === 'input_required'; round++) {
    if (round >= maxRounds) throw new Fault('upstream.rejected', { detail: 'the server asks without end' })
    const { inputRequests, requestState } = answer.response.result
    const asked = Object.entries(isObject(inputRequests) ? inputRequests : {})
    // All at once, as the server asked them: a person who thinks about one holds up no other.
    const given = await Promise.all(asked.map(async ([key, question]) => [key, await ask(askOne, question)]))
    answer = await attempt({
      ...params,
      inputResponses: Object.fromEntries(given.filter(([, result]) => result !== undefined)),
      ...(requestState === undefined ? {} : { requestState }),
    })
  }
  return answer
}

async function ask(
  askOne: (question: Question) => Promise<Answered>,
  question: unknown,
): Promise<JsonObject | undefined> {
  if (!isObject(question) || typeof question.method !== 'string') return undefined
  const { method, params } = question
  const given = await askOne(isObject(params) ? { method, params } : { method })
  if ('result' in given) return given.result
  throw new Fault('upstream.rejected', { detail: `the client refused ${method}: ${given.error.message}` })
}
