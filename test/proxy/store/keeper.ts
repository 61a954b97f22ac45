import type { ServerResponse } from 'node:http'
import { startUpstream } from '../mcp/rig.ts'

/** A legacy server that keeps something in each session: a count of calls, subscriptions, one GET stream. */
export async function startKeeper(port?: number) {
  interface Kept {
    count: number
    stream?: ServerResponse
    readonly watched: string[]
  }
  const sessions = new Map<string, Kept>()
  const seen: { method: string; session: string | undefined; id: unknown }[] = []
  const waiting = new Set<() => void>()
  let opened = 0
  const listener = await startUpstream((request, text, response) => {
    const body = text ? JSON.parse(text) : {}
    const id = request.headers['mcp-session-id'] as string | undefined
    seen.push({ method: body.method ?? request.method, session: id, id: body.id })
    for (const wake of waiting) wake()
    const json = (result: object, headers: Record<string, string> = {}): void => {
      response
        .writeHead(200, { 'content-type': 'application/json', ...headers })
        .end(JSON.stringify({ jsonrpc: '2.0', id: body.id, result }))
    }
    if (body.method === 'server/discover') return response.writeHead(400).end()
    if (body.method === 'initialize') {
      const opening = `upstream-session-${++opened}`
      sessions.set(opening, { count: 0, watched: [] })
      const capabilities = { tools: {}, resources: { subscribe: true } }
      const serverInfo = { name: 'keeper', version: '1' }
      return json({ protocolVersion: '2025-06-18', capabilities, serverInfo }, { 'mcp-session-id': opening })
    }
    const kept = sessions.get(id ?? '')
    if (!kept) return response.writeHead(404).end()
    if (request.method === 'DELETE') {
      sessions.delete(id!)
      kept.stream?.end()
      return response.writeHead(204).end()
    }
    if (request.method === 'GET') {
      if (kept.stream) return response.writeHead(409).end()
      kept.stream = response
      response.on('close', () => {
        delete kept.stream
        for (const wake of waiting) wake()
      })
      return response.writeHead(200, { 'content-type': 'text/event-stream' }).flushHeaders()
    }
    if (body.id === undefined) return response.writeHead(202).end()
    switch (body.method) {
      case 'tools/list':
        return json({ tools: [{ name: 'count', inputSchema: { type: 'object' } }] })
      case 'tools/call':
        return json({ content: [{ type: 'text', text: String(++kept.count) }] })
      case 'resources/list':
        return json({ resources: [{ uri: 'note://a', name: 'a' }] })
      case 'resources/subscribe':
        kept.watched.push(body.params.uri)
        return json({})
      case 'resources/unsubscribe':
        kept.watched.splice(0, kept.watched.length, ...kept.watched.filter((uri) => uri !== body.params.uri))
        return json({})
      default:
        return json({})
    }
  }, port)
  return {
    ...listener,
    sessions,
    seen,
    get opened() {
      return opened
    },
    /** As a restart does. */
    forget: () => sessions.clear(),
    /** Gives how many streams it went out on. */
    update: (uri: string): number => {
      const message = { jsonrpc: '2.0', method: 'notifications/resources/updated', params: { uri } }
      const streams = [...sessions.values()].flatMap(({ stream, watched }) =>
        stream && watched.includes(uri) ? [stream] : [],
      )
      for (const stream of streams) stream.write(`data: ${JSON.stringify(message)}\n\n`)
      return streams.length
    },
    /** Resolves once `fits` holds, looked at with each request and each stream that closes. */
    until: async (fits: () => boolean): Promise<void> => {
      while (!fits()) {
        await new Promise<void>((resolve) => {
          waiting.add(resolve)
        })
      }
    },
  }
}
