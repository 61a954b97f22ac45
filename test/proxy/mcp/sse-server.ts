import http from 'node:http'
import type { AddressInfo } from 'node:net'
import { McpServer } from '@modelcontextprotocol/server'
import { SSEServerTransport } from '@modelcontextprotocol/server-legacy/sse'
import { z } from 'zod'

/** A server of MCP 2024-11-05 on the official transport: GET /sse, POST /messages. */
export async function startSse(port = 0) {
  const transports = new Map<string, SSEServerTransport>()
  const seen: { method: string; url: string; headers: http.IncomingHttpHeaders }[] = []

  const mcp = (): McpServer => {
    const server = new McpServer({ name: 'sse', version: '1' }, { capabilities: { logging: {} } })
    server.registerTool('echo', { inputSchema: z.object({ text: z.string() }) }, async ({ text }) => ({
      content: [{ type: 'text', text }],
    }))
    server.registerTool('ask', { inputSchema: z.object({}) }, async (_input, context) => {
      const answer = await context.mcpReq.elicitInput({
        message: 'Sure?',
        requestedSchema: { type: 'object', properties: { yes: { type: 'boolean' } } },
      })
      return { content: [{ type: 'text', text: JSON.stringify(answer) }] }
    })
    server.registerTool('count', { inputSchema: z.object({}) }, async (_input, context) => {
      const progressToken = context.mcpReq._meta?.progressToken
      for (const progress of [1, 2, 3]) {
        if (progressToken !== undefined) {
          await context.mcpReq.notify({
            method: 'notifications/progress',
            params: { progressToken, progress, total: 3 },
          })
        }
      }
      return { content: [{ type: 'text', text: 'counted' }] }
    })
    server.registerTool('hang', { inputSchema: z.object({}) }, async (_input, context) => {
      hanging.count++
      const { promise, resolve } = Promise.withResolvers<void>()
      context.mcpReq.signal.addEventListener('abort', () => {
        hanging.cancelled++
        resolve()
      })
      await promise
      return { content: [] }
    })
    return server
  }
  const hanging = { count: 0, cancelled: 0 }

  const server = http.createServer(async (request, response) => {
    const url = new URL(request.url ?? '/', 'http://localhost')
    seen.push({ method: request.method ?? '', url: request.url ?? '', headers: request.headers })
    if (request.method === 'GET' && url.pathname === '/sse') {
      const transport = new SSEServerTransport('/messages', response)
      transports.set(transport.sessionId, transport)
      response.on('close', () => transports.delete(transport.sessionId))
      await mcp().connect(transport)
      return
    }
    const transport = transports.get(url.searchParams.get('sessionId') ?? '')
    if (request.method === 'POST' && url.pathname === '/messages' && transport) {
      await transport.handlePostMessage(request, response)
      return
    }
    response.writeHead(404).end('not here')
  })
  await new Promise<void>((resolve) => server.listen(port, '127.0.0.1', resolve))
  const bound = (server.address() as AddressInfo).port
  return {
    url: `http://127.0.0.1:${bound}/sse`,
    port: bound,
    seen,
    hanging,
    streams: () => transports.size,
    /** Ends every event stream, as a restart or a load balancer does. */
    cut: () => {
      for (const transport of transports.values()) void transport.close()
    },
    close: async () => {
      server.closeAllConnections()
      await new Promise((resolve) => server.close(resolve))
    },
  }
}
