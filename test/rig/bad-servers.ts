import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'

/** MCP servers that misbehave, each in one way. Legacy, no sessions, one tool named `work`. */
export type Vice = 'hangs' | 'garbage' | 'closes' | 'refuses' | 'rpc-error' | 'endless'

export interface BadServer {
  readonly url: string
  /** Requests that reached it, by JSON-RPC method. */
  readonly seen: string[]
  close(): Promise<void>
}

const answer = (response: ServerResponse, id: unknown, result: unknown): void => {
  response
    .writeHead(200, { 'content-type': 'application/json' })
    .end(JSON.stringify({ jsonrpc: '2.0', id, result }))
}

function misbehave(vice: Vice, id: unknown, request: IncomingMessage, response: ServerResponse): void {
  switch (vice) {
    case 'hangs':
      return
    case 'garbage':
      response.writeHead(200, { 'content-type': 'application/json' }).end('<html>it works</html>')
      return
    case 'closes':
      request.socket.destroy()
      return
    case 'refuses':
      response.writeHead(500, { 'content-type': 'text/plain' }).end('a stack trace with a secret')
      return
    case 'rpc-error': {
      const error = { code: -32602, message: 'no such record' }
      response
        .writeHead(200, { 'content-type': 'application/json' })
        .end(JSON.stringify({ jsonrpc: '2.0', id, error }))
      return
    }
    case 'endless': {
      response.writeHead(200, { 'content-type': 'application/json' })
      const chunk = Buffer.alloc(1024 * 1024, 'x')
      const more = (): void => {
        while (!response.destroyed && response.write(chunk));
      }
      response.on('drain', more)
      more()
    }
  }
}

/** Behaves until a tool is called. */
export async function startBadServer(vice: Vice): Promise<BadServer> {
  const seen: string[] = []
  const server: Server = createServer((request, response) => {
    const chunks: Buffer[] = []
    request.on('data', (chunk: Buffer) => chunks.push(chunk))
    request.on('end', () => {
      const text = Buffer.concat(chunks).toString('utf8')
      const { id, method, params } = text === '' ? { method: request.method } : JSON.parse(text)
      seen.push(method)
      const inputSchema = { type: 'object' }
      if (method === 'tools/call') return misbehave(vice, id, request, response)
      if (method === 'tools/list') return answer(response, id, { tools: [{ name: 'work', inputSchema }] })
      if (method === 'initialize') {
        const { protocolVersion } = params
        const serverInfo = { name: vice, version: '1.0.0' }
        return answer(response, id, { protocolVersion, capabilities: { tools: {} }, serverInfo })
      }
      if (id === undefined) return void response.writeHead(request.method === 'POST' ? 202 : 405).end()
      response.writeHead(400, { 'content-type': 'application/json' })
      response.end(
        JSON.stringify({ jsonrpc: '2.0', id, error: { code: -32000, message: 'Server not initialized' } }),
      )
    })
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const { port } = server.address() as { port: number }
  return {
    url: `http://127.0.0.1:${port}/mcp`,
    seen,
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve())
        server.closeAllConnections()
      }),
  }
}
