import { Fault } from '../../../shared/faults.ts'
import type { Decision } from '../../../shared/policy.ts'
import type { ServerWorkload } from '../../../shared/wire/snapshot.ts'
import type { Guarded } from '../guard/guards.ts'
import type { Checked } from '../guard/types.ts'
import { canElicitUrl, connectAnswer, elicitUrls } from './connect.ts'
import type { Context } from './context.ts'
import { type Answered, Cancelled } from './flight.ts'
import { ContentRefused, contentFault, guardedAsk, inspectError, inspectQuestions } from './guarded.ts'
import { principalKeyOf } from './party.ts'
import { isChange } from './protocol/changes.ts'
import { faultError, isObject } from './protocol/jsonrpc.ts'
import type { ResumeRequest, Turn, UpstreamAnswer, Waiter } from './protocol/peers.ts'
import { isPlain, logLevels, shapeError, shapeResult, statusOf, withId } from './protocol/shape.ts'
import type {
  ContentSecurityVerdict,
  JsonObject,
  JsonRpcError,
  JsonRpcNotification,
} from './protocol/types.ts'
import { answerLive, askClient, canAnswer, notDeclared, type Question } from './rounds/live.ts'
import type { ParkedRef } from './rounds/states.ts'
import { within } from './stop.ts'
import { AuthorizationRequired } from './upstream/authorization.ts'
import type { UpstreamRequest } from './upstream/request.ts'
import { childSpan } from './upstream/trace.ts'

/** The answers of which may be `input_required` (MCP 2026-07-28, multi round-trip requests). */
const askingMethods = new Set(['tools/call', 'prompts/get', 'resources/read'])

export interface RelayTarget {
  server: ServerWorkload
  decision: Decision
  method: string
  params: JsonObject
  /** Mcp-Name towards the server. */
  name?: string
  toolName?: string
  /** Mcp-Param-* towards the server. */
  mirror?: NonNullable<UpstreamRequest['mirror']>
  /** What guards are told of what is asked; the tool unless told. */
  about?: Pick<Checked, 'prompt' | 'uri'>
  /** What content security said of the request. */
  contentSecurity?: ContentSecurityVerdict
  /** Looks at a result before the client gets it. Throws ContentRefused. */
  inspect?: (result: JsonObject) => Promise<Guarded>
}

/** The answer, and its text where the server's own can be passed on. */
export type Relayed = Answered & { text?: string }

/** One call to one server and its answer in the client's words. Records both sides of it; throws Cancelled alone. */
export async function relay(context: Context, target: RelayTarget): Promise<Relayed> {
  const { call, deps } = context
  const { server, decision, toolName } = target
  context.flight.serverId = server.id
  // What the client asked decides the shape of the answer; what the server is asked may differ.
  const { method } = call.message
  const startedAt = performance.now()
  const record = (
    httpResponseCode: number,
    reason?: string,
    reasonCode?: string,
    verdict?: ContentSecurityVerdict,
  ): void =>
    deps.recorder.response(call, {
      server,
      decision,
      ...(toolName === undefined ? {} : { toolName }),
      ...(verdict ? { contentSecurity: verdict } : {}),
      outcome: reasonCode === undefined ? 'Passthrough' : 'Error',
      ...(reasonCode === undefined ? {} : { reason, reasonCode }),
      httpResponseCode,
      durationMs: performance.now() - startedAt,
    })
  deps.recorder.request(call, {
    server,
    decision,
    ...(toolName === undefined ? {} : { toolName }),
    ...(target.contentSecurity ? { contentSecurity: target.contentSecurity } : {}),
    outcome: 'Modified',
  })
  try {
    const answer = await send(context, target)
    const { error, result: given = {} } = answer.response
    if (error) {
      const seen = await inspectError(context, decision, aboutOf(target), error)
      const answered = answerOfError(context, seen.error)
      // On a stream the status went out before.
      const alone = !context.flight.streaming && 'error' in answered
      const status = alone ? statusOf(answered.error, call.era) : 200
      record(status, `the server answered error ${error.code}`, 'upstream.error', seen.verdict)
      return answered
    }
    // A question to the person is no result yet.
    const asking = given.resultType === 'input_required'
    const early = asking || given.resultType === 'task'
    const seen = early && !('result' in given) ? undefined : await target.inspect?.(given)
    const inspected = isObject(seen?.content) ? seen.content : given
    // The questions of a parked call were looked at one by one, so that its server hears of a no.
    const result =
      asking && !answer.parked
        ? await inspectQuestions(context, decision, aboutOf(target), inspected)
        : inspected
    if (result.isError === true) record(200, 'the tool reported an error', 'tool.error', seen?.verdict)
    else record(200, undefined, undefined, seen?.verdict)
    const untouched = result === given && answer.text !== undefined ? answer.text : undefined
    if (call.era === 'legacy' && answer.era === 'legacy' && untouched !== undefined && isPlain(result)) {
      const text = withId(untouched, answer.response.id, call.message.id)
      return text === undefined ? { result } : { result, text }
    }
    const principalKey = principalKeyOf(call.principal)
    if (result.resultType === 'task' && !context.party.tasks) {
      throw new Fault('upstream.rejected', { detail: 'a task, for a client that did not declare tasks' })
    }
    const asks = call.era === 'modern' && result.resultType === 'input_required' && !answer.parked
    const passed = asks ? context.states.wrap(call, server.id, result, principalKey) : result
    return { result: shapeResult(method, passed, call.era, context.info) }
  } catch (error) {
    if (error instanceof AuthorizationRequired) {
      record(200, 'the user has to connect an account first', 'credential.authorization_required')
      const answer = connectAnswer(call, method, server, error.link)
      return 'result' in answer
        ? { result: shapeResult(method, answer.result, call.era, context.info) }
        : answer
    }
    if (error instanceof ContentRefused) {
      const { guarded, message } = error
      record(200, message, guarded.reasonCode, guarded.verdict)
      return { error: faultError(contentFault(guarded), call.era) }
    }
    if (error instanceof Cancelled) {
      record(499, 'cancelled by the client', 'cancelled')
      throw error
    }
    const fault = Fault.from(error)
    if (fault.code === 'internal')
      deps.log.error({ err: error, server: server.id }, 'a call failed inside the gateway')
    record(fault.spec.status, fault.detail ?? fault.message, fault.code)
    return { error: faultError(fault, call.era) }
  }
}

const aboutOf = ({ server, toolName, about }: RelayTarget) => ({
  server,
  ...(toolName === undefined ? {} : { tool: toolName }),
  ...about,
})

async function send(context: Context, target: RelayTarget): Promise<UpstreamAnswer> {
  const { call, flight, deps } = context
  const { server, name } = target
  const { params, parked } = context.states.unwrap(call, server.id, target.params, context.party.principalKey)
  const meta = call.message.params?._meta
  const progressToken = isObject(meta) ? meta.progressToken : undefined
  const request: UpstreamRequest = {
    server,
    party: context.party,
    method: target.method,
    params,
    stop: flight.stop,
    wantsProgress: progressToken !== undefined,
    onNotification: (message) => onNotification(context, server, progressToken, message),
  }
  const waiter: Waiter = {
    stop: flight.stop,
    notify: (message) => onNotification(context, server, progressToken, message),
  }
  if (parked) {
    return toAnswer(context, server, parked.holder, await resume(context, server, parked, params, waiter))
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

/** The answers of a client go on to the call that waits for them, wherever it is. */
async function resume(
  { deps, party }: Context,
  server: ServerWorkload,
  { holder, id, round }: ParkedRef,
  { inputResponses }: JsonObject,
  waiter: Waiter,
): Promise<Turn> {
  const request: ResumeRequest = {
    id,
    round,
    principalKey: party.principalKey,
    serverId: server.id,
    inputResponses: isObject(inputResponses) ? inputResponses : {},
  }
  return holder === selfOf(deps) || !deps.peers
    ? deps.parked.resume(request, waiter)
    : deps.peers.resume(holder, request, waiter)
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
  notification: JsonRpcNotification,
): void | Promise<void> {
  const { method, params } = notification
  switch (method) {
    case 'notifications/progress':
      flight.extend()
      return flight.notify({ method, params: { ...params, progressToken } })
    case 'notifications/message': {
      // A modern client that asks for no level wants none; a legacy one that never asked gets what comes.
      if (logLevel === undefined ? call.era === 'modern' : !passes(params?.level, logLevel)) return
      return flight.notify(params ? { method, params } : { method })
    }
    case 'notifications/elicitation/complete':
      if (call.era === 'legacy') return flight.notify(params ? { method, params } : { method })
      return
    default:
      if (isChange(notification)) deps.notices.hear(party, server, notification)
  }
}

/** -32042 asks for a visit to a page; the modern wire asks that by `input_required` (MCP 2026-07-28). */
function answerOfError({ call, info }: Context, error: JsonRpcError): Answered {
  if (call.era === 'legacy' || error.code !== -32042) return { error: shapeError(error, call.era) }
  const elicitations =
    isObject(error.data) && Array.isArray(error.data.elicitations) ? error.data.elicitations : []
  if (elicitations.length > 0 && elicitations.every(isObject) && canElicitUrl(call)) {
    return { result: shapeResult(call.message.method, elicitUrls(elicitations), 'modern', info) }
  }
  return { error: { ...error, code: new Fault('upstream.rejected').spec.rpc ?? -32603 } }
}

function passes(level: unknown, wanted: string): boolean {
  return logLevels.indexOf(String(level)) >= logLevels.indexOf(wanted)
}
