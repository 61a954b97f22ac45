import { Fault } from '../../../../shared/faults.ts'
import { decideTool } from '../../../../shared/policy.ts'
import type { Context } from '../context.ts'
import { inspector } from '../guarded.ts'
import { isObject } from '../protocol/jsonrpc.ts'
import { metaKeys } from '../protocol/shape.ts'
import type { JsonObject } from '../protocol/types.ts'
import { type Relayed, relay } from '../relay.ts'
import { refuse } from '../tool-policy.ts'
import type { Target } from './calls.ts'

/**
 * The extension `io.modelcontextprotocol/tasks` between modern clients and modern servers: a call that takes long is
 * answered by a task, which the client asks about later. The gateway keeps nothing of a task. Its id is a sealed box of the
 * person, the server, the tool and the server's own id, so that any worker finds the way back and nobody else can use it.
 */
const purpose = 'mcp-task/1'
const maxIdChars = 1_024

/** A call's answer; where that is a task, under an id of ours. */
export function withTask(
  { deps, party }: Context,
  { server, name }: Pick<Target, 'server' | 'name'>,
  answer: Relayed,
): Relayed {
  if ('error' in answer || answer.result.resultType !== 'task') return answer
  const { taskId } = answer.result
  if (typeof taskId !== 'string' || taskId.length > maxIdChars) {
    throw new Fault('upstream.garbage', { detail: 'a task without an id, or with one that is too long' })
  }
  const sealed = deps.seals.seal(purpose, JSON.stringify([party.principalKey, server.id, name, taskId]))
  if (sealed === undefined) throw new Fault('session.keys_missing')
  return { result: { ...answer.result, taskId: sealed } }
}

/** `tasks/get`, `tasks/update`, `tasks/cancel`: to the server that has the task, if policy still allows the tool. */
export async function task(context: Context): Promise<Relayed> {
  const { call, params, access, party, deps } = context
  if (!party.tasks) {
    throw new Fault('mcp.capability', {
      data: { requiredCapabilities: { extensions: { [metaKeys.tasks]: {} } } },
    })
  }
  const { taskId } = params
  const plain = typeof taskId === 'string' ? deps.seals.open(purpose, taskId) : undefined
  // Authenticated by the box, so the shape is the one that `withTask` wrote.
  const [person, serverId, tool, inner] = plain === undefined ? [] : (JSON.parse(plain) as string[])
  const server = call.index.snapshot.servers.find(({ id }) => id === serverId)
  const onServer = serverId === undefined ? undefined : access.decisions.get(serverId)
  // One answer for what is not an id of ours, and for the task of another person.
  if (person !== party.principalKey || !server || !onServer || tool === undefined || inner === undefined) {
    throw new Fault('rpc.params', { data: { field: 'taskId' }, detail: 'not a task of this person' })
  }
  const known = deps.catalogue.peek('tools', server, party)?.find(({ name }) => name === tool)
  const question = { control: 'resumable', tool: { name: tool, annotations: known?.annotations } } as const
  const decision = onServer.allow
    ? decideTool(call.index, onServer, call.principal, server, question, call.circumstances)
    : onServer
  if (!decision.allow) throw refuse(context, { server, name: tool, decision }, true)
  const inspect = inspector(context, decision, server, tool)
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
