import { Fault } from '../../../../shared/faults.ts'
import type { Context } from '../context.ts'
import { inspector } from '../guarded.ts'
import { isObject } from '../protocol/jsonrpc.ts'
import type { JsonObject } from '../protocol/types.ts'
import { type Relayed, relay } from '../relay.ts'
import { decideTask, openTask, requireTasks, sealTask } from '../tasks.ts'
import { refuse } from '../tool-policy.ts'
import type { Target } from './calls.ts'

/** Of a server's own id. */
const maxIdChars = 1_024

/** A call's answer; where that is a task, under an id of ours. */
export function withTask(
  context: Context,
  { server, name }: Pick<Target, 'server' | 'name'>,
  answer: Relayed,
): Relayed {
  if ('error' in answer || answer.result.resultType !== 'task') return answer
  const { taskId } = answer.result
  if (typeof taskId !== 'string' || taskId.length > maxIdChars) {
    throw new Fault('upstream.garbage', { detail: 'a task without an id, or with one that is too long' })
  }
  return { result: { ...answer.result, taskId: sealTask(context, { server, tool: name, inner: taskId }) } }
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
  const inspect = inspector(context, decision, { phase: 'output', server, tool })
  const answer = await relay(context, {
    server,
    decision,
    method: call.message.method,
    params: { ...params, taskId: inner },
    name: inner,
    toolName: tool,
    ...(inspect ? { inspect: taskInspector(inspect) } : {}),
  })
  return 'error' in answer ? answer : { result: named(answer.result, inner, taskId) }
}

/** Of a task that is done, its result is what guards look at; of another there is nothing yet. */
function taskInspector(inspect: NonNullable<ReturnType<typeof inspector>>) {
  return async (task: JsonObject) => {
    const { result } = task
    if (!isObject(result)) return { allow: true, content: task, verdict: undefined }
    const guarded = await inspect(result)
    return guarded.content === result
      ? { ...guarded, content: task }
      : { ...guarded, content: { ...task, result: guarded.content } }
  }
}

/** The task under the id that the client knows. */
const named = (result: JsonObject, inner: string, taskId: unknown): JsonObject =>
  result.taskId === inner ? { ...result, taskId } : result
