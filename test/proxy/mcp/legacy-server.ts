import type { IncomingMessage, ServerResponse } from 'node:http'
import type { JsonObject, JsonRpcResponse } from '../../../services/proxy/mcp/protocol/types.ts'
import { type Rig, startUpstream } from './rig.ts'

export type Handler = (
  body: { id?: number; method: string; params?: JsonObject },
  response: ServerResponse,
  request: IncomingMessage,
) => void

export interface LegacyOptions {
  session?: () => string
  port?: number
  version?: string
  capabilities?: JsonObject
  /** What `server/discover` gets; 400 unless told. */
  discover?: Handler
  /** What a GET in the session gets; 405 unless told. */
  stream?: (response: ServerResponse, request: IncomingMessage) => void
  /** What a request without the session gets; 404 unless told. */
  without?: Handler
  /** What any other method gets; `onCall` unless told. */
  methods?: Record<string, Handler>
}

/** A legacy server by hand: `onCall` decides what tools/call does, the rest is well-behaved. */
export async function startLegacy(onCall: Handler, options: LegacyOptions = {}) {
  const seen: { method: string; headers: IncomingMessage['headers']; body: JsonObject }[] = []
  const listener = await startUpstream((request, text, response) => {
    const body = text ? JSON.parse(text) : { method: request.method }
    seen.push({
      method: request.method === 'DELETE' ? 'DELETE' : body.method,
      headers: request.headers,
      body,
    })
    const json = (result: JsonObject, headers: Record<string, string> = {}): void => {
      response
        .writeHead(200, { 'content-type': 'application/json', ...headers })
        .end(JSON.stringify({ jsonrpc: '2.0', id: body.id, result }))
    }
    if (request.method === 'DELETE') return response.writeHead(204).end()
    const current = options.session?.()
    if (request.method === 'GET') {
      if (!options.stream) return response.writeHead(405).end()
      if (current && request.headers['mcp-session-id'] !== current) return response.writeHead(404).end()
      return options.stream(response, request)
    }
    if (body.method === 'server/discover') {
      if (options.discover) options.discover(body, response, request)
      else response.writeHead(400).end()
      return
    }
    if (body.method === 'initialize') {
      return json(
        {
          protocolVersion: options.version ?? '2025-06-18',
          capabilities: options.capabilities ?? { tools: {} },
          serverInfo: { name: 'x', version: '1' },
        },
        current ? { 'mcp-session-id': current } : {},
      )
    }
    if (current && request.headers['mcp-session-id'] !== current) {
      if (options.without) options.without(body, response, request)
      else response.writeHead(404).end()
      return
    }
    if (body.id === undefined || !body.method) return response.writeHead(202).end()
    const own = options.methods?.[body.method]
    if (own) return own(body, response, request)
    if (body.method === 'tools/list')
      return json({ tools: [{ name: 'go', inputSchema: { type: 'object' } }] })
    onCall(body, response, request)
  }, options.port)
  return { ...listener, seen }
}

export async function post(
  rig: Rig,
  method: string,
  params: JsonObject = {},
  headers: Record<string, string> = {},
) {
  const response = await fetch(rig.url, {
    method: 'POST',
    headers: { 'content-type': 'application/json', ...headers },
    body: JSON.stringify({ jsonrpc: '2.0', id: 1, method, params }),
  })
  const text = await response.text()
  const stream = response.headers.get('content-type')?.includes('event-stream')
  const messages = stream
    ? text.split('\n\n').flatMap((event) => (event.startsWith('data: ') ? [JSON.parse(event.slice(6))] : []))
    : [JSON.parse(text)]
  return {
    last: messages.at(-1) as JsonRpcResponse,
    messages,
    status: response.status,
    headers: response.headers,
  }
}

export const ok = (body: { id?: number }, response: ServerResponse): void => {
  response
    .writeHead(200, { 'content-type': 'application/json' })
    .end(JSON.stringify({ jsonrpc: '2.0', id: body.id, result: { content: [{ type: 'text', text: 'ok' }] } }))
}

/** Initializes a session. */
export const open = async (rig: Rig, capabilities: JsonObject, protocolVersion = '2025-11-25') => {
  const params = { protocolVersion, capabilities, clientInfo: { name: 'c', version: '1' } }
  const { headers, last } = await post(rig, 'initialize', params)
  return { session: { 'mcp-session-id': headers.get('mcp-session-id')! }, result: last.result! }
}

/**
 * Calls in a session and answers each question of the server by `reply`, which takes its time for each by itself; gives
 * every message of the stream.
 */
export async function converse(
  rig: Rig,
  session: Record<string, string>,
  params: JsonObject,
  reply: (question: JsonObject) => JsonObject | Promise<JsonObject>,
) {
  const body = JSON.stringify({ jsonrpc: '2.0', id: 'call', method: 'tools/call', params })
  const response = await fetch(rig.url, { method: 'POST', headers: session, body })
  const messages: JsonObject[] = []
  const answer = async (question: JsonObject): Promise<void> => {
    const body = JSON.stringify({ jsonrpc: '2.0', id: question.id, ...(await reply(question)) })
    await fetch(rig.url, { method: 'POST', headers: session, body })
  }
  const answering: Promise<void>[] = []
  let rest = ''
  for await (const chunk of response.body!.pipeThrough(new TextDecoderStream())) {
    rest += chunk
    const events = rest.split('\n\n')
    rest = events.pop()!
    for (const event of events) {
      const message = JSON.parse(event.slice(6))
      messages.push(message)
      if (message.method !== undefined && message.id !== undefined) answering.push(answer(message))
    }
  }
  await Promise.all(answering)
  return messages
}
