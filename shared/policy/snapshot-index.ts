import type { ContentGuard } from '../wire/content-security.ts'
import type { AccessPolicy, Block, Snapshot } from '../wire/snapshot.ts'
import { type CompiledCondition, compileCondition } from './conditions.ts'
import { type CompiledToolAccess, compileToolAccess } from './tool-access.ts'
import type { CompiledPolicy, PolicyIndex } from './types.ts'

/**
 * Lays a snapshot out for look-up and compiles what it says. Throws where an expression, a pattern or a time zone of
 * it does not compile: the caller keeps the former snapshot.
 */
export function indexSnapshot(snapshot: Snapshot): PolicyIndex {
  const { accessConditions = [], contentSecurity = [] } = snapshot
  const conditions = new Map(accessConditions.map((each) => [each.id, compileCondition(each)]))
  const contentIds = new Set(contentSecurity.map(({ id }) => id))
  const toolAccess = new Map(
    contentSecurity.flatMap((each) =>
      each.type === 'AembitMcpToolAccessControl' ? [[each.id, compileToolAccess(each)] as const] : [],
    ),
  )
  const guards = new Map(
    contentSecurity.flatMap((each) =>
      each.type === 'AembitMcpToolAccessControl' ? [] : [[each.id, each] as const],
    ),
  )
  const compiled = snapshot.policies.map((policy) =>
    compile(policy, conditions, toolAccess, guards, contentIds),
  )
  const group = (key: 'clientWorkload' | 'serverWorkload', kind: AccessPolicy['kind']) => {
    const groups = new Map<string, CompiledPolicy[]>()
    for (const each of compiled) {
      const id = each.policy[key]
      if (each.policy.kind !== kind || id === undefined) continue
      const list = groups.get(id)
      if (list) list.push(each)
      else groups.set(id, [each])
    }
    return groups
  }
  return {
    snapshot,
    servers: new Map(snapshot.servers.map((server) => [server.id, server])),
    clients: new Map(snapshot.clientWorkloads.map((client) => [client.id, client])),
    trustProviders: new Map(snapshot.trustProviders.map((provider) => [provider.id, provider])),
    policies: new Map(compiled.map((each) => [each.policy.id, each])),
    byClient: group('clientWorkload', 'client-to-gateway'),
    byServer: group('serverWorkload', 'gateway-to-server'),
    blocked: {
      user: blocked(snapshot, 'user'),
      client: blocked(snapshot, 'client'),
      server: blocked(snapshot, 'server'),
      token: blocked(snapshot, 'token'),
    },
  }
}

function blocked(snapshot: Snapshot, kind: Block['kind']): ReadonlySet<string> {
  return new Set((snapshot.blocks ?? []).filter((block) => block.kind === kind).map(({ value }) => value))
}

function compile(
  policy: AccessPolicy,
  known: ReadonlyMap<string, CompiledCondition>,
  toolAccess: ReadonlyMap<string, CompiledToolAccess>,
  guards: ReadonlyMap<string, ContentGuard>,
  contentIds: ReadonlySet<string>,
): CompiledPolicy {
  const { accessConditions = [], contentSecurity = [] } = policy
  const conditions = accessConditions.map((id) => known.get(id) ?? id)
  const ofTools = (each: CompiledCondition | string): each is CompiledCondition =>
    typeof each !== 'string' && (each.reads.has('tool') || each.reads.has('args'))
  return {
    policy,
    conditions: conditions.filter((each) => !ofTools(each)),
    toolConditions: conditions.filter(ofTools),
    toolAccess: contentSecurity.flatMap((id) => toolAccess.get(id) ?? []),
    guards: contentSecurity.flatMap((id) => guards.get(id) ?? []),
    unknownContentSecurity: contentSecurity.filter((id) => !contentIds.has(id)),
  }
}
