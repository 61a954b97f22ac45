import {
  type Circumstances,
  type Decision,
  decideKind,
  decideServer,
  type PolicyIndex,
  type Principal,
} from '../../../shared/policy.ts'
import type { ServerWorkload } from '../../../shared/wire/snapshot.ts'

/** Servers by the prefix of their names. */
export interface Names {
  readonly byPrefix: ReadonlyMap<string, ServerWorkload>
  readonly unprefixed: ServerWorkload | undefined
}

/** Every server's decision for one person on one snapshot. */
export interface Access extends Names {
  readonly index: PolicyIndex
  /** Servers that may be used, in the order of the configuration. */
  readonly allowed: readonly ServerWorkload[]
  /** Those of them whose prompts, whose resources may be used. */
  readonly prompts: readonly ServerWorkload[]
  readonly resources: readonly ServerWorkload[]
  readonly decisions: ReadonlyMap<string, Decision>
  /** Those that may not be used too, for saying why. */
  readonly all: Names
}

interface Held {
  index: PolicyIndex
  access: Access
  /** Servers whose decision hangs on the circumstances of each request. */
  volatile: readonly ServerWorkload[]
}

/**
 * Decides once per person and snapshot what holds for as long as these do, and at each request what does not.
 * Keyed by the principal object, which lives as long as its verified token does, so that nothing outlives the token
 * and a new snapshot decides anew.
 */
export function createAccess(): (
  index: PolicyIndex,
  principal: Principal,
  circumstances: Circumstances,
) => Access {
  const held = new WeakMap<Principal, Held>()
  const everything = new WeakMap<PolicyIndex, Names>()
  const namesOfAll = (index: PolicyIndex): Names => {
    let all = everything.get(index)
    if (!all) {
      all = namesOf(index.snapshot.servers)
      everything.set(index, all)
    }
    return all
  }
  return (index, principal, circumstances) => {
    const known = held.get(principal)
    const decide = ({ id }: ServerWorkload) => decideServer(index, principal, id, circumstances)
    if (known?.index === index) {
      if (known.volatile.length === 0) return known.access
      const decisions = new Map(known.access.decisions)
      let changed = false
      for (const server of known.volatile) {
        const before = decisions.get(server.id)
        const decision = decide(server)
        changed ||= before?.policyId !== decision.policyId || before.explanation !== decision.explanation
        decisions.set(server.id, decision)
      }
      if (changed) known.access = accessOf(index, decisions, namesOfAll(index))
      return known.access
    }
    const { servers } = index.snapshot
    const decisions = new Map(servers.map((server) => [server.id, decide(server)] as const))
    const access = accessOf(index, decisions, namesOfAll(index))
    const volatile = servers.filter((server) => decisions.get(server.id)?.volatile)
    held.set(principal, { index, access, volatile })
    return access
  }
}

function accessOf(index: PolicyIndex, decisions: ReadonlyMap<string, Decision>, all: Names): Access {
  const allowed = index.snapshot.servers.filter((server) => decisions.get(server.id)?.allow)
  const withKind = (kind: 'prompts' | 'resources') =>
    allowed.filter(({ id }) => {
      const decision = decisions.get(id)
      return decision !== undefined && decideKind(index, decision, kind).allow
    })
  return {
    index,
    ...namesOf(allowed),
    allowed,
    prompts: withKind('prompts'),
    resources: withKind('resources'),
    decisions,
    all,
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
