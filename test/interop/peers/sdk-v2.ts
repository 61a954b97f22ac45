import { toNodeHandler } from '@modelcontextprotocol/node'
import { acceptedContent, createMcpHandler, inputRequired, McpServer } from '@modelcontextprotocol/server'
import { SSEServerTransport } from '@modelcontextprotocol/server-legacy/sse'
import { z } from 'zod'
import { listen, loopback } from './listen.ts'
import { ownDialect, type Peer, waitsForMs } from './peer.ts'

const text = (value: string) => ({ content: [{ type: 'text' as const, text: value }] })

function createServer(id: string, onCancel: () => void): McpServer {
  const server = new McpServer({ name: id, version: '1.0.0' })
  const { resource } = ownDialect(id)
  server.registerTool(
    'echo',
    { description: 'Repeats.', inputSchema: z.object({ message: z.string() }) },
    async ({ message }) => text(message),
  )
  server.registerTool('steps', { description: 'Three steps.' }, async ({ mcpReq }) => {
    const progressToken = mcpReq._meta?.progressToken
    for (const progress of [1, 2, 3]) {
      if (progressToken === undefined) continue
      await mcpReq.notify({ method: 'notifications/progress', params: { progressToken, progress, total: 3 } })
    }
    return text('three steps')
  })
  server.registerTool('wait', { description: 'Until it is cancelled.' }, async ({ mcpReq }) => {
    await new Promise<void>((resolve) => {
      const timer = setTimeout(resolve, waitsForMs)
      mcpReq.signal.addEventListener('abort', () => {
        onCancel()
        clearTimeout(timer)
        resolve()
      })
    })
    return text('waited')
  })
  server.registerTool('ask', { description: 'Asks for a name.' }, async ({ mcpReq }) => {
    const given = acceptedContent<{ name: string }>(mcpReq.inputResponses, 'who')
    if (given) return text(`Hello ${given.name}`)
    const requestedSchema = {
      type: 'object' as const,
      properties: { name: { type: 'string' as const } },
      required: ['name'],
    }
    return inputRequired({
      inputRequests: { who: inputRequired.elicit({ message: 'Who?', requestedSchema }) },
    })
  })
  server.registerResource('motto', resource.uri, { mimeType: 'text/plain' }, async ({ href }) => ({
    contents: [{ uri: href, mimeType: 'text/plain', text: resource.text }],
  }))
  server.registerPrompt('greet', { argsSchema: z.object({ name: z.string() }) }, ({ name }) => ({
    messages: [{ role: 'user', content: { type: 'text', text: `Please greet ${name}` } }],
  }))
  return server
}

/** A server on the second SDK: both eras, so the gateway speaks MCP 2026-07-28 to it. */
export async function startSdkV2(): Promise<Peer> {
  const id = 'sdkv2'
  let cancelled = 0
  const listening = await listen(toNodeHandler(createMcpHandler(() => createServer(id, () => cancelled++))))
  return {
    id,
    label: 'SDK v2 server',
    workload: { url: `http://127.0.0.1:${listening.port}/mcp`, ...loopback },
    dialect: ownDialect(id),
    cancellations: () => cancelled,
    close: listening.close,
  }
}

/** The transport of MCP 2024-11-05: a stream by GET, messages by POST to the address that the stream names. */
export async function startHttpSse(): Promise<Peer> {
  const id = 'httpsse'
  let cancelled = 0
  const sessions = new Map<string, SSEServerTransport>()
  const listening = await listen(async (request, response) => {
    const url = new URL(request.url ?? '/', 'http://127.0.0.1')
    if (request.method === 'GET' && url.pathname === '/sse') {
      const transport = new SSEServerTransport('/messages', response)
      sessions.set(transport.sessionId, transport)
      response.on('close', () => sessions.delete(transport.sessionId))
      return createServer(id, () => cancelled++).connect(transport)
    }
    const session = sessions.get(url.searchParams.get('sessionId') ?? '')
    if (request.method !== 'POST' || url.pathname !== '/messages' || !session) {
      return void response.writeHead(url.pathname === '/sse' ? 405 : 404).end()
    }
    await session.handlePostMessage(request, response)
  })
  return {
    id,
    label: 'HTTP+SSE server',
    workload: { url: `http://127.0.0.1:${listening.port}/sse`, ...loopback },
    dialect: ownDialect(id),
    cancellations: () => cancelled,
    close: listening.close,
  }
}
