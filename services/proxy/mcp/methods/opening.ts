import { Fault } from '../../../../shared/faults.ts'
import type { ServerWorkload } from '../../../../shared/wire/snapshot.ts'
import type { Context } from '../context.ts'
import { isObject } from '../protocol/jsonrpc.ts'
import { legacyVersions, logLevels, metaKeys, modernVersion, shapeResult } from '../protocol/shape.ts'
import type { Relayed } from '../relay.ts'

/** Changes come on `subscriptions/listen`, and to legacy clients on the streams of their calls. */
const capabilities = {
  tools: { listChanged: true },
  resources: { listChanged: true, subscribe: true },
  prompts: { listChanged: true },
  completions: {},
  logging: {},
}
/** Names in the instructions; a person with more servers finds them by listing. */
const namedServers = 50
const discoverTtlMs = 60_000

function instructions(servers: readonly ServerWorkload[]): string {
  if (servers.length === 0) return 'No MCP server is assigned to you yet; ask your administrator.'
  const named = servers
    .slice(0, namedServers)
    .map(({ name, prefix }) => (prefix === null ? name : `${name} (tools and prompts start with ${prefix}_)`))
  const more = servers.length > namedServers ? ` and ${servers.length - namedServers} more` : ''
  return `This gateway gives you these MCP servers: ${named.join(', ')}${more}.`
}

/** Answered by the gateway at once: no server is waited for before a client asks for something of one. */
export async function initialize({ call, params, access, info, deps }: Context): Promise<undefined> {
  const startedAt = performance.now()
  const wanted = legacyVersions.find((version) => version === params.protocolVersion)
  const protocolVersion = wanted ?? legacyVersions[0]
  const session = deps.sessions.seal(
    call.principal,
    protocolVersion,
    isObject(params.capabilities) ? params.capabilities : {},
    isObject(params.clientInfo) ? params.clientInfo : undefined,
  )
  deps.recorder.request(call, { server: null, decision: null, outcome: 'Passthrough' })
  const result = {
    protocolVersion,
    capabilities,
    serverInfo: info,
    instructions: instructions(access.allowed),
  }
  call.reply.json(200, JSON.stringify({ jsonrpc: '2.0', id: call.message.id, result }), {
    'mcp-session-id': session.id,
  })
  recordDone(call, deps, startedAt)
  return undefined
}

export async function discover({ call, access, info, deps }: Context): Promise<Relayed> {
  const startedAt = performance.now()
  deps.recorder.request(call, { server: null, decision: null, outcome: 'Passthrough' })
  const result = {
    supportedVersions: [modernVersion, ...legacyVersions],
    // Whether a server behind us answers by tasks is its own affair, call by call.
    capabilities: { ...capabilities, extensions: { [metaKeys.tasks]: {} } },
    instructions: instructions(access.allowed),
    ttlMs: discoverTtlMs,
  }
  recordDone(call, deps, startedAt)
  return { result: shapeResult('server/discover', result, 'modern', info) }
}

/** Kept for the session; each server is told with the next call that goes to it. */
export async function setLevel({ params, setLogLevel }: Context): Promise<Relayed> {
  const { level } = params
  if (typeof level !== 'string' || !logLevels.includes(level))
    throw new Fault('rpc.params', { data: { field: 'level' } })
  setLogLevel(level)
  return { result: {} }
}

function recordDone(call: Context['call'], deps: Context['deps'], startedAt: number): void {
  deps.recorder.response(call, {
    server: null,
    decision: null,
    outcome: 'Passthrough',
    httpResponseCode: 200,
    durationMs: performance.now() - startedAt,
  })
}
