import { createServer, type ServerResponse } from 'node:http'

/**
 * An MCP server for the load: `lookup` answers at once, `watch` streams progress ten times a second for as long as it
 * is asked to, then its result. Arguments: port, API key.
 */
const [port = '0', key] = process.argv.slice(2)
const schema = { type: 'object', properties: { id: { type: 'string' }, ticks: { type: 'number' } } }
const tools = ['lookup', 'watch'].map((name) => ({ name, description: name, inputSchema: schema }))
const tickMs = 100

const message = (body: object): string => JSON.stringify({ jsonrpc: '2.0', ...body })
const content = [{ type: 'text', text: 'x'.repeat(600) }]

function watch(response: ServerResponse, id: unknown, ticks: number, progressToken: unknown): void {
  response.writeHead(200, { 'content-type': 'text/event-stream' })
  let progress = 0
  const timer = setInterval(() => {
    progress++
    const params = { progressToken, progress, total: ticks }
    if (progressToken !== undefined)
      response.write(`event: message\ndata: ${message({ method: 'notifications/progress', params })}\n\n`)
    if (progress < ticks) return
    clearInterval(timer)
    response.end(`event: message\ndata: ${message({ id, result: { content } })}\n\n`)
  }, tickMs)
  response.once('close', () => clearInterval(timer))
}

createServer((request, response) => {
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
    if (id === undefined) return void response.writeHead(202).end()
    const result = (value: unknown): void => json(200, message({ id, result: value }))
    if (method === 'tools/call') {
      if (params.name === 'lookup') return result({ content })
      return watch(response, id, params.arguments.ticks, params._meta?.progressToken)
    }
    if (method === 'tools/list') return result({ tools })
    if (method === 'ping') return result({})
    if (method === 'initialize') {
      const serverInfo = { name: 'load', version: '1.0.0' }
      return result({ protocolVersion: params.protocolVersion, capabilities: { tools: {} }, serverInfo })
    }
    json(400, message({ id, error: { code: -32000, message: 'Server not initialized' } }))
  })
})
  .listen(Number(port), '127.0.0.1', () => console.log('listens'))
  .on('connection', (socket) => socket.setNoDelay(true)).keepAliveTimeout = 600_000
