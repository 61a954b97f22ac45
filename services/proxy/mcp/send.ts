import { Fault } from '../../../shared/faults.ts'
import type { ServerWorkload } from '../../../shared/wire/snapshot.ts'
import type { Context } from './context.ts'
import type { Answered } from './flight.ts'
import { guardedAsk } from './guarded.ts'
import { noticesOf, type Tell } from './guarded-notices.ts'
import { isChange } from './protocol/changes.ts'
import { isObject } from './protocol/jsonrpc.ts'
import type { ResumeRequest, Turn, UpstreamAnswer, Waiter } from './protocol/peers.ts'
import { logLevels } from './protocol/shape.ts'
import type { JsonObject, JsonRpcNotification } from './protocol/types.ts'
import type { RelayTarget } from './relay.ts'
import { answerLive, askClient, canAnswer, notDeclared, type Question } from './rounds/live.ts'
import type { ParkedRef } from './rounds/states.ts'
import { within } from './stop.ts'
import type { UpstreamRequest } from './upstream/request.ts'
import { childSpan } from './upstream/trace.ts'

/** The answers of which may be `input_required` (MCP 2026-07-28, multi round-trip requests). */
const askingMethods = new Set(['tools/call', 'prompts/get', 'resources/read'])

export const aboutOf = ({ server, toolName, about }: RelayTarget) => ({
  server,
  ...(toolName === undefined ? {} : { tool: toolName }),
  ...about,
})

/** One request to one server, its questions put to the client: live, or in an answer while the call stays open. */
export async function send(context: Context, target: RelayTarget): Promise<UpstreamAnswer> {
  const { call, flight, deps } = context
  const { server, name } = target
  const { params, parked } = context.states.unwrap(call, server.id, target.params, context.party.principalKey)
  const meta = call.message.params?._meta
  const progressToken = isObject(meta) ? meta.progressToken : undefined
  const tell = noticesOf(context, target.decision, aboutOf(target), target.method)
  const hear = (message: JsonRpcNotification) => onNotification(context, server, progressToken, tell, message)
  const request: UpstreamRequest = {
    server,
    party: context.party,
    method: target.method,
    params,
    stop: flight.stop,
    wantsProgress: progressToken !== undefined,
    onNotification: hear,
  }
  const waiter: Waiter = { stop: flight.stop, notify: hear }
  if (parked) {
    const turn = await resume(context, server, parked, params, waiter)
    if (turn) return toAnswer(context, server, parked.holder, turn)
    const { inputResponses: _late, ...anew } = params
    request.params = anew
  }
  const asker = <Q extends Question>(ask: (question: Q) => Promise<Answered>) =>
    guardedAsk(context, target.decision, aboutOf(target), ask)
  const askLive = asker((question: Question) => askClient(flight, question))
  if (name !== undefined) request.name = name
  if (context.logLevel !== undefined) request.logLevel = context.logLevel
  const trace = childSpan(meta, call.headers)
  if (trace) request.trace = trace
  if (target.mirror) request.mirror = target.mirror
  if (context.party.live) {
    request.onRequest = askLive
    // A server may ask outside of the call as well, and what it asks before it has a stream for that is lost.
    const opening =
      context.party.variant === '' ? undefined : deps.notices.channels.opening(context.party, server)
    if (opening) await within(opening, flight.stop)
  }
  if (mayPark(context)) {
    const mayAsk = (question: Question): Answered | undefined =>
      canAnswer(call, question) ? undefined : notDeclared(question.method)
    const turn = await deps.parked.start(
      context.party,
      server.id,
      waiter,
      mayAsk,
      ({ stop, onRequest, onNotification }) =>
        deps.upstreams.request({
          ...request,
          stop,
          onRequest: asker(onRequest),
          onNotification(message) {
            // What changed concerns everybody, also while nobody waits for this call.
            if (!isChange(message)) return onNotification(message)
            deps.notices.hear(context.party, server, message)
          },
        }),
    )
    return toAnswer(context, server, selfOf(deps), turn)
  }
  const answer = await deps.upstreams.request(request)
  if (call.era === 'modern' || answer.response.result?.resultType !== 'input_required') return answer
  return answerLive(askLive, params, answer, (again) => deps.upstreams.request({ ...request, params: again }))
}

/** Whether the client can be asked in an answer. */
const mayPark = ({ call, party }: Context): boolean =>
  call.era === 'modern' && askingMethods.has(call.message.method) && party.variant !== ''

/**
 * The answers of a client go on to the call that waits for them, wherever it is. Undefined where that call is not there
 * any more and asking the server once more changes nothing: it is made anew, and the client asked again.
 */
async function resume(
  { call, deps, party }: Context,
  server: ServerWorkload,
  { holder, id, round }: ParkedRef,
  { inputResponses }: JsonObject,
  waiter: Waiter,
): Promise<Turn | undefined> {
  const request: ResumeRequest = {
    id,
    round,
    principalKey: party.principalKey,
    serverId: server.id,
    inputResponses: isObject(inputResponses) ? inputResponses : {},
  }
  try {
    return await (holder === selfOf(deps) || !deps.peers
      ? deps.parked.resume(request, waiter)
      : deps.peers.resume(holder, request, waiter))
  } catch (error) {
    const lost =
      error instanceof Fault && (error.code === 'question.lost' || error.code === 'question.expired')
    // A tool may have done something before it asked, so what became of it is the client's to judge.
    if (!lost || waiter.stop.reason || call.message.method === 'tools/call') throw error
    return undefined
  }
}

/** What this worker is called where a retry has to find it. */
const selfOf = ({ peers }: Context['deps']): string => peers?.self ?? ''

function toAnswer(
  { call, states, party }: Context,
  server: ServerWorkload,
  holder: string,
  turn: Turn,
): UpstreamAnswer {
  if ('answer' in turn) return turn.answer
  const { id, round, inputRequests } = turn
  const requestState = states.seal(call, server.id, party.principalKey, { parked: { holder, id, round } })
  const result = { resultType: 'input_required', inputRequests, requestState }
  return { era: 'modern', response: { jsonrpc: '2.0', id: null, result }, parked: true }
}

/** What a server may say before its answer, as far as the client has a place for it. */
function onNotification(
  { call, party, flight, deps, logLevel }: Context,
  server: ServerWorkload,
  progressToken: unknown,
  tell: Tell,
  notification: JsonRpcNotification,
): void | Promise<void> {
  const { method, params } = notification
  switch (method) {
    case 'notifications/progress':
      flight.extend()
      break
    case 'notifications/message':
      // A modern client that asks for no level wants none; a legacy one that never asked gets what comes.
      if (logLevel === undefined ? call.era === 'modern' : !passes(params?.level, logLevel)) return
      break
    case 'notifications/elicitation/complete':
      if (call.era === 'legacy') break
      return
    default:
      if (isChange(notification)) deps.notices.hear(party, server, notification)
      return
  }
  const pass = (told: JsonRpcNotification | undefined): void | Promise<void> => {
    if (!told) return
    const own = method === 'notifications/progress' ? { ...told.params, progressToken } : told.params
    return flight.notify(own ? { method, params: own } : { method })
  }
  const told = tell(notification)
  return told instanceof Promise ? told.then(pass) : pass(told)
}

function passes(level: unknown, wanted: string): boolean {
  return logLevels.indexOf(String(level)) >= logLevels.indexOf(wanted)
}
