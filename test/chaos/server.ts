import { randomUUID } from 'node:crypto'
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import type { AddressInfo, Socket } from 'node:net'
import { type Asked, vices } from './vices.ts'

type Json = Record<string, unknown>
type Message = { id?: unknown; method: string; params?: Json & { _meta?: Json } }

/** An MCP server that does to each call what its arguments ask for, until it is told to behave. */
export interface ChaosServer {
  readonly url: string
  /** Calls of `hold` that wait for `release`. */
  readonly held: number
  /** Sessions that were opened and not ended. */
  readonly sessions: number
  /** Rises when a restart begins and when it ends: odd while one runs. */
  readonly restarts: number
  release(): void
  /** Resets every connection, forgets every session, and listens again at the same port. */
  restart(): Promise<void>
  /** Resets every connection. */
  drop(): void
  close(): Promise<void>
}

const tool = {
  name: 'do',
  description: 'Does what it is told to.',
  inputSchema: { type: 'object', properties: { vice: { type: 'string' }, nonce: { type: 'string' } } },
}
const keepsAliveMs = 500

export async function startChaosServer(era: 'legacy' | 'modern'): Promise<ChaosServer> {
  const modern = era === 'modern'
  const sessions = new Set<string>()
  const held = new Map<ServerResponse, () => void>()

  const json = (response: ServerResponse, status: number, body: Json, headers = {}): void => {
    response.writeHead(status, { 'content-type': 'application/json', ...headers })
    response.end(JSON.stringify({ jsonrpc: '2.0', ...body }))
  }
  const complete = (result: Json): Json => ({ ...(modern ? { resultType: 'complete' } : {}), ...result })

  const call = ({ id, params = {} }: Message, response: ServerResponse) => {
    const { vice = 'none', nonce = '' } = params.arguments as { vice?: string; nonce?: string }
    const asked: Asked = {
      id,
      nonce,
      progressToken: params._meta?.progressToken,
      answer: (bytes = 0) =>
        JSON.stringify({
          jsonrpc: '2.0',
          id,
          result: complete({ content: [{ type: 'text', text: `${nonce}${'x'.repeat(bytes)}` }] }),
        }),
    }
    if (vice !== 'hold') return vices[vice]!.do(asked, response)
    let step = 0
    const alive = (): void => {
      const notice = { progressToken: asked.progressToken, progress: ++step }
      const message = { jsonrpc: '2.0', method: 'notifications/progress', params: notice }
      response.write(`data: ${JSON.stringify(message)}\n\n`)
    }
    response.writeHead(200, { 'content-type': 'text/event-stream' })
    alive()
    const timer = setInterval(alive, keepsAliveMs)
    held.set(response, () => response.end(`data: ${asked.answer()}\n\n`))
    response.on('close', () => {
      clearInterval(timer)
      held.delete(response)
    })
  }

  const handle = (message: Message, request: IncomingMessage, response: ServerResponse) => {
    const { id, method } = message
    if (method === 'tools/call' && (modern || sessions.has(String(request.headers['mcp-session-id'])))) {
      return call(message, response)
    }
    if (modern) {
      const hints = { ttlMs: 60_000, cacheScope: 'public' }
      if (method === 'server/discover') {
        const result = { supportedVersions: ['2026-07-28'], capabilities: { tools: {} }, ...hints }
        return json(response, 200, { id, result: complete(result) })
      }
      if (method === 'tools/list')
        return json(response, 200, { id, result: complete({ tools: [tool], ...hints }) })
      return json(response, 404, { id, error: { code: -32601, message: 'Method not found' } })
    }
    if (method === 'initialize') {
      const session = randomUUID()
      sessions.add(session)
      const serverInfo = { name: 'chaos', version: '1.0.0' }
      const result = { protocolVersion: '2025-11-25', capabilities: { tools: {} }, serverInfo }
      return json(response, 200, { id, result }, { 'mcp-session-id': session })
    }
    if (!sessions.has(String(request.headers['mcp-session-id']))) {
      const known = request.headers['mcp-session-id'] === undefined
      const error = { code: -32000, message: 'Server not initialized' }
      return json(response, known ? 400 : 404, { id: null, error })
    }
    if (id === undefined) return void response.writeHead(202).end()
    if (method === 'tools/list') return json(response, 200, { id, result: { tools: [tool] } })
    json(response, 200, { id, error: { code: -32601, message: 'Method not found' } })
  }

  const sockets = new Set<Socket>()
  let port = 0
  const listen = async (): Promise<Server> => {
    const server = createServer((request, response) => {
      response.on('error', () => {})
      if (request.method === 'DELETE') {
        sessions.delete(String(request.headers['mcp-session-id']))
        return void response.writeHead(204).end()
      }
      if (request.method !== 'POST') return void response.writeHead(405).end()
      const chunks: Buffer[] = []
      request.on('data', (chunk: Buffer) => chunks.push(chunk))
      request.on('end', () => handle(JSON.parse(Buffer.concat(chunks).toString('utf8')), request, response))
    })
    server.on('connection', (socket) => {
      sockets.add(socket)
      socket.on('error', () => {})
      socket.on('close', () => sockets.delete(socket))
    })
    await new Promise<void>((resolve, reject) => {
      server.once('error', reject)
      server.listen(port, '127.0.0.1', 4096, resolve)
    })
    port = (server.address() as AddressInfo).port
    return server
  }
  let server = await listen()
  let restarts = 0
  let restarting: Promise<void> = Promise.resolve()
  /** Of the sockets themselves: HTTP does not know those any more that a vice has written to by hand. */
  const drop = (): void => {
    for (const socket of sockets) socket.resetAndDestroy()
  }
  const stop = (): Promise<void> =>
    new Promise((resolve) => {
      server.close(() => resolve())
      drop()
    })

  return {
    url: `http://127.0.0.1:${port}/mcp`,
    get held() {
      return held.size
    },
    get sessions() {
      return sessions.size
    },
    get restarts() {
      return restarts
    },
    release: () => {
      for (const answer of held.values()) answer()
    },
    restart: () => {
      // One at a time: two that overlap would want the same port.
      restarting = restarting.then(async () => {
        restarts++
        sessions.clear()
        await stop()
        server = await listen()
        restarts++
      })
      return restarting
    },
    drop,
    close: stop,
  }
}
