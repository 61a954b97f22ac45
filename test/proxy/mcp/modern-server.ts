import type { IncomingMessage } from 'node:http'
import type { JsonObject, JsonRpcError } from '../../../services/proxy/mcp/protocol/types.ts'
import { startUpstream } from './rig.ts'

export interface ModernRequest {
  id: number
  method: string
  params: JsonObject & { _meta: JsonObject }
  headers: IncomingMessage['headers']
}

export type ModernAnswer = { result: JsonObject } | { status?: number; error: JsonRpcError }

/** A modern server by hand: `answer` decides everything but `server/discover` and unfit headers. */
export async function startScripted(
  answer: (request: ModernRequest) => ModernAnswer | undefined,
  capabilities: JsonObject = { tools: {}, resources: {}, prompts: {} },
) {
  const seen: ModernRequest[] = []
  const listener = await startUpstream((request, text, response) => {
    const body = JSON.parse(text)
    const json = (status: number, more: object): void => {
      response
        .writeHead(status, { 'content-type': 'application/json' })
        .end(JSON.stringify({ jsonrpc: '2.0', id: body.id ?? null, ...more }))
    }
    if (request.headers['mcp-method'] !== body.method || !body.params?._meta) {
      return json(400, { error: { code: -32020, message: 'header mismatch' } })
    }
    const asked: ModernRequest = { ...body, headers: request.headers }
    seen.push(asked)
    if (body.method === 'server/discover') {
      return json(200, {
        result: {
          resultType: 'complete',
          supportedVersions: ['2026-07-28'],
          capabilities,
          ttlMs: 0,
          cacheScope: 'public',
        },
      })
    }
    const given = answer(asked)
    if (given === undefined) return
    if ('error' in given) return json(given.status ?? 200, { error: given.error })
    json(200, { result: { resultType: 'complete', ...given.result } })
  })
  return { ...listener, seen, calls: () => seen.filter(({ method }) => method !== 'server/discover') }
}

export const modernMeta = (capabilities: JsonObject = {}, more: JsonObject = {}): JsonObject => ({
  'io.modelcontextprotocol/protocolVersion': '2026-07-28',
  'io.modelcontextprotocol/clientCapabilities': capabilities,
  ...more,
})
