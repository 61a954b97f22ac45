import { LRUCache } from 'lru-cache'
import type { Clock } from '../../../shared/clock.ts'
import { Fault } from '../../../shared/faults.ts'
import type { Logger } from '../../../shared/log.ts'
import type { ServerWorkload } from '../../../shared/wire/snapshot.ts'
import { isObject } from './protocol/jsonrpc.ts'
import type { Era, JsonObject } from './protocol/types.ts'
import { AuthorizationRequired } from './upstream/authorization.ts'
import type { UpstreamRequest } from './upstream/request.ts'
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
  items: JsonObject[]
  outcome: 'ok' | 'error' | 'timeout' | 'authorization_required'
  stale: boolean
  /** Whether the server was asked just now; false where the answer was fresh in memory. */
  fetched: boolean
  fault?: Fault
  link?: AuthorizationRequired['link']
}

/** A listing of a server that gives no hint is asked again after this long. */
const defaultFreshMs = 10_000
const longestFreshMs = 5 * 60_000
/** How long a last-good listing stands in for a server that is down. */
const lastGoodMs = 60 * 60_000
const maxPages = 100
const maxItems = 5_000

interface Kept {
  items: JsonObject[]
  freshUntil: number
}

export interface Catalogue {
  list(kind: ListKind, request: Omit<UpstreamRequest, 'method' | 'params'>): Promise<ServerListing>
  /** The last listing in memory, fresh or not. */
  peek(kind: ListKind, principalKey: string, server: ServerWorkload): readonly JsonObject[] | undefined
}

/** Listings per (server, person): what one person sees is never shown to another. */
export function createCatalogue(deps: { upstreams: Upstreams; clock: Clock; log: Logger }): Catalogue {
  const { upstreams, clock, log } = deps
  const kept = new LRUCache<string, Kept>({ max: 20_000, ttl: lastGoodMs })
  const running = new Map<string, Promise<Kept>>()

  const keyOf = (kind: ListKind, principalKey: string, server: ServerWorkload): string =>
    `${kind}\n${server.id}\n${server.url}\n${principalKey}`

  async function fetchAll(
    kind: ListKind,
    request: Omit<UpstreamRequest, 'method' | 'params'>,
  ): Promise<Kept> {
    const spec = kinds[kind]
    const capabilities = await upstreams.capabilities(request)
    if (!isObject(capabilities[spec.capability]))
      return { items: [], freshUntil: clock.now() + defaultFreshMs }
    const items: JsonObject[] = []
    let fresh = longestFreshMs
    let era: Era = 'legacy'
    let cursor: unknown
    for (let page = 0; page < maxPages; page++) {
      const answer = await upstreams.request({
        ...request,
        method: spec.method,
        params: cursor === undefined ? {} : { cursor },
      })
      era = answer.era
      const { result, error } = answer.response
      if (error?.code === -32601) break
      const list = result?.[kind]
      if (!result || !Array.isArray(list)) {
        throw new Fault('upstream.garbage', {
          detail: `${spec.method}: ${error ? `error ${error.code}` : 'no list in the result'}`,
        })
      }
      for (const item of list) if (isObject(item)) items.push(item)
      if (typeof result.ttlMs === 'number' && result.ttlMs >= 0) fresh = Math.min(fresh, result.ttlMs)
      else fresh = Math.min(fresh, defaultFreshMs)
      cursor = result.nextCursor
      if (typeof cursor !== 'string' || items.length >= maxItems) break
    }
    if (items.length > maxItems)
      log.warn({ server: request.server.id, kind, maxItems }, 'listing cut at its bound')
    // A burst of listings is one question, also to a modern server whose ttlMs is 0.
    const freshMs = era === 'modern' ? Math.max(fresh, 1_000) : fresh
    return { items: items.slice(0, maxItems), freshUntil: clock.now() + freshMs }
  }

  return {
    async list(kind, request) {
      const { server } = request
      const cacheKey = keyOf(kind, principalKeyOf(request), server)
      const known = kept.get(cacheKey)
      if (known && known.freshUntil > clock.now()) {
        return { server, items: known.items, outcome: 'ok', stale: false, fetched: false }
      }
      // Single-flight per session, not per person: another session's abort must not end this one's wait.
      const flightKey = `${request.binding}\n${cacheKey}`
      let work = running.get(flightKey)
      if (!work) {
        work = fetchAll(kind, request)
        running.set(flightKey, work)
        work.catch(() => {}).finally(() => running.delete(flightKey))
      }
      try {
        const fresh = await work
        kept.set(cacheKey, fresh)
        return { server, items: fresh.items, outcome: 'ok', stale: false, fetched: true }
      } catch (error) {
        const items = kept.get(cacheKey)?.items
        const stale = items !== undefined
        const base = { server, items: items ?? [], stale, fetched: true }
        if (error instanceof AuthorizationRequired) {
          return { ...base, outcome: 'authorization_required', link: error.link }
        }
        const fault = Fault.from(error, 'upstream.unreachable')
        log.warn(
          { server: server.id, kind, code: fault.code, detail: fault.detail, stale },
          'listing of a server failed',
        )
        return { ...base, outcome: fault.code === 'upstream.timeout' ? 'timeout' : 'error', fault }
      }
    },
    peek: (kind, principalKey, server) => kept.get(keyOf(kind, principalKey, server))?.items,
  }
}

export const principalKeyOf = ({ principal }: { principal: { issuer: string; subject: string } }): string =>
  `${principal.issuer} ${principal.subject}`
