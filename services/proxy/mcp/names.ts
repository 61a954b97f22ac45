import type { ServerWorkload } from '../../../shared/wire/snapshot.ts'
import type { Names } from './access.ts'

/** MCP 2026-07-28, tools: 1..128 characters of this set. */
const legal = /^[A-Za-z0-9_.-]{1,128}$/

/** `<prefix>_<name>`, or undefined where the result would not be a legal name. */
export function exposeName(server: ServerWorkload, name: string): string | undefined {
  const exposed = server.prefix === null ? name : `${server.prefix}_${name}`
  return legal.test(exposed) ? exposed : undefined
}

export interface Resolved {
  server: ServerWorkload
  /** The server's own name. */
  name: string
}

/**
 * The server that an exposed name belongs to. Prefixes hold no underscore, so the first one ends the prefix; what
 * fits no prefix belongs to the unprefixed server, where there is one.
 */
export function resolveName({ byPrefix, unprefixed }: Names, exposed: string): Resolved | undefined {
  const end = exposed.indexOf('_')
  const server = end > 0 ? byPrefix.get(exposed.slice(0, end)) : undefined
  if (server) return { server, name: exposed.slice(end + 1) }
  return unprefixed && { server: unprefixed, name: exposed }
}
