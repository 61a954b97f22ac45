import { Fault } from '../../../../shared/faults.ts'
import type { Context } from '../context.ts'
import { inspector } from '../guarded.ts'
import { holdersOf } from '../holders.ts'
import { type Relayed, relay } from '../relay.ts'

/**
 * Resource URIs carry no prefix, so the server is found by what it lists: a resource of that URI, else a template
 * that fits, else each server in turn until one knows it.
 */
export async function readResource(
  context: Context,
  { method, uri }: { method: string; uri: unknown } = { method: 'resources/read', uri: context.params.uri },
): Promise<Relayed> {
  if (typeof uri !== 'string') throw new Fault('rpc.params', { data: { field: 'uri' } })
  const { access, params } = context
  const target = method === 'resources/read' ? { method, params, name: uri } : { method, params }
  let last: Relayed | undefined
  for (const server of await holdersOf(context, uri)) {
    const decision = access.decisions.get(server.id)
    if (!decision) continue
    const phase = method === 'resources/read' ? 'resource' : 'completion'
    const inspect = inspector(context, decision, { phase, server, uri })
    const answer = await relay(context, {
      ...target,
      about: { uri },
      ...(inspect ? { inspect } : {}),
      server,
      decision,
    })
    if (!('error' in answer) || !notFound(answer.error.code)) return answer
    last = answer
  }
  if (last) return last
  throw new Fault('resource.unknown', { data: { uri } })
}

/** -32002 in older revisions, -32602 in 2026-07-28; a server without resources has no such method. */
const notFound = (code: number): boolean => code === -32002 || code === -32602 || code === -32601
