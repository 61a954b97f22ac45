import { LRUCache } from 'lru-cache'
import type { ConfigOf } from '../../../../shared/ipc/contract.ts'
import type { ServerWorkload } from '../../../../shared/wire/snapshot.ts'
import { isObject } from '../protocol/jsonrpc.ts'
import { modernVersion, type ServerInfo } from '../protocol/shape.ts'
import type { Era, JsonObject } from '../protocol/types.ts'
import { exchange } from './exchange.ts'
import type { UpstreamHttp } from './http.ts'
import { type Headers, modernMessage, refuseUnauthorized, type UpstreamRequest } from './request.ts'
import { deadline } from './signals.ts'

export interface Verdict {
  era: Era
  /** What a modern server said to `server/discover`; empty for a legacy one, whose session knows. */
  capabilities: JsonObject
}

/** Which era a server speaks, asked once per server, whoever asks: it is the server's, not the person's. */
export interface Eras {
  /** The verdict, where it is there already: no wait on the way of most requests. */
  known(server: ServerWorkload): Verdict | undefined
  of(request: UpstreamRequest, credential: Headers): Promise<Verdict>
  forget(server: ServerWorkload): void
}

/** A stale `modern` fails loudly, a stale `legacy` works silently for ever: so a verdict has an age (MCP 2026-07-28). */
const verdictMs = 10 * 60_000

export function createEras(deps: {
  http: UpstreamHttp
  config: ConfigOf['proxy']
  info: ServerInfo
  nextId(): number
}): Eras {
  const { http, config, info, nextId } = deps
  const verdicts = new LRUCache<string, { asking: Promise<Verdict>; verdict?: Verdict }>({
    max: 2_000,
    ttl: verdictMs,
  })

  async function probe(request: UpstreamRequest, credential: Headers): Promise<Verdict> {
    const { server, principal, binding, capabilities, live, signal } = request
    const question = { server, principal, binding, capabilities, live, signal, method: 'server/discover' }
    const { headers, message } = modernMessage(question, credential, nextId(), info)
    const { response } = refuseUnauthorized(
      await exchange(http, server, {
        headers,
        message,
        signal: deadline(config.timeouts.initialize ?? 10_000),
        limit: config.limits.responseBytes,
      }),
    )
    const versions = response?.result?.supportedVersions
    if (Array.isArray(versions) && versions.includes(modernVersion)) {
      const offered = response?.result?.capabilities
      return { era: 'modern', capabilities: isObject(offered) ? offered : {} }
    }
    return { era: 'legacy', capabilities: {} }
  }

  return {
    known: (server) => verdicts.get(server.url)?.verdict,
    of(request, credential) {
      const { url } = request.server
      const held = verdicts.get(url)
      if (held) return held.asking
      const entry: { asking: Promise<Verdict>; verdict?: Verdict } = { asking: probe(request, credential) }
      verdicts.set(url, entry)
      entry.asking.then(
        (verdict) => {
          entry.verdict = verdict
        },
        () => {
          if (verdicts.peek(url) === entry) verdicts.delete(url)
        },
      )
      return entry.asking
    },
    forget: (server) => {
      verdicts.delete(server.url)
    },
  }
}
