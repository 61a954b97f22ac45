import { Fault } from '../../../shared/faults.ts'
import type { Decision } from '../../../shared/policy.ts'
import type { ServerWorkload } from '../../../shared/wire/snapshot.ts'
import type { Guarded } from '../guard/guards.ts'
import type { Checked } from '../guard/types.ts'
import { canElicitUrl, connectAnswer, elicitUrls } from './connect.ts'
import type { Context } from './context.ts'
import { type Answered, Cancelled } from './flight.ts'
import { ContentRefused, contentFault, inspectError, inspectQuestions } from './guarded.ts'
import { principalKeyOf } from './party.ts'
import { faultError, isObject } from './protocol/jsonrpc.ts'
import { isPlain, shapeError, shapeResult, statusOf, withId } from './protocol/shape.ts'
import type { ContentSecurityVerdict, JsonObject, JsonRpcError } from './protocol/types.ts'
import { aboutOf, send } from './send.ts'
import { AuthorizationRequired } from './upstream/authorization.ts'
import type { UpstreamRequest } from './upstream/request.ts'

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
    const settle = (answered: Relayed): Relayed => {
      if (result.isError === true) record(200, 'the tool reported an error', 'tool.error', seen?.verdict)
      else record(200, undefined, undefined, seen?.verdict)
      return answered
    }
    // What a guard saw is what goes on: of two members of one name the text has both.
    const untouched = seen === undefined && result === given ? answer.text : undefined
    if (call.era === 'legacy' && answer.era === 'legacy' && untouched !== undefined && isPlain(result)) {
      const text = withId(untouched, answer.response.id, call.message.id)
      return settle(text === undefined ? { result } : { result, text })
    }
    const principalKey = principalKeyOf(call.principal)
    if (result.resultType === 'task' && !context.party.tasks) {
      throw new Fault('upstream.rejected', { detail: 'a task, for a client that did not declare tasks' })
    }
    const asks = call.era === 'modern' && result.resultType === 'input_required' && !answer.parked
    const passed = asks ? context.states.wrap(call, server.id, result, principalKey) : result
    return settle({ result: shapeResult(method, passed, call.era, context.info) })
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
