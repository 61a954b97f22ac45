import { randomUUID } from 'node:crypto'
import { McpServer } from '@modelcontextprotocol/sdk/server/mcp.js'
import { StreamableHTTPServerTransport } from '@modelcontextprotocol/sdk/server/streamableHttp.js'
import { z } from 'zod'
import { listen, loopback, readBody } from './listen.ts'
import { ownDialect, type Peer, waitsForMs } from './peer.ts'

const text = (value: string) => ({ content: [{ type: 'text' as const, text: value }] })

function createServer(id: string, onCancel: () => void): McpServer {
  const server = new McpServer({ name: id, version: '1.0.0' })
  const { resource } = ownDialect(id)
  server.registerTool(
    'echo',
    { description: 'Repeats.', inputSchema: { message: z.string() } },
    async ({ message }) => text(message),
  )
  server.registerTool('steps', { description: 'Three steps.' }, async ({ _meta, sendNotification }) => {
    const progressToken = _meta?.progressToken
    for (const progress of [1, 2, 3]) {
      if (progressToken === undefined) continue
      await sendNotification({
        method: 'notifications/progress',
        params: { progressToken, progress, total: 3 },
      })
    }
    return text('three steps')
  })
  server.registerTool('wait', { description: 'Until it is cancelled.' }, async ({ signal }) => {
    await new Promise<void>((resolve) => {
      const timer = setTimeout(resolve, waitsForMs)
      signal.addEventListener('abort', () => {
        onCancel()
        clearTimeout(timer)
        resolve()
      })
    })
    return text('waited')
  })
  server.registerTool('ask', { description: 'Asks for a name.' }, async ({ sendRequest }) => {
    const params = {
      message: 'Who?',
      requestedSchema: {
        type: 'object' as const,
        properties: { name: { type: 'string' as const } },
        required: ['name'],
      },
    }
    const answer = await sendRequest(
      { method: 'elicitation/create', params },
      z.looseObject({ content: z.looseObject({ name: z.string() }) }),
    )
    return text(`Hello ${answer.content.name}`)
  })
  server.registerResource('motto', resource.uri, { mimeType: 'text/plain' }, async ({ href }) => ({
    contents: [{ uri: href, mimeType: 'text/plain', text: resource.text }],
  }))
  server.registerPrompt('greet', { argsSchema: { name: z.string() } }, ({ name }) => ({
    messages: [{ role: 'user', content: { type: 'text', text: `Please greet ${name}` } }],
  }))
  return server
}

/** A server on the first SDK: legacy, a session per client, streamable HTTP. */
export async function startSdkV1(): Promise<Peer> {
  const id = 'sdkv1'
  let cancelled = 0
  const sessions = new Map<string, StreamableHTTPServerTransport>()
  const open = async (): Promise<StreamableHTTPServerTransport> => {
    const transport: StreamableHTTPServerTransport = new StreamableHTTPServerTransport({
      sessionIdGenerator: randomUUID,
      onsessioninitialized: (session) => void sessions.set(session, transport),
      onsessionclosed: (session) => void sessions.delete(session),
    })
    await createServer(id, () => cancelled++).connect(transport)
    return transport
  }
  const listening = await listen(async (request, response) => {
    const session = request.headers['mcp-session-id']
    const known = sessions.get(String(session))
    if (session !== undefined && !known) return void response.writeHead(404).end()
    const body = request.method === 'POST' ? JSON.parse(await readBody(request)) : undefined
    await (known ?? (await open())).handleRequest(request, response, body)
  })
  return {
    id,
    label: 'SDK v1 server',
    workload: { url: `http://127.0.0.1:${listening.port}/mcp`, ...loopback },
    dialect: ownDialect(id),
    cancellations: () => cancelled,
    close: listening.close,
  }
}
