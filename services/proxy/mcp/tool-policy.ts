import { Fault } from '../../../shared/faults.ts'
import { type Decision, decideTool, needsAnnotations, type ToolDecision } from '../../../shared/policy.ts'
import type { ServerWorkload } from '../../../shared/wire/snapshot.ts'
import type { ServerListing } from './catalogue.ts'
import type { Context } from './context.ts'
import type { ContentSecurityVerdict } from './protocol/types.ts'

/** A tool of a server, and what was decided of the server. */
interface Target {
  readonly server: ServerWorkload
  readonly name: string
  readonly decision: Decision
}

/** The listing without the tools that policy does not show to this person, and what events say of that. */
export function visibleTools(
  { call, access }: Context,
  listing: ServerListing,
): { listing: ServerListing; verdict?: ContentSecurityVerdict } {
  const { server, items } = listing
  const onServer = access.decisions.get(server.id)
  if (!onServer) return { listing: { ...listing, items: [] } }
  let controlled = false
  const seen = items.filter((item) => {
    if (typeof item.name !== 'string') return false
    const tool = { name: item.name, annotations: item.annotations }
    const question = { control: 'visible', tool } as const
    const decision: ToolDecision = decideTool(
      call.index,
      onServer,
      call.principal,
      server,
      question,
      call.circumstances,
    )
    controlled ||= decision.toolAccess !== undefined
    return decision.allow
  })
  const removed = items.length - seen.length
  if (!controlled) return { listing: removed === 0 ? listing : { ...listing, items: seen } }
  const verdict: ContentSecurityVerdict = {
    aembitMcpToolsAcl: {
      decision: removed === 0 ? 'allowed' : 'filtered',
      control: 'visible',
      toolsRemoved: removed,
      toolsReturned: seen.length,
    },
  }
  return { listing: { ...listing, items: seen }, verdict }
}

/** The decision that lets a call of a tool through. Throws policy.denied, recorded. */
export async function admitTool(
  context: Context,
  target: Target,
): Promise<{ decision: Decision; contentSecurity?: ContentSecurityVerdict }> {
  const { call, params } = context
  const { server, name, decision: onServer } = target
  const annotations = needsAnnotations(call.index, onServer)
    ? await annotationsOf(context, target)
    : undefined
  const question = { control: 'invocable', tool: { name, annotations }, args: params.arguments } as const
  const decision = decideTool(call.index, onServer, call.principal, server, question, call.circumstances)
  const { toolAccess } = decision
  const contentSecurity = toolAccess && { aembitMcpToolsAcl: toolAccess }
  if (!decision.allow) throw refuse(context, { ...target, decision }, true, contentSecurity)
  return { decision, ...(contentSecurity ? { contentSecurity } : {}) }
}

/** What the server lists of the tool: kept, else asked for. An unknown tool has the defaults of MCP, which are strict. */
async function annotationsOf({ deps, party, flight }: Context, { server, name }: Target): Promise<unknown> {
  const listed =
    deps.catalogue.peek('tools', server, party) ??
    (await deps.catalogue.list('tools', server, party, flight.stop)).items
  return listed.find((tool) => tool.name === name)?.annotations
}

/** Records a refusal of policy and gives the fault to throw. */
export function refuse(
  context: Context,
  { server, name, decision }: Target,
  isTool: boolean,
  contentSecurity?: ContentSecurityVerdict,
): Fault {
  context.deps.recorder.response(context.call, {
    server,
    decision,
    ...(isTool ? { toolName: name } : {}),
    outcome: 'Error',
    reason: decision.explanation,
    reasonCode: decision.reason,
    ...(contentSecurity ? { contentSecurity } : {}),
    httpResponseCode: 200,
    durationMs: context.flight.ageMs,
  })
  return new Fault('policy.denied', {
    detail: `${decision.reason}: ${decision.explanation}`,
    data: { name: String(context.params.name ?? name), decision: decision.reason },
  })
}
