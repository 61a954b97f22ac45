import { maxMatchedRules } from '../wire/event.ts'
import type { AccessPolicy, ServerWorkload } from '../wire/snapshot.ts'
import { attest } from './match.ts'
import type {
  Circumstances,
  CompiledPolicy,
  Decision,
  PolicyIndex,
  Principal,
  ReasonCode,
  ToolDecision,
  ToolFacts,
} from './types.ts'

/**
 * The one decision function: pure, used by the gateway for listing and calling, by the control plane when it issues
 * tokens and credentials, for explaining and for replaying. Deny by default: what no active policy allows is denied,
 * and says why. Of several policies that name the same client or server the first of the configuration that allows
 * counts, with its conditions on tools, its content security and its credential; later ones never widen it.
 */

/** A clock at zero, no address, no database: conditions on time and place do not hold. */
const nowhere: Circumstances = Object.freeze({ now: 0 })

/** Every policy that was looked at on the way to a decision, in order; for explaining. */
export type Trace = Decision[]

/** The refusal where an administrator has shut this user or client out, whatever the policies say. */
function killed(index: PolicyIndex, principal: Principal): Decision | undefined {
  const { user, client } = index.blocked
  if (user.has(principal.subject))
    return denied('kill_switch', null, 'An administrator has blocked this user.', 'block:user')
  const { clientId, clientWorkload } = principal
  return client.has(clientId) || (clientWorkload !== undefined && client.has(clientWorkload))
    ? denied('kill_switch', null, 'An administrator has blocked this client.', 'block:client')
    : undefined
}

/** May this client and user come in at all? */
export function decideGateway(
  index: PolicyIndex,
  principal: Principal,
  circumstances: Circumstances = nowhere,
  trace?: Trace,
): Decision {
  const stopped = killed(index, principal)
  if (stopped) return noted(trace, stopped)
  const id = principal.clientWorkload
  const client = id === undefined ? undefined : index.clients.get(id)
  if (!client) {
    return noted(
      trace,
      denied('client_workload_unknown', null, 'The token names no client workload of this tenant.'),
    )
  }
  const what = `client workload "${client.name}"`
  return firstAllowing(index, index.byClient.get(client.id), { principal, circumstances }, what, trace)
}

/** May this user reach this server through the gateway? */
export function decideServer(
  index: PolicyIndex,
  principal: Principal,
  serverId: string,
  circumstances: Circumstances = nowhere,
  trace?: Trace,
): Decision {
  const server = index.servers.get(serverId)
  if (!server) return noted(trace, denied('server_unknown', null, 'No server workload has this id.'))
  const stopped = killed(index, principal)
  if (stopped) return noted(trace, stopped)
  if (index.blocked.server.has(serverId)) {
    const explanation = 'An administrator has blocked this server.'
    return noted(trace, denied('kill_switch', null, explanation, 'block:server'))
  }
  const what = `server workload "${server.name}"`
  return firstAllowing(index, index.byServer.get(serverId), { principal, circumstances, server }, what, trace)
}

/** What is asked about a tool: may it be seen, or may it be called with these arguments? */
export type ToolQuestion =
  | { readonly control: 'visible'; readonly tool: ToolFacts }
  /** Of a call that was let in before, whose arguments are not at hand any more: its task, its result. */
  | { readonly control: 'resumable'; readonly tool: ToolFacts }
  | { readonly control: 'invocable'; readonly tool: ToolFacts; readonly args: unknown }

/**
 * May this tool be seen or called, given decideServer's answer for its server? Conditions on tools bind both; a tool
 * that is only hidden by tool access control stays callable unless its invocation side stops it.
 */
export function decideTool(
  index: PolicyIndex,
  onServer: Decision,
  principal: Principal,
  server: ServerWorkload,
  question: ToolQuestion,
  circumstances: Circumstances = nowhere,
): ToolDecision {
  const compiled = onServer.allow ? index.policies.get(onServer.policyId ?? '') : undefined
  if (!compiled) return onServer.allow ? denied('no_policy', null, 'The policy is not in force.') : onServer
  if (compiled.toolConditions.length === 0 && compiled.toolAccess.length === 0) return onServer
  const { policy } = compiled
  const { tool } = question
  const control = question.control === 'visible' ? 'visible' : 'invocable'

  const matched: string[] = []
  for (const access of compiled.toolAccess) {
    const { allow, matched: entries } = access.check(control, tool.name)
    for (const entry of entries) matched.push(entry)
    if (allow) continue
    const visible = control === 'visible'
    const explanation = `Tool access control "${access.name}" ${visible ? 'hides' : 'blocks'} this tool.`
    return {
      ...denied(
        visible ? 'tool_hidden' : 'tool_blocked',
        policy,
        explanation,
        `contentSecurity:${access.id}`,
      ),
      volatile: onServer.volatile,
      toolAccess: {
        decision: visible ? 'filtered' : 'blocked',
        control,
        matchedRules: entries.slice(0, maxMatchedRules),
        reason: explanation,
      },
    }
  }
  const asked = {
    principal,
    circumstances,
    server,
    tool,
    args: question.control === 'invocable' ? question.args : undefined,
  }
  for (const condition of compiled.toolConditions) {
    if (question.control !== 'invocable' && condition.reads.has('args')) continue
    const refusal = condition.check(asked)
    if (!refusal) continue
    return {
      ...denied(
        refusal.reason,
        policy,
        `Access condition "${condition.name}": ${refusal.text}`,
        `accessCondition:${condition.id}`,
      ),
      volatile: onServer.volatile || condition.volatile,
    }
  }
  if (compiled.toolAccess.length === 0) return onServer
  return {
    ...onServer,
    toolAccess: { decision: 'allowed', control, matchedRules: matched.slice(0, maxMatchedRules) },
  }
}

/** Whether decisions on this policy's tools need the annotations that the server lists. */
export function needsAnnotations(index: PolicyIndex, onServer: Decision): boolean {
  const compiled = index.policies.get(onServer.policyId ?? '')
  return compiled?.toolConditions.some(({ reads }) => reads.has('tool')) ?? false
}

/** May prompts or resources of a server be used? Tool access control can switch either off as a whole. */
export function decideKind(index: PolicyIndex, onServer: Decision, kind: 'prompts' | 'resources'): Decision {
  const compiled = onServer.allow ? index.policies.get(onServer.policyId ?? '') : undefined
  const access = compiled?.toolAccess.find((each) => !each[kind])
  if (!compiled || !access) return onServer
  const explanation = `Tool access control "${access.name}" lets no ${kind} through.`
  const reason = kind === 'prompts' ? 'prompts_blocked' : 'resources_blocked'
  return {
    ...denied(reason, compiled.policy, explanation, `contentSecurity:${access.id}`),
    volatile: onServer.volatile,
  }
}

interface Asking {
  readonly principal: Principal
  readonly circumstances: Circumstances
  readonly server?: ServerWorkload
}

function firstAllowing(
  index: PolicyIndex,
  policies: readonly CompiledPolicy[] | undefined,
  asking: Asking,
  what: string,
  trace: Trace | undefined,
): Decision {
  let nearest: Decision | undefined
  // A policy that was passed over may hold at the next request, and would count before the one that holds now.
  let volatile = false
  for (const compiled of policies ?? []) {
    const decision = noted(trace, decidePolicy(index, compiled, asking))
    volatile ||= decision.volatile
    if (decision.allow) return decision.volatile === volatile ? decision : { ...decision, volatile }
    if (!nearest || nearest.reason === 'policy_inactive') nearest = decision
  }
  if (!nearest) return noted(trace, denied('no_policy', null, `No access policy names ${what}.`))
  return nearest.volatile === volatile ? nearest : { ...nearest, volatile }
}

function decidePolicy(index: PolicyIndex, compiled: CompiledPolicy, asking: Asking): Decision {
  const { policy } = compiled
  if (!policy.active) return denied('policy_inactive', policy, `Policy "${policy.name}" is inactive.`)
  // A policy that was written for people is none for a client that comes alone: it has to be named.
  const kind = asking.principal.kind ?? 'person'
  if (!(policy.subjects ?? ['person']).includes(kind)) {
    const who = kind === 'client' ? 'clients without a person' : 'people'
    return denied('subject_kind', policy, `Policy "${policy.name}" is not for ${who}.`)
  }
  for (const id of policy.trustProviders) {
    const provider = index.trustProviders.get(id)
    const rule = `trustProvider:${id}`
    if (!provider) {
      const explanation = `Policy "${policy.name}" names no known trust provider.`
      return denied('trust_provider_unknown', policy, explanation, rule)
    }
    const miss = attest(provider, asking.principal)
    if (miss)
      return denied('trust_provider_mismatch', policy, `Trust provider "${provider.name}": ${miss}`, rule)
  }
  let volatile = false
  for (const condition of compiled.conditions) {
    if (typeof condition === 'string') {
      const explanation = `Policy "${policy.name}" names no known access condition.`
      return denied('access_condition_unknown', policy, explanation, `accessCondition:${condition}`)
    }
    volatile ||= condition.volatile
    const refusal = condition.check(asking)
    if (refusal) {
      const explanation = `Access condition "${condition.name}": ${refusal.text}`
      return { ...denied(refusal.reason, policy, explanation, `accessCondition:${condition.id}`), volatile }
    }
  }
  const [unknown] = compiled.unknownContentSecurity
  if (unknown !== undefined) {
    const explanation = `Policy "${policy.name}" names no known content security.`
    return denied('content_security_unknown', policy, explanation, `contentSecurity:${unknown}`)
  }
  return volatile ? { ...allowedBy(policy), volatile } : allowedBy(policy)
}

const allowances = new WeakMap<AccessPolicy, Decision>()

/** One object per policy: most decisions are the same words. */
function allowedBy(policy: AccessPolicy): Decision {
  let decision = allowances.get(policy)
  if (!decision) {
    decision = Object.freeze({
      allow: true,
      reason: 'allowed',
      policyId: policy.id,
      policyVersion: policy.version,
      policyName: policy.name,
      rule: null,
      explanation: `Policy "${policy.name}" allows it.`,
      volatile: false,
    })
    allowances.set(policy, decision)
  }
  return decision
}

function denied(
  reason: ReasonCode,
  policy: AccessPolicy | null,
  explanation: string,
  rule: string | null = null,
): Decision {
  return {
    allow: false,
    reason,
    policyId: policy?.id ?? null,
    policyVersion: policy?.version ?? null,
    policyName: policy?.name ?? null,
    rule,
    explanation,
    volatile: false,
  }
}

function noted(trace: Trace | undefined, decision: Decision): Decision {
  trace?.push(decision)
  return decision
}
