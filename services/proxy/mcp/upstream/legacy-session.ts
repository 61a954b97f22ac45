import type { ServerWorkload } from '../../../../shared/wire/snapshot.ts'
import type { KeptUpstream } from '../protocol/kept.ts'
import type { JsonObject } from '../protocol/types.ts'
import { BrokenStream, type Exchanged, type ExchangeOptions, exchange } from './exchange.ts'
import type { Headers, UpstreamHttp } from './http.ts'
import { legacyHeaders } from './request.ts'
import { resume } from './resume.ts'
import type { SseChannel } from './sse-channel.ts'

export interface LegacySession {
  readonly server: ServerWorkload
  /** Undefined where the server gave no `Mcp-Session-Id`. */
  readonly id: string | undefined
  /** Whether the server keeps a session that it can forget. */
  readonly stateful: boolean
  /** The server or the network ended it: of no use any more. */
  readonly closed: boolean
  readonly capabilities: JsonObject
  /** What another process needs to go on with it; undefined where the session lives on a stream of ours. */
  readonly kept: KeptUpstream | undefined
  /** Something waits for an answer of it. */
  readonly busy: boolean
  /** The log level that the server was told, if any. */
  logLevel: string | undefined
  /** Every header of a request in this session. Built once per credential. */
  headers(credential: Headers): Headers
  /** Where the session's one stream carries everything (HTTP+SSE): who hears what belongs to no call. */
  readonly listen: SseChannel['listen'] | undefined
  /** One message to the server, over the transport that the session lives on. */
  exchange(options: ExchangeOptions): Promise<Exchanged>
}

/** Stands for the credential that a session was used with last. */
export const lastUsed: Headers = Object.freeze({})

/** A session that is open at a server: by our `initialize`, or by that of another process. */
export function createSession(
  http: UpstreamHttp,
  server: ServerWorkload,
  opened: KeptUpstream,
  channel?: SseChannel,
): LegacySession {
  const { id, protocolVersion, capabilities } = opened
  const own: Headers = {
    ...(id === undefined ? {} : { 'mcp-session-id': id }),
    'mcp-protocol-version': protocolVersion,
  }
  let builtFor: Headers | undefined
  let running = 0
  let built = legacyHeaders({}, own)
  return {
    server,
    id,
    stateful: channel !== undefined || id !== undefined,
    get closed() {
      return channel?.closed ?? false
    },
    get busy() {
      return running > 0
    },
    capabilities,
    kept: channel ? undefined : opened,
    logLevel: undefined,
    headers(credential) {
      if (credential === lastUsed || credential === builtFor) return built
      builtFor = credential
      built = legacyHeaders(credential, own)
      return built
    },
    listen: channel && ((listener) => channel.listen(listener)),
    async exchange(options) {
      running++
      try {
        return await (channel ? channel.exchange(options) : exchange(http, server, options))
      } catch (error) {
        if (!channel && error instanceof BrokenStream) return await resume(http, server, options, error)
        throw error
      } finally {
        running--
      }
    },
  }
}
