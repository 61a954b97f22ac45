import { Fault } from '../../../../shared/faults.ts'
import { type Circumstances, type Decision, decideTool, type PolicyIndex } from '../../../../shared/policy.ts'
import type { ServerWorkload } from '../../../../shared/wire/snapshot.ts'
import type { Access } from '../access.ts'
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

export interface OwnTask {
  readonly server: ServerWorkload
  readonly tool: string
  /** The server's own id. */
  readonly inner: string
}

/** The client has to say with each request that it takes tasks. Throws mcp.capability. */
export function requireTasks({ party }: Context): void {
  if (party.tasks) return
  throw new Fault('mcp.capability', {
    data: { requiredCapabilities: { extensions: { [metaKeys.tasks]: {} } } },
  })
}

/** What an id of ours stands for; undefined where it is none, or another person's. */
export function openTask({ call, party, deps }: Context, taskId: unknown): OwnTask | undefined {
  const plain = typeof taskId === 'string' ? deps.seals.open(purpose, taskId) : undefined
  // Authenticated by the box, so the shape is the one that `withTask` wrote.
  const [person, serverId, tool, inner] = plain === undefined ? [] : (JSON.parse(plain) as string[])
  const server = call.index.snapshot.servers.find(({ id }) => id === serverId)
  if (person !== party.principalKey || !server || tool === undefined || inner === undefined) return undefined
  return { server, tool, inner }
}

/** Whether the tool of a task may still be used, as `now` decides; undefined where there is no such server any more. */
export function decideTask(
  { call, party, deps }: Context,
  { server, tool }: OwnTask,
  now: { access: Access; index: PolicyIndex; circumstances: Circumstances },
): Decision | undefined {
  const onServer = now.access.decisions.get(server.id)
  if (!onServer?.allow) return onServer
  const known = deps.catalogue.peek('tools', server, party)?.find(({ name }) => name === tool)
  const question = { control: 'resumable', tool: { name: tool, annotations: known?.annotations } } as const
  return decideTool(now.index, onServer, call.principal, server, question, now.circumstances)
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
