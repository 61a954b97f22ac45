import { Fault } from '../../../shared/faults.ts'
import type { ConfigOf } from '../../../shared/ipc/contract.ts'
import type { Logger } from '../../../shared/log.ts'
import type { ServerWorkload } from '../../../shared/wire/snapshot.ts'
import type { Access } from './access.ts'
import { type Catalogue, kinds, type ListKind, principalKeyOf } from './catalogue.ts'
import { connectedResult, connectTool, isConnectState } from './connect.ts'
import type { Flight } from './flight.ts'
import { fanOut, mergeListings } from './listing.ts'
import { resolveName } from './names.ts'
import { isObject } from './protocol/jsonrpc.ts'
import { legacyVersions, modernVersion, type ServerInfo, shapeResult } from './protocol/shape.ts'
import type { CoreDeps, Era, JsonObject, JsonRpcRequest, McpCall, Recorder } from './protocol/types.ts'
import { type Answer, relay, requestBase } from './relay.ts'
import { readResource } from './resources.ts'
import type { Upstreams } from './upstream/upstreams.ts'

export interface MethodContext {
  call: McpCall & { message: JsonRpcRequest }
  flight: Flight
  access: Access
  params: JsonObject
  config: ConfigOf['proxy']
  info: ServerInfo
  upstreams: Upstreams
  catalogue: Catalogue
  recorder: Recorder
  sessions: CoreDeps['sessions']
  log: Logger
  logLevelOf(call: McpCall): string | undefined
  setLogLevel(level: string): void
}

interface Method {
  /** The era that knows the method, where just one does. */
  era?: Era
  limitMs(timeouts: Readonly<Record<string, number>>): number
  /** Undefined where the method answered by itself. */
  run(context: MethodContext): Promise<Answer | undefined>
}

const named = (name: string) => (timeouts: Readonly<Record<string, number>>) => timeouts[name] ?? 30_000
const brief = () => 10_000

/** Only what is delivered: no listChanged and no subscribe, since GET is 405 and a POST stream may not be open. */
const capabilities = { tools: {}, resources: {}, prompts: {}, completions: {}, logging: {} }

export const methods: Readonly<Record<string, Method>> = {
  initialize: { era: 'legacy', limitMs: brief, run: initialize },
  'server/discover': { era: 'modern', limitMs: brief, run: discover },
  ping: { era: 'legacy', limitMs: brief, run: async () => ({ result: {} }) },
  'logging/setLevel': { era: 'legacy', limitMs: brief, run: setLevel },
  'tools/list': list('tools'),
  'prompts/list': list('prompts'),
  'resources/list': list('resources'),
  'resources/templates/list': list('resourceTemplates'),
  'tools/call': { limitMs: named('tools_call'), run: callTool },
  'prompts/get': { limitMs: named('prompts_get'), run: getPrompt },
  'resources/read': { limitMs: named('resources_read'), run: readResource },
  'completion/complete': { limitMs: named('completion'), run: complete },
}

const instructions = (servers: readonly ServerWorkload[]): string =>
  servers.length === 0
    ? 'No MCP server is assigned to you yet; ask your administrator.'
    : `This gateway gives you these MCP servers: ${servers
        .map(({ name, prefix }) => (prefix === null ? name : `${name} (names start with ${prefix}_)`))
        .join(', ')}.`

async function initialize({
  call,
  params,
  access,
  info,
  sessions,
  recorder,
}: MethodContext): Promise<undefined> {
  const startedAt = performance.now()
  recorder.request(call, { server: null, decision: null, outcome: 'Passthrough' })
  const wanted = legacyVersions.find((version) => version === params.protocolVersion)
  const protocolVersion = wanted ?? legacyVersions[0]
  const session = sessions.seal(
    call.principal,
    protocolVersion,
    isObject(params.capabilities) ? params.capabilities : {},
    isObject(params.clientInfo) ? params.clientInfo : undefined,
  )
  const result = {
    protocolVersion,
    capabilities,
    serverInfo: info,
    instructions: instructions(access.allowed),
  }
  call.reply.json(200, JSON.stringify({ jsonrpc: '2.0', id: call.message.id, result }), {
    'mcp-session-id': session.id,
  })
  recorder.response(call, {
    server: null,
    decision: null,
    outcome: 'Passthrough',
    httpResponseCode: 200,
    durationMs: performance.now() - startedAt,
  })
  return undefined
}

async function discover({ access, info }: MethodContext): Promise<Answer> {
  const result = {
    supportedVersions: [modernVersion, ...legacyVersions],
    capabilities,
    instructions: instructions(access.allowed),
    ttlMs: 60_000,
  }
  return { result: shapeResult('server/discover', result, 'modern', info) }
}

async function setLevel({
  call,
  flight,
  params,
  access,
  setLogLevel,
  upstreams,
}: MethodContext): Promise<Answer> {
  if (typeof params.level !== 'string') throw new Fault('rpc.params', { detail: 'level is missing' })
  setLogLevel(params.level)
  await Promise.all(
    access.allowed.map(async (server) => {
      const base = requestBase(call, server, flight.signal)
      try {
        const offered = await upstreams.capabilities(base)
        if (isObject(offered.logging))
          await upstreams.request({ ...base, method: 'logging/setLevel', params: { level: params.level } })
      } catch {
        // A server that is down gets no level; its logs come as it sends them.
      }
    }),
  )
  return { result: {} }
}

function list(kind: ListKind): Method {
  const { method, timeout } = kinds[kind]
  return {
    limitMs: (timeouts) => (timeouts[timeout] ?? 3_000) + (timeouts.initialize ?? 10_000) + 1_000,
    async run({ call, flight, access, params, catalogue, config, info, recorder }) {
      const startedAt = performance.now()
      recorder.request(call, { server: null, decision: null, outcome: 'Passthrough' })
      const principalKey = principalKeyOf(call)
      const known = (server: ServerWorkload): boolean =>
        catalogue.peek(kind, principalKey, server) !== undefined
      const limit = config.timeouts[timeout] ?? 3_000
      // The first listing also opens the connection, which has a time-out of its own.
      const first = access.allowed.some((server) => !known(server))
        ? (config.timeouts.initialize ?? 10_000)
        : 0
      const listings = await fanOut(
        catalogue,
        kind,
        access.allowed.map((server) => requestBase(call, server, flight.signal)),
        limit + first,
      )
      for (const { server, outcome, fetched, fault, durationMs } of listings) {
        if (!fetched) continue
        const decision = access.decisions.get(server.id) ?? null
        recorder.request(call, { server, decision, outcome: 'Modified' })
        recorder.response(call, {
          server,
          decision,
          outcome: outcome === 'ok' ? 'Passthrough' : 'Error',
          ...(outcome === 'ok'
            ? {}
            : { reason: fault?.detail ?? fault?.message ?? outcome, reasonCode: fault?.code ?? outcome }),
          httpResponseCode: 200,
          durationMs,
        })
      }
      const merged = mergeListings(kind, listings, params.cursor, principalKey)
      recorder.response(call, {
        server: null,
        decision: null,
        outcome: 'Passthrough',
        httpResponseCode: 200,
        durationMs: performance.now() - startedAt,
      })
      return { result: shapeResult(method, merged, call.era, info) }
    },
  }
}

/** The server of an exposed name, or the Fault that says why not: hidden and unknown differ in the record alone. */
function resolveAllowed(
  context: MethodContext,
  exposed: unknown,
  unknown: 'tool.unknown' | 'prompt.unknown',
) {
  if (typeof exposed !== 'string') throw new Fault('rpc.params', { detail: 'name is missing' })
  const { access, call } = context
  const found = resolveName(access.allowed, exposed)
  const decision = found && access.decisions.get(found.server.id)
  if (found && decision) return { ...found, decision }
  const denied = resolveName(call.index.snapshot.servers, exposed)
  const why = denied && access.decisions.get(denied.server.id)
  if (why)
    throw new Fault('policy.denied', { detail: `${why.reason}: ${why.explanation}`, data: { name: exposed } })
  throw new Fault(unknown, { data: { name: exposed } })
}

/** Parameters as the client sent them, without the leftovers of our own connect question. */
function withoutConnectState(params: JsonObject): JsonObject {
  if (!isConnectState(params.requestState)) return params
  const { requestState: _state, inputResponses: _responses, ...rest } = params
  return rest
}

async function callTool(context: MethodContext): Promise<Answer> {
  const { call, flight, params, catalogue } = context
  const { server, name, decision } = resolveAllowed(context, params.name, 'tool.unknown')
  if (name === connectTool && server.credential === 'required') {
    const tools = catalogue.peek('tools', principalKeyOf(call), server)
    if (!tools?.some((tool) => tool.name === connectTool)) {
      // Not a tool of the server: reaching it at all means that the account is connected.
      const probe = await relay(context, call, flight, {
        server,
        decision,
        method: 'tools/list',
        params: {},
        toolName: connectTool,
      })
      if ('error' in probe) return probe
      if (probe.result.tools === undefined) return probe
      return { result: shapeResult('tools/call', connectedResult(server), call.era, context.info) }
    }
  }
  return relay(context, call, flight, {
    server,
    decision,
    method: 'tools/call',
    params: { ...withoutConnectState(params), name },
    name,
    toolName: name,
  })
}

async function getPrompt(context: MethodContext): Promise<Answer> {
  const { server, name, decision } = resolveAllowed(context, context.params.name, 'prompt.unknown')
  const params = { ...withoutConnectState(context.params), name }
  return relay(context, context.call, context.flight, {
    server,
    decision,
    method: 'prompts/get',
    params,
    name,
  })
}

async function complete(context: MethodContext): Promise<Answer> {
  const { params } = context
  const ref = isObject(params.ref) ? params.ref : {}
  if (ref.type === 'ref/prompt') {
    const { server, name, decision } = resolveAllowed(context, ref.name, 'prompt.unknown')
    return relay(context, context.call, context.flight, {
      server,
      decision,
      method: 'completion/complete',
      params: { ...params, ref: { ...ref, name } },
    })
  }
  if (ref.type === 'ref/resource' && typeof ref.uri === 'string') {
    return readResource(context, { method: 'completion/complete', uri: ref.uri })
  }
  throw new Fault('rpc.params', { detail: 'ref is neither a prompt nor a resource' })
}
