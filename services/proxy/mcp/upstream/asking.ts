import { Fault } from '../../../../shared/faults.ts'
import type { Logger } from '../../../../shared/log.ts'
import { isObject } from '../protocol/jsonrpc.ts'
import { logLevels, type ServerInfo } from '../protocol/shape.ts'
import type { JsonRpcMessage, JsonRpcResponse } from '../protocol/types.ts'
import { Stop } from '../stop.ts'
import { unsupported } from './answers.ts'
import { type Exchanged, exchange } from './exchange.ts'
import type { Headers, UpstreamHttp } from './http.ts'
import type { LegacySession } from './legacy-session.ts'
import { legacyMessage, modernMessage, type Party, type UpstreamRequest } from './request.ts'

/** What a message to a server, that nobody waits for, may take. */
const messageMs = 5_000

/**
 * Whether the server has to be told. A session that several requests of different levels share stays at the lowest;
 * what is too much for one of them is filtered on its way.
 */
function wantsLevel({ capabilities, logLevel }: LegacySession, wanted: string, { live }: Party): boolean {
  if (!isObject(capabilities.logging) || wanted === logLevel) return false
  return live || logLevel === undefined || logLevels.indexOf(wanted) < logLevels.indexOf(logLevel)
}

/** One request, or one message that nobody waits for, in the words of the server's era. */
export function createAsking(deps: {
  http: UpstreamHttp
  log: Logger
  info: ServerInfo
  /** Bytes of an answer, characters of an event. */
  limit: number
  nextId(): number
}) {
  const { http, log, info, limit, nextId } = deps
  /** Requests that may have reached their server. */
  const begun = new WeakSet<UpstreamRequest>()

  /** Messages on the stream before the answer: progress and logs go to the client, questions get answered. */
  const listener = (
    request: UpstreamRequest,
    id: number,
    reply: ((answer: JsonRpcResponse) => void) | undefined,
  ) => {
    return (message: JsonRpcMessage): void | Promise<void> => {
      if (!('method' in message)) return
      if (!('id' in message)) {
        if (message.method === 'notifications/progress' && message.params?.progressToken !== id) return
        return request.onNotification?.(message)
      }
      // A modern server has no way to ask here.
      if (!reply) return
      // Not waited for: the server may send progress while a person thinks.
      const answering =
        message.method === 'ping'
          ? Promise.resolve({ result: {} })
          : (request.onRequest?.(message) ?? unsupported())
      answering.then(
        (answer) => reply({ jsonrpc: '2.0', id: message.id, ...answer }),
        (error: unknown) => log.debug({ err: error }, 'a question of a server could not be answered'),
      )
    }
  }

  /** A message that nobody waits for; lost where the server does not take it in time. */
  const tell = (session: LegacySession, headers: Headers, message: JsonRpcMessage): Promise<void> => {
    const stop = new Stop().limit(messageMs)
    return session
      .exchange({ headers, message, stop, limit: 65_536 })
      .then(
        () => {},
        (error: unknown) =>
          log.debug(
            { server: session.server.id, code: Fault.from(error).code },
            'a message to a server was lost',
          ),
      )
      .finally(() => stop.end())
  }

  function askModern(request: UpstreamRequest, credential: Headers): Promise<Exchanged> {
    const id = nextId()
    begun.add(request)
    const { headers, message } = modernMessage(request, credential, id, info)
    return exchange(http, request.server, {
      headers:
        request.trace || request.mirror
          ? { ...headers, ...request.trace, ...request.mirror?.headers() }
          : headers,
      message,
      stop: request.stop,
      limit,
      onMessage: listener(request, id, undefined),
    })
  }

  async function askLegacy(
    request: UpstreamRequest,
    credential: Headers,
    session: LegacySession,
  ): Promise<Exchanged> {
    const { stop, logLevel } = request
    const headers = session.headers(credential)
    if (logLevel !== undefined && wantsLevel(session, logLevel, request.party)) {
      session.logLevel = logLevel
      await tell(session, headers, {
        jsonrpc: '2.0',
        id: nextId(),
        method: 'logging/setLevel',
        params: { level: logLevel },
      })
    }
    const id = nextId()
    begun.add(request)
    try {
      return await session.exchange({
        headers: request.trace ? { ...headers, ...request.trace } : headers,
        message: legacyMessage(request, id),
        stop,
        limit,
        onMessage: listener(request, id, (answer) => void tell(session, headers, answer)),
      })
    } catch (error) {
      // Closing the connection is no cancellation for a legacy server: it has to be told.
      if (stop.reason) {
        void tell(session, headers, {
          jsonrpc: '2.0',
          method: 'notifications/cancelled',
          params: { requestId: id },
        })
      }
      throw error
    }
  }

  return { begun: (request: UpstreamRequest): boolean => begun.has(request), tell, askModern, askLegacy }
}
