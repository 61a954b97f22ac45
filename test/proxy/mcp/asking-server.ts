import type { ServerResponse } from 'node:http'
import type { JsonObject, JsonRpcResponse } from '../../../services/proxy/mcp/protocol/types.ts'
import { startUpstream } from './rig.ts'

/** A legacy server that asks: each tools/call and prompts/get is held by its name, and so is what the gateway answers. */
export async function startAsking(capabilities: JsonObject = { tools: {} }) {
  const calls: { id: number; progressToken: unknown; stream: ServerResponse }[] = []
  const said: (JsonRpcResponse & { method?: string; params?: JsonObject })[] = []
  const declared: JsonObject[] = []
  const waiting = new Set<() => void>()
  const listener = await startUpstream((request, text, response) => {
    const body = text ? JSON.parse(text) : {}
    const json = (result: JsonObject, headers: Record<string, string> = {}): void => {
      response
        .writeHead(200, { 'content-type': 'application/json', ...headers })
        .end(JSON.stringify({ jsonrpc: '2.0', id: body.id, result }))
    }
    if (request.method === 'DELETE') return response.writeHead(204).end()
    if (body.method === 'server/discover') return response.writeHead(400).end()
    if (body.method === 'initialize') {
      declared.push(body.params.capabilities)
      return json(
        { protocolVersion: '2025-11-25', capabilities, serverInfo: { name: 'x', version: '1' } },
        { 'mcp-session-id': `s${declared.length}` },
      )
    }
    if (body.method === 'tools/call' || body.method === 'prompts/get') {
      response.writeHead(200, { 'content-type': 'text/event-stream' }).flushHeaders()
      calls.push({ id: body.id, progressToken: body.params._meta?.progressToken, stream: response })
    } else {
      said.push(body)
      response.writeHead(202).end()
    }
    for (const wake of waiting) wake()
  })
  const until = async <T>(look: () => T | undefined): Promise<T> => {
    for (;;) {
      const found = look()
      if (found !== undefined) return found
      await new Promise<void>((resolve) => waiting.add(resolve))
    }
  }
  const write = (at: number, message: object): void => {
    calls[at]!.stream.write(`data: ${JSON.stringify({ jsonrpc: '2.0', ...message })}\n\n`)
  }
  return {
    ...listener,
    declared,
    calls,
    said,
    call: (at: number) => until(() => calls[at]),
    answerTo: (id: string) => until(() => said.find((message) => message.id === id)),
    cancelled: (id: number) =>
      until(() =>
        said.find(({ method, params }) => method === 'notifications/cancelled' && params?.requestId === id),
      ),
    ask: (at: number, id: string, method = 'elicitation/create', params: JsonObject = { message: id }) =>
      write(at, { id, method, params }),
    tell: (at: number, method: string, params: JsonObject) => write(at, { method, params }),
    finish: (at: number, said = 'done') => {
      write(at, { id: calls[at]!.id, result: { content: [{ type: 'text', text: said }] } })
      calls[at]!.stream.end()
    },
  }
}
