import { type Decision, decideServer, type PolicyIndex, type Principal } from '../../../shared/policy.ts'
import type { ServerWorkload } from '../../../shared/wire/snapshot.ts'

/** Every server's decision for one person on one snapshot. */
export interface Access {
  /** Servers that may be used, in the order of the configuration. */
  readonly allowed: readonly ServerWorkload[]
  readonly decisions: ReadonlyMap<string, Decision>
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
  return (index, principal) => {
    const known = held.get(principal)
    if (known?.index === index) return known.access
    const decisions = new Map(
      index.snapshot.servers.map((server) => [server.id, decideServer(index, principal, server.id)] as const),
    )
    const access: Access = {
      allowed: index.snapshot.servers.filter((server) => decisions.get(server.id)?.allow),
      decisions,
    }
    held.set(principal, { index, access })
    return access
  }
}
