import { isIP } from 'node:net'
import { Agent, type Dispatcher } from 'undici'
import { Fault } from '../../../../shared/faults.ts'
import { createNetworkGuard, type NetworkGuard } from '../../../../shared/networks.ts'
import type { ServerWorkload } from '../../../../shared/wire/snapshot.ts'
import { Measures } from '../../measures.ts'
import { ServerAddresses } from '../../server-addresses.ts'

/** What a credential does to a request beyond its headers. Travels with the headers that it belongs to. */
export const presentation: unique symbol = Symbol('presentation')

export interface SignableRequest {
  readonly method: string
  readonly url: string
  readonly headers: Headers
  readonly body: string | null
}

export interface Presentation {
  /** Added to the URL's query. */
  readonly query?: string
  /** Every header of the request, those of a signature among them. */
  sign?(request: SignableRequest): Promise<Headers>
}

export type Headers = Readonly<Record<string, string>> & { readonly [presentation]?: Presentation }

/** Pooled keep-alive connections to MCP servers, each through the address guard of its server. */
export interface UpstreamHttp {
  /**
   * Sends, and gives what comes back to `handler`, without a stream object in between. Follows no redirect. Throws
   * `upstream.blocked` for an address that is written out and refused; a name that resolves to one fails in the handler.
   */
  dispatch(
    server: ServerWorkload,
    method: 'GET' | 'POST' | 'DELETE',
    headers: Headers,
    body: string | null,
    handler: Dispatcher.DispatchHandler,
    /** Path and query at the same origin instead of the server's own. */
    path?: string,
    /** The answer is a stream that stays open; every GET is. */
    lasting?: boolean,
  ): void
  close(): Promise<void>
  /** What came back is counted here. */
  readonly measures: Measures
}

interface Target {
  readonly agents: Omit<Agents, 'guard'>
  readonly origin: string
  readonly path: string
}

interface Agents {
  readonly agent: Agent
  /** Event streams last: apart, so that they never leave a request without a connection. */
  readonly streams: Agent
  readonly guard: NetworkGuard
}

const connectionsPerServer = 1024
const streamsPerServer = 4096

/** How many requests the adapter of local servers gets at once. */
const stdioConnections = 256

/** `stdioSocketPath`: where servers named `stdio:<name>` are; null: this gateway has none. */
export function createUpstreamHttp(
  stdioSocketPath: string | null,
  measures = new Measures(),
  addresses = new ServerAddresses(),
): UpstreamHttp {
  /** One agent per set of allowed networks: a connection opened for one server is never used by a stricter one. */
  const agents = new Map<string, Agents>()
  const targets = new WeakMap<ServerWorkload, Target>()
  let stdio: Omit<Agents, 'guard'> | undefined

  const agentOf = (networks: readonly string[]) => {
    const key = networks.join(',')
    let known = agents.get(key)
    if (!known) {
      const guard = createNetworkGuard(networks)
      const agent = (connections: number): Agent =>
        new Agent({
          connect: addresses.connector({ lookup: guard.lookup, timeout: 5_000 }),
          connections,
          keepAliveTimeout: 30_000,
          allowH2: false,
          // Every exchange has a limit of its own; a second set of timers would only cost.
          headersTimeout: 0,
          bodyTimeout: 0,
        })
      known = { agent: agent(connectionsPerServer), streams: agent(streamsPerServer), guard }
      agents.set(key, known)
    }
    return known
  }

  /** A local server: the address guard has nothing to say about a socket that the operator configured. */
  const local = (server: ServerWorkload, name: string): Target => {
    if (stdioSocketPath === null) {
      throw new Fault('upstream.blocked', {
        detail: `${server.url}: this gateway starts no local servers, set AEMBIT_STDIO_SERVERS_PATH`,
      })
    }
    stdio ??= socketAgents(stdioSocketPath)
    const target = { agents: stdio, origin: 'http://stdio-adapter', path: `/${encodeURIComponent(name)}` }
    targets.set(server, target)
    return target
  }

  const targetOf = (server: ServerWorkload): Target => {
    let target = targets.get(server)
    if (!target) {
      const agents = agentOf(server.allowedNetworks)
      const url = new URL(server.url)
      if (url.protocol === 'stdio:') return local(server, url.pathname)
      const host = url.hostname.replace(/^\[|\]$/g, '')
      // A lookup is not asked for an address that is written out.
      if (isIP(host)) agents.guard.check(host)
      target = { agents, origin: url.origin, path: url.pathname + url.search }
      targets.set(server, target)
    }
    return target
  }

  return {
    measures,
    dispatch(server, method, headers, body, handler, where, lasting = method === 'GET') {
      const target = targetOf(server)
      const { agents, origin } = target
      const agent = lasting ? agents.streams : agents.agent
      const { query, sign } = headers[presentation] ?? {}
      const plain = where ?? target.path
      const path = query === undefined ? plain : `${plain}${plain.includes('?') ? '&' : '?'}${query}`
      if (!sign) {
        agent.dispatch({ origin, path, method, headers, body }, handler)
        return
      }
      sign({ method, url: origin + path, headers, body }).then(
        (signed) => agent.dispatch({ origin, path, method, headers: signed, body }, handler),
        // A handler of undici's is told of failures by its controller, which there is none of before the start.
        (error: unknown) => failBefore(handler, error),
      )
    },
    async close() {
      await Promise.all(
        [...agents.values(), ...(stdio ? [stdio] : [])].flatMap(({ agent, streams }) => [
          agent.destroy(),
          streams.destroy(),
        ]),
      )
    },
  }
}

function failBefore(handler: Dispatcher.DispatchHandler, error: unknown): void {
  const fault = new Fault('internal', { detail: 'the request could not be signed', cause: error })
  handler.onResponseError?.(undefined as unknown as Dispatcher.DispatchController, fault)
}

function socketAgents(socketPath: string): Omit<Agents, 'guard'> {
  const agent = (connections: number): Agent =>
    new Agent({ connect: { socketPath }, connections, headersTimeout: 0, bodyTimeout: 0 })
  return { agent: agent(stdioConnections), streams: agent(streamsPerServer) }
}
