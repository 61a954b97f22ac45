import type { ServerWorkload } from '../../../shared/wire/snapshot.ts'
import type { Context } from './context.ts'

/** Servers that could have the resource, the likeliest first. */
export async function holdersOf(context: Context, uri: string): Promise<readonly ServerWorkload[]> {
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
