import { Fault } from '../../../../shared/faults.ts'
import type { ServerWorkload } from '../../../../shared/wire/snapshot.ts'
import type { Context } from '../context.ts'
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
  for (const server of await candidates(context, uri)) {
    const decision = access.decisions.get(server.id)
    if (!decision) continue
    const answer = await relay(context, { ...target, server, decision })
    if (!('error' in answer) || !notFound(answer.error.code)) return answer
    last = answer
  }
  if (last) return last
  throw new Fault('resource.unknown', { data: { uri } })
}

/** -32002 in older revisions, -32602 in 2026-07-28; a server without resources has no such method. */
const notFound = (code: number): boolean => code === -32002 || code === -32602 || code === -32601

async function candidates(context: Context, uri: string): Promise<readonly ServerWorkload[]> {
  const { access, party, flight, deps, states, params } = context
  const { catalogue } = deps
  const asked = states.serverOf(params, party.principalKey)
  if (asked !== undefined) return access.resources.filter(({ id }) => id === asked)

  const lists = (server: ServerWorkload): boolean =>
    catalogue.peek('resources', server, party)?.some((resource) => resource.uri === uri) ?? false
  const known = access.resources.filter(lists)
  if (known.length > 0) return known

  const unlisted = access.resources.filter(
    (server) =>
      !catalogue.peek('resources', server, party) || !catalogue.peek('resourceTemplates', server, party),
  )
  await Promise.all(
    unlisted.flatMap((server) => [
      catalogue.list('resources', server, party, flight.stop),
      catalogue.list('resourceTemplates', server, party, flight.stop),
    ]),
  )
  const listed = access.resources.filter(lists)
  if (listed.length > 0) return listed
  const fits = (server: ServerWorkload): boolean =>
    catalogue
      .peek('resourceTemplates', server, party)
      ?.some(({ uriTemplate }) => typeof uriTemplate === 'string' && templateFits(uriTemplate, uri)) ?? false
  const fitting = access.resources.filter(fits)
  return [...fitting, ...access.resources.filter((server) => !fitting.includes(server))]
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
