import { faults } from '../../../shared/faults.ts'
import type { ServerWorkload } from '../../../shared/wire/snapshot.ts'
import type { Answered } from './flight.ts'
import { clientCapabilities } from './party.ts'
import { isObject } from './protocol/jsonrpc.ts'
import { modernVersion } from './protocol/shape.ts'
import type { JsonObject, McpCall } from './protocol/types.ts'
import type { AuthorizationLink } from './upstream/authorization.ts'

/** Marks a requestState as ours: it is dropped on the retry, where a server's own goes back to the server. */
const statePrefix = 'gateway-connect.'
export const isConnectState = (state: unknown): boolean =>
  typeof state === 'string' && state.startsWith(statePrefix)

/** The tool that stands for a server whose own tools can not be listed before the person connected an account. */
export const connectTool = 'connect'

export function connectToolDefinition(server: ServerWorkload): JsonObject {
  return {
    name: connectTool,
    title: `Connect ${server.name}`,
    description:
      `Your account at ${server.name} is not connected yet, so its tools are not listed. Call this tool to get the ` +
      'link that connects it; afterwards list the tools again.',
    inputSchema: { type: 'object', properties: {}, additionalProperties: false },
    annotations: { readOnlyHint: true, openWorldHint: false },
  }
}

export const connectedResult = (server: ServerWorkload): JsonObject => ({
  content: [
    { type: 'text', text: `Your account at ${server.name} is connected. List the tools again to see them.` },
  ],
})

/** Whether a link can be put before the person by URL elicitation. */
export function canElicitUrl(call: McpCall): boolean {
  const { elicitation } = clientCapabilities(call)
  if (!isObject(elicitation) || !isObject(elicitation.url)) return false
  return call.protocolVersion === '2025-11-25' || call.protocolVersion === modernVersion
}

/** URL elicitations as a modern client wants them: answered by sending the call again. */
export function elicitUrls(elicitations: readonly JsonObject[]): JsonObject {
  const id = (elicitation: JsonObject, at: number): string => String(elicitation.elicitationId ?? at)
  return {
    resultType: 'input_required',
    inputRequests: Object.fromEntries(
      elicitations.map((params, at) => [id(params, at), { method: 'elicitation/create', params }]),
    ),
    requestState: statePrefix + elicitations.map(id).join('.'),
  }
}

/**
 * The answer of a call that needs the person's account connected first: URL elicitation where the client can
 * (2025-11-25: error -32042; 2026-07-28: input_required), else a tool result that a model can read to the person.
 */
export function connectAnswer(
  call: McpCall,
  method: string,
  server: ServerWorkload,
  link: AuthorizationLink,
): Answered {
  const elicitation = { mode: 'url', elicitationId: link.elicitationId, url: link.url, message: link.message }
  // The modern wire knows the question only in answers of these methods (MCP 2026-07-28, multi round-trip requests).
  const asks = method === 'tools/call' || method === 'prompts/get' || method === 'resources/read'
  if (canElicitUrl(call)) {
    if (call.era === 'legacy') {
      return { error: { code: -32042, message: link.message, data: { elicitations: [elicitation] } } }
    }
    if (asks) return { result: elicitUrls([elicitation]) }
  }
  if (method === 'tools/call') {
    const text = `${link.message}\n\nOpen this link in a browser, then try again:\n${link.url}`
    return { result: { content: [{ type: 'text', text }], isError: true } }
  }
  const reason = 'credential.authorization_required'
  return {
    error: {
      code: faults[reason].rpc ?? -32603,
      message: `${link.message} Open ${link.url} in a browser, then try again.`,
      data: { reason, retry: true, server: server.id, url: link.url },
    },
  }
}
