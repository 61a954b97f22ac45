import { decideGateway, decideServer, decideTool, type Trace } from './decide.ts'
import type { Circumstances, Decision, PolicyIndex, Principal, ToolDecision, ToolFacts } from './types.ts'

/** What is asked: to come in; to reach a server; to see or call one of its tools. */
export interface Ask {
  readonly serverId?: string | undefined
  readonly tool?: ToolFacts | undefined
  /** `see` is what a listing asks; a call is asked for where this is absent. */
  readonly to?: 'see' | 'call' | undefined
  readonly args?: unknown
}

/** One policy that was looked at, and what it said. */
export interface Step extends Decision {
  readonly stage: 'gateway' | 'server' | 'tool'
  /** Whether this is what decided at its stage. */
  readonly decisive: boolean
}

export interface Explanation {
  readonly decision: ToolDecision
  readonly steps: readonly Step[]
}

/**
 * The decision that the gateway makes, made by the same functions in the same order, with every policy that was looked
 * at on the way. With the circumstances of a recorded request it replays that request.
 */
export function explain(
  index: PolicyIndex,
  principal: Principal,
  ask: Ask,
  circumstances: Circumstances,
): Explanation {
  const steps: Step[] = []
  const stage = (name: Step['stage'], decide: (trace: Trace) => ToolDecision): ToolDecision => {
    const trace: Trace = []
    const decision = decide(trace)
    const decisive = trace.findLast(
      ({ allow, reason, policyId }) =>
        allow === decision.allow && reason === decision.reason && policyId === decision.policyId,
    )
    for (const each of trace) steps.push({ ...each, stage: name, decisive: each === decisive })
    return decision
  }

  const entered = stage('gateway', (trace) => decideGateway(index, principal, circumstances, trace))
  const { serverId, tool, to = 'call', args } = ask
  if (!entered.allow || serverId === undefined) return { decision: entered, steps }
  const onServer = stage('server', (trace) => decideServer(index, principal, serverId, circumstances, trace))
  const server = index.servers.get(serverId)
  if (!onServer.allow || !server || tool === undefined) return { decision: onServer, steps }
  const question =
    to === 'see' ? ({ control: 'visible', tool } as const) : ({ control: 'invocable', tool, args } as const)
  const decision = stage('tool', (trace) => {
    const decided = decideTool(index, onServer, principal, server, question, circumstances)
    trace.push(decided)
    return decided
  })
  return { decision, steps }
}
