import { Fault } from '../../../../shared/faults.ts'
import type { Decision } from '../../../../shared/policy.ts'
import { type Guarded, looksAt } from '../../guard/guards.ts'
import type { Context } from '../context.ts'
import { guardsOf, inspectError, inspector, inspectQuestions } from '../guarded.ts'
import { isObject } from '../protocol/jsonrpc.ts'
import type { ContentSecurityVerdict, JsonObject, JsonRpcError } from '../protocol/types.ts'
import { type Relayed, relay } from '../relay.ts'
import { decideTask, type OwnTask, openTask, requireTasks, sealTask } from '../tasks.ts'
import { refuse } from '../tool-policy.ts'
import type { Target } from './calls.ts'

/** Of a server's own id. */
const maxIdChars = 1_024

/** A call's answer; where that is a task, under an id of ours. */
export function withTask(context: Context, { server, name, decision }: Target, answer: Relayed): Relayed {
  if ('error' in answer || answer.result.resultType !== 'task') return answer
  const { taskId } = answer.result
  if (typeof taskId !== 'string' || taskId.length > maxIdChars) {
    throw new Fault('upstream.garbage', { detail: 'a task without an id, or with one that is too long' })
  }
  const { statusMessage, ...task } = answer.result
  const looked = guardsOf(context, decision).some((each) => looksAt(each, 'output'))
  const said = looked || statusMessage === undefined ? task : answer.result
  return { result: { ...said, taskId: sealTask(context, { server, tool: name, inner: taskId }) } }
}

/** `tasks/get`, `tasks/update`, `tasks/cancel`: to the server that has the task, if policy still allows the tool. */
export async function task(context: Context): Promise<Relayed> {
  const { call, params, access } = context
  requireTasks(context)
  const { taskId } = params
  const found = openTask(context, taskId)
  const { index, circumstances } = call
  const decision = found && decideTask(context, found, { access, index, circumstances })
  // One answer for what is not an id of ours, and for the task of another person.
  if (!found || !decision) {
    throw new Fault('rpc.params', { data: { field: 'taskId' }, detail: 'not a task of this person' })
  }
  const { server, tool, inner } = found
  if (!decision.allow) throw refuse(context, { server, name: tool, decision }, true)
  const answer = await relay(context, {
    server,
    decision,
    method: call.message.method,
    params: { ...params, taskId: inner },
    name: inner,
    toolName: tool,
    ...(guardsOf(context, decision).length > 0
      ? { inspect: taskInspector(context, decision, { server, tool }) }
      : {}),
  })
  return 'error' in answer ? answer : { result: named(answer.result, inner, taskId) }
}

/**
 * Of a task that is done guards look at its result, of one that failed at its error, of one that asks at its questions. What
 * the server says of how far it is has no phase: it is left out where a guard looks at results.
 */
function taskInspector(
  context: Context,
  decision: Decision,
  about: { server: OwnTask['server']; tool: string },
): (task: JsonObject) => Promise<Guarded> {
  const inspect = inspector(context, decision, { ...about, phase: 'output' })
  return async (given) => {
    const { statusMessage, ...rest } = given
    const task = inspect && statusMessage !== undefined ? rest : given
    const { result, error } = task
    let content = await inspectQuestions(context, decision, about, task)
    let verdict: ContentSecurityVerdict | undefined
    if (isObject(error)) {
      const seen = await inspectError(context, decision, about, error as unknown as JsonRpcError)
      content = { ...content, error: seen.error }
      verdict = seen.verdict
    }
    if (inspect && isObject(result)) {
      const seen = await inspect(result)
      if (seen.content !== result) content = { ...content, result: seen.content }
      verdict = seen.verdict
    }
    return { allow: true, content, verdict }
  }
}

/** The task under the id that the client knows. */
const named = (result: JsonObject, inner: string, taskId: unknown): JsonObject =>
  result.taskId === inner ? { ...result, taskId } : result
