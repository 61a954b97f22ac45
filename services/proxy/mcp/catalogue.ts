import { LRUCache } from 'lru-cache'
import type { Clock } from '../../../shared/clock.ts'
import { Fault } from '../../../shared/faults.ts'
import type { ConfigOf } from '../../../shared/ipc/contract.ts'
import type { Logger } from '../../../shared/log.ts'
import type { ToolPinning } from '../../../shared/wire/event.ts'
import type { ServerWorkload } from '../../../shared/wire/snapshot.ts'
import { isObject } from './protocol/jsonrpc.ts'
import type { Era, JsonObject } from './protocol/types.ts'
import { Stop, within } from './stop.ts'
import { AuthorizationRequired } from './upstream/authorization.ts'
import { declaredBy } from './upstream/param-headers.ts'
import type { Party } from './upstream/request.ts'
import type { Upstreams } from './upstream/upstreams.ts'

export type ListKind = 'tools' | 'prompts' | 'resources' | 'resourceTemplates'

interface KindSpec {
  method: string
  capability: 'tools' | 'prompts' | 'resources'
  timeout: string
}

export const kinds: Readonly<Record<ListKind, KindSpec>> = {
  tools: { method: 'tools/list', capability: 'tools', timeout: 'tools_list' },
  prompts: { method: 'prompts/list', capability: 'prompts', timeout: 'prompts_list' },
  resources: { method: 'resources/list', capability: 'resources', timeout: 'resources_list' },
  resourceTemplates: {
    method: 'resources/templates/list',
    capability: 'resources',
    timeout: 'resources_templates_list',
  },
}

/** What one server said to a listing. `stale`: the last good answer, since there was no good one now. */
export interface ServerListing {
  server: ServerWorkload
  items: readonly JsonObject[]
  outcome: 'ok' | 'error' | 'timeout' | 'authorization_required'
  stale: boolean
  /** Whether the server was asked just now; false where the answer was fresh in memory. */
  fetched: boolean
  /** The server's own hint, ms; 0 where it gave none. */
  ttlMs: number
  durationMs: number
  fault?: Fault
  /** What pinning took out of it or marked. */
  pinning?: ToolPinning
}

/** A burst of listings is one question, also to a server that gives no hint or says 0. */
const leastFreshMs = 1_000
const longestFreshMs = 5 * 60_000
/** How long a last-good listing stands in for a server that is down. */
const lastGoodMs = 12 * 60 * 60_000
const maxPages = 100
const maxItems = 5_000
/** Of one listing, all its pages. */
const maxListingChars = 32 * 1024 * 1024
/** Characters of JSON that all listings in memory may hold together. */
const maxChars = 128 * 1024 * 1024

interface Kept {
  items: readonly JsonObject[]
  freshUntil: number
  ttlMs: number
  chars: number
  /** The server says that everyone gets the same. */
  shared: boolean
  /** Of `changes`, when the server was asked. */
  generation: number
}

export interface Catalogue {
  /** Waits for the server no longer than the kind's time-out; what comes later is there for the next listing. */
  list(kind: ListKind, server: ServerWorkload, party: Party, stop: Stop): Promise<ServerListing>
  /** The last listing in memory, fresh or not. */
  peek(kind: ListKind, server: ServerWorkload, party: Party): readonly JsonObject[] | undefined
  /** The server said that its list changed: what is held is a last resort from now on. */
  changed(kind: ListKind, server: Pick<ServerWorkload, 'id' | 'url'>): void
  /** Asks for tools ahead of the client, with a time-out of its own. */
  warm(server: ServerWorkload, party: Party): void
}

/** Listings per (server, person, what their client can do): what one person sees is never shown to another. */
export function createCatalogue(deps: {
  upstreams: Upstreams
  config: ConfigOf['proxy']
  clock: Clock
  log: Logger
}): Catalogue {
  const { upstreams, config, clock, log } = deps
  const kept = new LRUCache<string, Kept>({
    max: 50_000,
    maxSize: maxChars,
    sizeCalculation: ({ chars }) => Math.max(1, chars),
    ttl: lastGoodMs,
  })
  const running = new Map<string, Promise<Kept>>()
  /** How often a server said that a list changed, by kind and server. */
  const changes = new Map<string, number>()
  const timeout = (name: string, otherwise: number): number => config.timeouts[name] ?? otherwise

  const sharedKey = (kind: ListKind, server: Pick<ServerWorkload, 'id' | 'url'>): string =>
    `${kind}\n${server.id}\n${server.url}`
  const keyOf = (kind: ListKind, server: ServerWorkload, party: Party): string =>
    `${sharedKey(kind, server)}\n${party.variant}\n${party.principalKey}`

  async function fetchAll(
    kind: ListKind,
    server: ServerWorkload,
    party: Party,
    listMs: number,
  ): Promise<Kept> {
    const { method, capability } = kinds[kind]
    const stop = new Stop().limit(timeout('initialize', 10_000) + listMs, method)
    const items: JsonObject[] = []
    let chars = 0
    let hint = longestFreshMs
    let shared = true
    let cursor: unknown
    const generation = changes.get(sharedKey(kind, server)) ?? 0
    const keep = (list: JsonObject[], ttlMs: number): Kept => {
      return {
        items: list,
        chars,
        ttlMs,
        shared,
        generation,
        freshUntil: clock.now() + Math.max(ttlMs, leastFreshMs),
      }
    }
    try {
      const offered = await upstreams.capabilities(server, party, stop)
      if (offered && !isObject(offered[capability])) {
        shared = false
        return keep([], 0)
      }
      for (let page = 0; page < maxPages && items.length < maxItems && chars < maxListingChars; page++) {
        const params = cursor === undefined ? {} : { cursor }
        const answer = await upstreams.request({
          server,
          party,
          method,
          params,
          stop: stop.limit(listMs, method),
        })
        const { result, error } = answer.response
        if (error?.code === -32601) break
        const list = result?.[kind]
        if (!result || !Array.isArray(list)) {
          const detail = `${method}: ${error ? `error ${error.code}` : 'no list in the result'}`
          throw new Fault('upstream.garbage', { detail })
        }
        for (const item of list) if (isObject(item) && fits(kind, server, item, answer.era)) items.push(item)
        chars += answer.text?.length ?? JSON.stringify(list).length
        hint = Math.min(hint, typeof result.ttlMs === 'number' && result.ttlMs >= 0 ? result.ttlMs : 0)
        shared &&= result.cacheScope === 'public' || (kind === 'tools' && server.publicTools === true)
        cursor = result.nextCursor
        if (typeof cursor !== 'string') break
      }
      if (items.length > maxItems || chars >= maxListingChars)
        log.warn({ server: server.id, kind, items: items.length, chars }, 'a listing was cut at its bound')
      return keep(items.slice(0, maxItems), hint)
    } finally {
      stop.end()
    }
  }

  /** A tool whose header annotations are invalid is left out (MCP 2026-07-28, streamable HTTP, custom headers). */
  function fits(kind: ListKind, server: ServerWorkload, item: JsonObject, era: Era): boolean {
    if (kind !== 'tools' || era === 'legacy') return true
    const declared = declaredBy(item)
    if (!('invalid' in declared)) return true
    const tool = String(item.name).slice(0, 200)
    log.warn(
      { server: server.id, tool, reason: declared.invalid },
      'a tool with an invalid definition is left out',
    )
    return false
  }

  /** One question at a time for each key; it goes on when those who wait give up. */
  function fetch(kind: ListKind, server: ServerWorkload, party: Party, listMs: number): Promise<Kept> {
    const key = keyOf(kind, server, party)
    const known = running.get(key)
    if (known) return known
    const work = fetchAll(kind, server, party, listMs).then((fresh) => {
      kept.set(key, fresh)
      if (fresh.shared && fresh.items.length > 0) kept.set(sharedKey(kind, server), fresh)
      return fresh
    })
    running.set(key, work)
    work.catch(() => {}).finally(() => running.delete(key))
    return work
  }

  return {
    async list(kind, server, party, stop) {
      const startedAt = performance.now()
      const held = kept.get(keyOf(kind, server, party))
      const generation = changes.get(sharedKey(kind, server)) ?? 0
      const took = (): number => performance.now() - startedAt
      if (held && held.freshUntil > clock.now() && held.generation === generation) {
        return {
          server,
          items: held.items,
          outcome: 'ok',
          stale: false,
          fetched: false,
          ttlMs: held.ttlMs,
          durationMs: 0,
        }
      }
      const listMs = timeout(kinds[kind].timeout, 3_000)
      const waiting = new Stop().limit(listMs, kinds[kind].method)
      const giveUp = (reason: Error): void => waiting.stop(reason)
      stop.on(giveUp)
      try {
        const { items, ttlMs } = await within(fetch(kind, server, party, listMs), waiting)
        return { server, items, outcome: 'ok', stale: false, fetched: true, ttlMs, durationMs: took() }
      } catch (error) {
        if (stop.reason) throw stop.reason
        const lastGood = held ?? kept.get(sharedKey(kind, server))
        const base = {
          server,
          items: lastGood?.items ?? [],
          stale: lastGood !== undefined,
          fetched: true,
          ttlMs: 0,
          durationMs: took(),
        }
        if (error instanceof AuthorizationRequired) return { ...base, outcome: 'authorization_required' }
        const fault = Fault.from(error, 'upstream.unreachable')
        const { code, detail } = fault
        log.warn({ server: server.id, kind, code, detail, stale: base.stale }, 'listing of a server failed')
        return { ...base, outcome: code === 'upstream.timeout' ? 'timeout' : 'error', fault }
      } finally {
        waiting.end()
        stop.off(giveUp)
      }
    },
    peek: (kind, server, party) => kept.get(keyOf(kind, server, party))?.items,
    changed(kind, server) {
      const key = sharedKey(kind, server)
      changes.set(key, (changes.get(key) ?? 0) + 1)
    },
    warm(server, party) {
      if (kept.has(keyOf('tools', server, party))) return
      fetch('tools', server, party, timeout('proactive_tools_list', 5_000)).catch(() => {})
    },
  }
}
