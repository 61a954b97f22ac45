import { createServer } from 'node:http'

/**
 * The fastest MCP server that is still one: legacy, no sessions, JSON answers, one tool, an API key. Prints its
 * port. What it costs is the same for each way that is measured.
 */
const key = process.argv[2]
const result = (id: unknown, value: unknown): string => JSON.stringify({ jsonrpc: '2.0', id, result: value })
const tool = {
  name: 'lookup',
  description: 'Looks a record up.',
  inputSchema: { type: 'object', properties: { id: { type: 'string' } }, required: ['id'] },
}
const content = [{ type: 'text', text: 'x'.repeat(600) }]

const server = createServer((request, response) => {
  const chunks: Buffer[] = []
  request.on('data', (chunk: Buffer) => chunks.push(chunk))
  request.on('end', () => {
    const json = (status: number, body: string): void => {
      response.writeHead(status, {
        'content-type': 'application/json',
        'content-length': Buffer.byteLength(body),
      })
      response.end(body)
    }
    if (request.headers['x-api-key'] !== key) return json(401, '{}')
    if (request.method !== 'POST') return json(405, '{}')
    const { id, method, params } = JSON.parse(Buffer.concat(chunks).toString('utf8'))
    if (method === 'tools/call') return json(200, result(id, { content }))
    if (method === 'tools/list') return json(200, result(id, { tools: [tool] }))
    if (method === 'ping') return json(200, result(id, {}))
    if (method === 'initialize') {
      const serverInfo = { name: 'bench', version: '1.0.0' }
      const { protocolVersion } = params
      return json(200, result(id, { protocolVersion, capabilities: { tools: {} }, serverInfo }))
    }
    if (id === undefined) return void response.writeHead(202).end()
    json(
      400,
      JSON.stringify({ jsonrpc: '2.0', id, error: { code: -32000, message: 'Server not initialized' } }),
    )
  })
})
server.keepAliveTimeout = 60_000
server.listen(0, '127.0.0.1', () => console.log(`port ${(server.address() as { port: number }).port}`))
process.on('SIGTERM', () => process.exit(0))
// Ends with the run, however that ends.
process.stdin.resume().on('end', () => process.exit(0))
