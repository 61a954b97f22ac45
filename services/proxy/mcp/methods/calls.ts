import { Fault } from '../../../../shared/faults.ts'
import { type Decision, decideKind } from '../../../../shared/policy.ts'
import type { ServerWorkload } from '../../../../shared/wire/snapshot.ts'
import { connectAnswer, connectedResult, connectTool } from '../connect.ts'
import type { Context } from '../context.ts'
import { contentFault, explanationOf, guard, guardsOf, inspector, verdicts } from '../guarded.ts'
import { resolveName } from '../names.ts'
import { admitDefinition } from '../pins.ts'
import { isObject } from '../protocol/jsonrpc.ts'
import { shapeResult } from '../protocol/shape.ts'
import type { ContentSecurityVerdict, JsonObject } from '../protocol/types.ts'
import { type Relayed, relay } from '../relay.ts'
import { admitTool, refuse } from '../tool-policy.ts'
import { AuthorizationRequired } from '../upstream/authorization.ts'
import { disagreeing, paramHeaders } from '../upstream/param-headers.ts'
import { readResource } from './resources.ts'
import { withTask } from './tasks.ts'

export interface Target {
  server: ServerWorkload
  /** The server's own name. */
  name: string
  decision: Decision
}

/** The server of an exposed name, or the Fault that says why not. */
function resolve(context: Context, exposed: unknown, unknown: 'tool.unknown' | 'prompt.unknown'): Target {
  if (typeof exposed !== 'string') throw new Fault('rpc.params', { data: { field: 'name' } })
  const { access } = context
  const found = resolveName(access, exposed)
  const decision = found && access.decisions.get(found.server.id)
  if (found && decision) return { ...found, decision }
  const denied = resolveName(access.all, exposed)
  const why = denied && access.decisions.get(denied.server.id)
  if (!denied || !why) throw new Fault(unknown, { data: { name: exposed } })
  throw refuse(context, { ...denied, decision: why }, unknown === 'tool.unknown')
}

/** A prompt's server, where its prompts may be used. */
function admitPrompt(context: Context, exposed: unknown): Target {
  const target = resolve(context, exposed, 'prompt.unknown')
  const decision = decideKind(context.call.index, target.decision, 'prompts')
  if (!decision.allow) throw refuse(context, { ...target, decision }, false)
  return target
}

export async function callTool(context: Context): Promise<Relayed> {
  const target = resolve(context, context.params.name, 'tool.unknown')
  const { server, name } = target
  if (name === connectTool && server.credential === 'required' && !(await isOwnTool(context, target))) {
    return connect(context, target)
  }
  const { decision, contentSecurity } = await admitTool(context, target)
  await admitDefinition(context, target)
  const checked = await checkInput(context, { ...target, decision }, contentSecurity)
  const inspect = inspector(context, decision, { phase: 'output', server, tool: name })
  const answer = await relay(context, {
    server,
    decision,
    ...verdicts(contentSecurity, checked.verdict),
    method: 'tools/call',
    params: { ...withoutTask(checked.params), name },
    name,
    toolName: name,
    mirror: mirrorOf(context, target, checked.params.arguments),
    ...(inspect ? { inspect } : {}),
  })
  return withTask(context, target, answer)
}

/** Nobody could ask for a task of 2025-11-25 later, so none is wished for (tasks: metadata of a receiver without them). */
function withoutTask({ task: _wish, ...params }: JsonObject): JsonObject {
  return params
}

/** The parameters that guards let through, changed where they changed them. Throws policy.denied, recorded. */
async function checkInput(
  context: Context,
  target: Target,
  before: ContentSecurityVerdict | undefined,
): Promise<{ params: JsonObject; verdict?: ContentSecurityVerdict | undefined }> {
  const { params } = context
  const { server, name, decision } = target
  const guards = guardsOf(context, decision)
  if (guards.length === 0) return { params }
  const content = params.arguments ?? {}
  const guarded = await guard(context, guards, { phase: 'input', server, tool: name, content })
  const { verdict } = guarded
  if (guarded.allow) {
    return {
      params: guarded.content === content ? params : { ...params, arguments: guarded.content },
      verdict,
    }
  }
  context.deps.recorder.response(context.call, {
    server,
    decision,
    toolName: name,
    outcome: 'Error',
    reason: explanationOf(guarded),
    reasonCode: guarded.reasonCode,
    ...verdicts(before, verdict),
    httpResponseCode: 200,
    durationMs: context.flight.ageMs,
  })
  throw contentFault(guarded)
}

/**
 * Arguments in headers: those of a modern client have to say what its body says, and those for a modern server are built
 * from the body. What the gateway does not know of a tool yet, the server's refusal tells it.
 */
function mirrorOf({ call, params, party, flight, deps }: Context, { server, name }: Target, sent: unknown) {
  const { catalogue } = deps
  const tool = (): JsonObject | undefined =>
    catalogue.peek('tools', server, party)?.find((candidate) => candidate.name === name)
  const known = call.era === 'modern' ? tool() : undefined
  const wrong = known && disagreeing(known, params.arguments, call.headers)
  if (wrong) throw new Fault('mcp.header_mismatch', { data: wrong })
  return {
    headers: () => {
      const definition = tool()
      return definition ? paramHeaders(definition, sent) : {}
    },
    renew: async () => {
      catalogue.changed('tools', server)
      await catalogue.list('tools', server, party, flight.stop)
    },
  }
}

/** Whether the server itself has a tool of the name that the gateway uses for connecting. */
async function isOwnTool({ deps, party, flight }: Context, { server, name }: Target): Promise<boolean> {
  const { items } = await deps.catalogue.list('tools', server, party, flight.stop)
  return items.some((tool) => tool.name === name)
}

/** The gateway's own tool: the link, or the news that none is needed. No server is asked. */
async function connect({ call, party, flight, deps, info }: Context, target: Target): Promise<Relayed> {
  const { server, decision, name } = target
  const record = (outcome: 'Passthrough' | 'Error', reasonCode?: string): void =>
    deps.recorder.response(call, {
      server,
      decision,
      toolName: name,
      outcome,
      ...(reasonCode === undefined ? {} : { reasonCode }),
      httpResponseCode: 200,
      durationMs: flight.ageMs,
    })
  try {
    await deps.upstreams.authorize(server, party, flight.stop)
  } catch (error) {
    if (!(error instanceof AuthorizationRequired)) throw error
    record('Error', 'credential.authorization_required')
    const answer = connectAnswer(call, 'tools/call', server, error.link)
    return 'result' in answer ? { result: shapeResult('tools/call', answer.result, call.era, info) } : answer
  }
  record('Passthrough')
  return { result: shapeResult('tools/call', connectedResult(server), call.era, info) }
}

export async function getPrompt(context: Context): Promise<Relayed> {
  const { server, name, decision } = admitPrompt(context, context.params.name)
  const inspect = inspector(context, decision, { phase: 'prompt', server, prompt: name })
  return relay(context, {
    server,
    decision,
    method: 'prompts/get',
    params: { ...context.params, name },
    name,
    about: { prompt: name },
    ...(inspect ? { inspect } : {}),
  })
}

/** The gateway offers completions, so a server without them has none to offer for its own. */
export async function complete(context: Context): Promise<Relayed> {
  const answer = await completionOf(context)
  if (!('error' in answer) || answer.error.code !== -32601) return answer
  const none = { completion: { values: [], total: 0, hasMore: false } }
  return { result: shapeResult('completion/complete', none, context.call.era, context.info) }
}

async function completionOf(context: Context): Promise<Relayed> {
  const { params } = context
  const ref = isObject(params.ref) ? params.ref : {}
  if (ref.type === 'ref/prompt') {
    const { server, name, decision } = admitPrompt(context, ref.name)
    const inspect = inspector(context, decision, { phase: 'completion', server, prompt: name })
    return relay(context, {
      server,
      decision,
      method: 'completion/complete',
      params: { ...params, ref: { ...ref, name } },
      about: { prompt: name },
      ...(inspect ? { inspect } : {}),
    })
  }
  if (ref.type === 'ref/resource' && typeof ref.uri === 'string') {
    return readResource(context, { method: 'completion/complete', uri: ref.uri })
  }
  throw new Fault('rpc.params', { data: { field: 'ref' } })
}
