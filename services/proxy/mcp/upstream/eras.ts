import { LRUCache } from 'lru-cache'
import type { Clock } from '../../../../shared/clock.ts'
import { Fault } from '../../../../shared/faults.ts'
import type { ConfigOf } from '../../../../shared/ipc/contract.ts'
import type { ServerWorkload } from '../../../../shared/wire/snapshot.ts'
import { isObject } from '../protocol/jsonrpc.ts'
import { legacyVersions, modernVersion, type ServerInfo } from '../protocol/shape.ts'
import type { Era, JsonObject } from '../protocol/types.ts'
import { Stop } from '../stop.ts'
import { isModernCode } from './answers.ts'
import { type Exchanged, exchange } from './exchange.ts'
import type { Headers, UpstreamHttp } from './http.ts'
import { InsufficientScope, modernMessage, type Party, refuseUnauthorized, Unauthorized } from './request.ts'

export interface Verdict {
  readonly era: Era
  /** What a modern server said to `server/discover`; null: it did not say, so it may have anything. */
  readonly capabilities: JsonObject | null
}

/** Which era a server speaks, asked once per server, whoever asks: it is the server's, not the person's. */
export interface Eras {
  of(server: ServerWorkload, party: Party, credential: Headers): Verdict | Promise<Verdict>
  /** `verdict` led to an answer that does not fit it. */
  doubt(server: ServerWorkload, verdict: Verdict): void
}

interface Known {
  verdict: Verdict
  askAgainAt: number
  asking?: Promise<Verdict>
}

/** A stale `modern` fails loudly, a stale `legacy` works silently for ever: so a verdict has an age (MCP 2026-07-28). */
const verdictMs = 10 * 60_000
/** An age for what is only a guess. */
const guessMs = 30_000
/** Old servers may not answer at all to a method they do not know. */
const probeMs = 5_000

const legacy: Verdict = { era: 'legacy', capabilities: {} }
const modernUnsaid: Verdict = { era: 'modern', capabilities: null }

export function createEras(deps: {
  http: UpstreamHttp
  config: ConfigOf['proxy']
  clock: Clock
  info: ServerInfo
  nextId(): number
}): Eras {
  const { http, config, clock, info, nextId } = deps
  const known = new LRUCache<string, Known>({ max: 5_000 })
  const first = new Map<string, Promise<Verdict>>()

  async function probe(server: ServerWorkload, party: Party, credential: Headers): Promise<Known> {
    const until = (verdict: Verdict, ms: number): Known => ({ verdict, askAgainAt: clock.now() + ms })
    const { headers, message } = modernMessage(
      { method: 'server/discover', params: {}, party },
      credential,
      nextId(),
      info,
    )
    const stop = new Stop().limit(Math.min(probeMs, config.timeouts.initialize ?? 10_000), 'server/discover')
    let exchanged: Exchanged
    try {
      exchanged = await exchange(http, server, { headers, message, stop, limit: config.limits.responseBytes })
    } catch (error) {
      const { code } = Fault.from(error)
      if (code === 'upstream.unreachable' || code === 'upstream.blocked') throw error
      // Silence or nonsense: `initialize` will tell.
      return until(legacy, guessMs)
    } finally {
      stop.end()
    }
    refuseUnauthorized(exchanged)
    const { status, response, refusal } = exchanged
    if (status === 403 || status === 429)
      throw new Fault('upstream.rejected', { detail: `server/discover: HTTP ${status}` })
    const { supportedVersions, capabilities } = response?.result ?? {}
    if (Array.isArray(supportedVersions) && supportedVersions.includes(modernVersion)) {
      return until({ era: 'modern', capabilities: isObject(capabilities) ? capabilities : {} }, verdictMs)
    }
    const error = (response ?? refusal)?.error
    if (error?.code === -32022 && namesLegacy(error.data)) return until(legacy, verdictMs)
    if (error && isModernCode(error.code)) return until(modernUnsaid, verdictMs)
    if (status === 404 && error?.code === -32601) return until(modernUnsaid, guessMs)
    return until(legacy, status > 499 ? guessMs : verdictMs)
  }

  return {
    of(server, party, credential) {
      const { url } = server
      const held = known.get(url)
      if (held) {
        // An old verdict is used while it is asked anew: no request waits for that.
        if (clock.now() >= held.askAgainAt && !held.asking) {
          const asking = probe(server, party, credential).then((fresh) => {
            known.set(url, fresh)
            return fresh.verdict
          })
          held.asking = asking
          asking.catch(() => {
            held.askAgainAt = clock.now() + guessMs
            held.asking = undefined
          })
        }
        return held.verdict
      }
      const ask = async (): Promise<Verdict> => {
        const fresh = await probe(server, party, credential)
        known.set(url, fresh)
        return fresh.verdict
      }
      const joined = first.get(url)
      if (joined) {
        return joined.catch((error: unknown) => {
          // Whether a credential is good is one person's matter.
          if (error instanceof Unauthorized || error instanceof InsufficientScope) return ask()
          throw error
        })
      }
      const asking = ask().finally(() => first.delete(url))
      first.set(url, asking)
      return asking
    },
    doubt({ url }, verdict) {
      if (known.peek(url)?.verdict !== verdict) return
      // What was only a guess at `modern` is `legacy`; everything else is asked anew.
      if (verdict === modernUnsaid) known.set(url, { verdict: legacy, askAgainAt: clock.now() + guessMs })
      else known.delete(url)
    },
  }
}

/** UnsupportedProtocolVersion lists what the server does speak. */
function namesLegacy(data: unknown): boolean {
  const supported = isObject(data) ? data.supported : undefined
  return Array.isArray(supported) && legacyVersions.some((version) => supported.includes(version))
}
