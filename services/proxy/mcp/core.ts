import { LRUCache } from 'lru-cache'
import { Fault } from '../../../shared/faults.ts'
import { createAccess } from './access.ts'
import { type Catalogue, createCatalogue } from './catalogue.ts'
import { Cancelled, createFlights, type Flight } from './flight.ts'
import { type MethodContext, methods } from './methods.ts'
import { faultError, isNotification, isRequest, isResponse } from './protocol/jsonrpc.ts'
import { metaKeys, type ServerInfo } from './protocol/shape.ts'
import type { CoreDeps, JsonRpcRequest, McpCall, McpCore } from './protocol/types.ts'
import { createUpstreamHttp } from './upstream/http.ts'
import { createUpstreams } from './upstream/upstreams.ts'

/**
 * From an authenticated message to its answer: decide per server, attach the credential, relay, shape, record.
 * State is in memory alone and can be lost at any time: upstream sessions are opened again, listings asked again.
 */
export function createMcpCore(deps: CoreDeps): McpCore {
  const { config, clock, log, recorder } = deps
  const info: ServerInfo = {
    name: 'mcp-identity-gateway',
    title: 'MCP Identity Gateway',
    version: config.version,
  }
  const http = createUpstreamHttp()
  const upstreams = createUpstreams({ http, credentials: deps.credentials, config, log, info })
  const catalogue: Catalogue = createCatalogue({ upstreams, clock, log })
  const flights = createFlights()
  const accessOf = createAccess()
  /** Log level that a legacy session asked for by logging/setLevel. */
  const sessionLevels = new LRUCache<string, string>({ max: 50_000, ttl: config.sessionIdleTtlSecs * 1000 })
  let idle: (() => void) | undefined

  const logLevelOf = (call: McpCall): string | undefined => {
    if (call.session) return sessionLevels.get(call.session.id)
    const meta =
      'params' in call.message
        ? (call.message.params?._meta as Record<string, unknown> | undefined)
        : undefined
    const level = meta?.[metaKeys.logLevel]
    return typeof level === 'string' ? level : undefined
  }

  async function run(call: McpCall & { message: JsonRpcRequest }): Promise<void> {
    const method = Object.hasOwn(methods, call.message.method) ? methods[call.message.method] : undefined
    if (!method || (method.era !== undefined && method.era !== call.era)) {
      const error = faultError(new Fault('rpc.method'), call.era)
      return call.reply.json(
        call.era === 'modern' ? 404 : 200,
        JSON.stringify({
          jsonrpc: '2.0',
          id: call.message.id,
          error: { code: error.code, message: error.message },
        }),
      )
    }
    const flight: Flight = flights.open(call, method.limitMs(config.timeouts))
    const context: MethodContext = {
      call,
      flight,
      access: accessOf(call.index, call.principal),
      params: call.message.params ?? {},
      config,
      info,
      upstreams,
      catalogue,
      recorder,
      sessions: deps.sessions,
      log,
      logLevelOf,
      setLogLevel: (level) => {
        if (call.session) sessionLevels.set(call.session.id, level)
      },
    }
    try {
      const answer = await method.run(context)
      if (answer) await flight.answer(answer)
    } catch (error) {
      if (error instanceof Cancelled) flight.abandon()
      else {
        const fault = Fault.from(error)
        if (fault.code === 'internal')
          log.error({ err: error, method: call.message.method }, 'a request failed inside the gateway')
        recorder.response(call, {
          server: null,
          decision: null,
          outcome: 'Error',
          reason: fault.detail ?? fault.message,
          reasonCode: fault.code,
          httpResponseCode: fault.spec.status,
          durationMs: 0,
        })
        await flight.answer({ error: faultError(fault, call.era) })
      }
    } finally {
      flights.close(call, flight)
      if (flights.size() === 0) idle?.()
    }
  }

  return {
    async handle(call) {
      const { message } = call
      // The same object, not a copy: the edge's calls have getters and count what is recorded on them.
      if (isRequest(message)) return run(call as McpCall & { message: JsonRpcRequest })
      if (isResponse(message)) flights.resolve(call, message)
      else if (isNotification(message) && message.method === 'notifications/cancelled') {
        flights.cancel(call, message.params?.requestId)
      }
      call.reply.accepted()
    },
    endSession: async (session) => upstreams.end(session.id),
    async drain(deadlineMs) {
      if (flights.size() === 0) return 0
      await new Promise<void>((resolve) => {
        const timer = setTimeout(resolve, deadlineMs)
        idle = () => {
          clearTimeout(timer)
          resolve()
        }
      })
      return flights.size()
    },
    async close() {
      await http.close()
    },
    stats: () => ({ activeCalls: flights.size(), upstreamSessions: upstreams.size() }),
  }
}
