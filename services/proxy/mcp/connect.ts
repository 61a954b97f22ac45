import type { ServerWorkload } from '../../../shared/wire/snapshot.ts'
import { isObject } from './protocol/jsonrpc.ts'
import { metaKeys, modernVersion } from './protocol/shape.ts'
import type { JsonObject, JsonRpcError, McpCall } from './protocol/types.ts'
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

/** What the client declared it can show, in this request or at initialize. */
export function clientCapabilities(call: McpCall): JsonObject {
  if (call.session) return call.session.clientCapabilities
  const params = 'params' in call.message ? call.message.params : undefined
  const meta = isObject(params?._meta) ? params._meta : {}
  const declared = meta[metaKeys.capabilities]
  return isObject(declared) ? declared : {}
}

/** Whether a link can be put before the person by URL elicitation. */
export function canElicitUrl(call: McpCall): boolean {
  const { elicitation } = clientCapabilities(call)
  if (!isObject(elicitation) || !isObject(elicitation.url)) return false
  return call.protocolVersion === '2025-11-25' || call.protocolVersion === modernVersion
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
): { result: JsonObject } | { error: JsonRpcError } {
  const elicitation = { mode: 'url', elicitationId: link.elicitationId, url: link.url, message: link.message }
  if (canElicitUrl(call)) {
    if (call.era === 'modern') {
      const inputRequests = { [link.elicitationId]: { method: 'elicitation/create', params: elicitation } }
      return {
        result: {
          resultType: 'input_required',
          inputRequests,
          requestState: statePrefix + link.elicitationId,
        },
      }
    }
    return { error: { code: -32042, message: link.message, data: { elicitations: [elicitation] } } }
  }
  if (method === 'tools/call') {
    const text = `${link.message}\n\nOpen this link in a browser, then try again:\n${link.url}`
    return { result: { content: [{ type: 'text', text }], isError: true } }
  }
  return {
    error: {
      code: 4031,
      message: `${link.message} Open ${link.url} in a browser, then try again.`,
      data: { reason: 'credential.authorization_required', retry: true, server: server.id, url: link.url },
    },
  }
}
