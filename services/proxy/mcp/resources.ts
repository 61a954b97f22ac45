import { Fault } from '../../../shared/faults.ts'
import type { ServerWorkload } from '../../../shared/wire/snapshot.ts'
import { principalKeyOf } from './catalogue.ts'
import { fanOut } from './listing.ts'
import type { MethodContext } from './methods.ts'
import { type Answer, relay, requestBase } from './relay.ts'

/**
 * Resource URIs carry no prefix, so the server is found by what it lists: a resource of that URI, else a template
 * that fits, else each server in turn until one knows it.
 */
export async function readResource(
  context: MethodContext,
  { method, uri }: { method: string; uri: unknown } = { method: 'resources/read', uri: context.params.uri },
): Promise<Answer> {
  if (typeof uri !== 'string') throw new Fault('rpc.params', { detail: 'uri is missing' })
  const { call, flight, access, params } = context
  let last: Answer | undefined
  for (const server of await candidates(context, uri)) {
    const decision = access.decisions.get(server.id)
    if (!decision) continue
    const answer = await relay(context, call, flight, { server, decision, method, params, name: uri })
    if (!('error' in answer) || !notFound(answer.error.code)) return answer
    last = answer
  }
  if (last) return last
  throw new Fault('resource.unknown', { data: { uri } })
}

/** -32002 in older revisions, -32602 in 2026-07-28; a server without resources has no such method. */
const notFound = (code: number): boolean => code === -32002 || code === -32602 || code === -32601

async function candidates(
  { call, flight, access, catalogue, config }: MethodContext,
  uri: string,
): Promise<ServerWorkload[]> {
  const principalKey = principalKeyOf(call)
  const lists = (server: ServerWorkload): boolean =>
    catalogue.peek('resources', principalKey, server)?.some((resource) => resource.uri === uri) ?? false
  const fits = (server: ServerWorkload): boolean =>
    catalogue
      .peek('resourceTemplates', principalKey, server)
      ?.some(({ uriTemplate }) => typeof uriTemplate === 'string' && templateFits(uriTemplate, uri)) ?? false

  const known = access.allowed.filter(lists)
  if (known.length > 0) return known
  const unknownYet = access.allowed.filter((server) => !catalogue.peek('resources', principalKey, server))
  if (unknownYet.length > 0) {
    const requests = access.allowed.map((server) => requestBase(call, server, flight.signal))
    const limit = (config.timeouts.resources_list ?? 3_000) + (config.timeouts.initialize ?? 10_000)
    await Promise.all([
      fanOut(catalogue, 'resources', requests, limit),
      fanOut(catalogue, 'resourceTemplates', requests, limit),
    ])
    const listed = access.allowed.filter(lists)
    if (listed.length > 0) return listed
  }
  const fitting = access.allowed.filter(fits)
  return [...fitting, ...access.allowed.filter((server) => !fitting.includes(server))]
}

/** Whether a URI could come from an RFC 6570 template: each expression stands for any text. */
export function templateFits(template: string, uri: string): boolean {
  let rest = uri
  const literals = template.split(/\{[^}]*\}/)
  const first = literals.shift() ?? ''
  if (!rest.startsWith(first)) return false
  rest = rest.slice(first.length)
  const last = literals.pop()
  if (last === undefined) return rest === ''
  // Plain searches instead of one regular expression: a hostile template must not cost exponential time.
  for (const literal of literals) {
    const at = rest.indexOf(literal)
    if (at === -1) return false
    rest = rest.slice(at + literal.length)
  }
  return rest.endsWith(last)
}
