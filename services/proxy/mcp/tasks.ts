import { Fault } from '../../../shared/faults.ts'
import { type Circumstances, type Decision, decideTool, type PolicyIndex } from '../../../shared/policy.ts'
import type { ServerWorkload } from '../../../shared/wire/snapshot.ts'
import type { Access } from './access.ts'
import type { Context } from './context.ts'
import { metaKeys } from './protocol/shape.ts'

/**
 * The extension `io.modelcontextprotocol/tasks` between modern clients and modern servers: a call that takes long is
 * answered by a task, which the client asks about later. The gateway keeps nothing of a task. Its id is a sealed box of the
 * person, the server, the tool and the server's own id, so that any worker finds the way back and nobody else can use it.
 */
const purpose = 'mcp-task/1'

/** A server's task of one person. */
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

/** The id that the client gets: only this person can use it. Throws session.keys_missing. */
export function sealTask({ party, deps }: Context, { server, tool, inner }: OwnTask): string {
  const sealed = deps.seals.seal(purpose, JSON.stringify([party.principalKey, server.id, tool, inner]))
  if (sealed === undefined) throw new Fault('session.keys_missing')
  return sealed
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
