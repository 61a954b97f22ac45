import type { ServerResponse } from 'node:http'
import type { JsonObject } from '../../../services/proxy/mcp/protocol/types.ts'
import { type Handler, ok, post, startLegacy } from './legacy-server.ts'
import type { Rig } from './rig.ts'

/** A legacy server with a GET stream for each session, on which the test says what it likes. */
export async function startTeller({
  onCall = ok,
  ...options
}: {
  port?: number
  session?: () => string
  onCall?: Handler
} = {}) {
  const streams = new Set<ServerResponse>()
  const server = await startLegacy(onCall, {
    session: () => 'one',
    ...options,
    capabilities: {
      tools: { listChanged: true },
      resources: { subscribe: true, listChanged: true },
      logging: {},
    },
    stream: (response) => {
      response.writeHead(200, { 'content-type': 'text/event-stream' }).flushHeaders()
      streams.add(response)
      response.on('close', () => streams.delete(response))
    },
    methods: {
      'resources/list': (body, response) =>
        response.writeHead(200, { 'content-type': 'application/json' }).end(
          JSON.stringify({
            jsonrpc: '2.0',
            id: body.id,
            result: { resources: [{ uri: 'note://a', name: 'a' }] },
          }),
        ),
    },
  })
  return {
    ...server,
    streams,
    say: (message: JsonObject) => {
      for (const stream of streams)
        stream.write(`event: message\ndata: ${JSON.stringify({ jsonrpc: '2.0', ...message })}\n\n`)
    },
    count: (method: string) => server.seen.filter((seen) => seen.method === method).length,
  }
}

/** A legacy client's session, as a header. */
export const open = async (rig: Rig, capabilities: JsonObject = {}) => {
  const { headers } = await post(rig, 'initialize', {
    protocolVersion: '2025-11-25',
    capabilities,
    clientInfo: { name: 'c', version: '1' },
  })
  return { 'mcp-session-id': headers.get('mcp-session-id')! }
}
