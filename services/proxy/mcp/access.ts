import { type Decision, decideServer, type PolicyIndex, type Principal } from '../../../shared/policy.ts'
import type { ServerWorkload } from '../../../shared/wire/snapshot.ts'

/** Servers by the prefix of their names. */
export interface Names {
  readonly byPrefix: ReadonlyMap<string, ServerWorkload>
  readonly unprefixed: ServerWorkload | undefined
}

/** Every server's decision for one person on one snapshot. */
export interface Access extends Names {
  /** Servers that may be used, in the order of the configuration. */
  readonly allowed: readonly ServerWorkload[]
  readonly decisions: ReadonlyMap<string, Decision>
  /** Those that may not be used too, for saying why. */
  readonly all: Names
}

interface Held {
  index: PolicyIndex
  access: Access
}

/**
 * Decides once per person and snapshot. Keyed by the principal object, which lives as long as its verified token
 * does, so that nothing outlives the token and a new snapshot decides anew.
 */
export function createAccess(): (index: PolicyIndex, principal: Principal) => Access {
  const held = new WeakMap<Principal, Held>()
  const everything = new WeakMap<PolicyIndex, Names>()
  return (index, principal) => {
    const known = held.get(principal)
    if (known?.index === index) return known.access
    const { servers } = index.snapshot
    const decisions = new Map(
      servers.map((server) => [server.id, decideServer(index, principal, server.id)] as const),
    )
    const allowed = servers.filter((server) => decisions.get(server.id)?.allow)
    let all = everything.get(index)
    if (!all) {
      all = namesOf(servers)
      everything.set(index, all)
    }
    const access: Access = { ...namesOf(allowed), allowed, decisions, all }
    held.set(principal, { index, access })
    return access
  }
}

/** Of two servers with one prefix the first counts; the control plane refuses such a configuration. */
function namesOf(servers: readonly ServerWorkload[]): Names {
  const byPrefix = new Map<string, ServerWorkload>()
  let unprefixed: ServerWorkload | undefined
  for (const server of servers) {
    if (server.prefix === null) unprefixed ??= server
    else if (!byPrefix.has(server.prefix)) byPrefix.set(server.prefix, server)
  }
  return { byPrefix, unprefixed }
}
