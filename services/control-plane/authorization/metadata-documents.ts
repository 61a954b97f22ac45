import { LRUCache } from 'lru-cache'
import { type ClientMetadata, errors } from 'oidc-provider'
import type { Clock } from '../../../shared/clock.ts'
import type { Logger } from '../../../shared/log.ts'
import { createRateLimit } from '../../../shared/rate-limit.ts'
import { isDocumentUrl } from '../config/clients.ts'
import type { GuardedFetch } from '../identity/guarded-fetch.ts'
import { RegistrationRefused, registrationMetadata } from './clients.ts'

/** Client id metadata documents (draft-ietf-oauth-client-id-metadata-document): the id is the URL of a document. */
export interface MetadataDocuments {
  /** The client behind a URL. Undefined for ids that are none or that nobody allowed; throws InvalidClient otherwise. */
  find(id: string): Promise<ClientMetadata | undefined>
}

export interface MetadataDocumentsDeps {
  /** Bounded to `documentLimits`. */
  readonly fetch: GuardedFetch
  readonly clock: Clock
  readonly log: Logger
  /** Whether an administrator let clients with this id in: by its URL, or by its host. */
  readonly allowed: (id: string) => boolean
}

/** A document is small, and nobody waits long for one. */
export const documentLimits = { timeoutMs: 5_000, bytes: 8 * 1024 }
/** One sign-in looks a client up several times, whatever the document says of caching. */
const minCacheMs = 60_000
const maxCacheMs = 24 * 3_600_000
/** A document that could not be had is not asked for again at once. */
const failureMs = 10_000
/** Documents that are fetched: so many at once, then one in each interval. */
const fetchBurst = 50
const fetchRefillMs = 1_000

type Cached = { until: number; metadata: ClientMetadata } | { until: number; problem: string }

/**
 * Fetches, checks and keeps documents: https, public addresses only and pinned while connecting, no redirects, JSON of
 * at most 8 KiB, kept as its HTTP headers allow. The rules for what it says are those of a dynamic registration, except
 * that there is no secret: the document is public.
 */
export function createMetadataDocuments(deps: MetadataDocumentsDeps): MetadataDocuments {
  const { fetch, clock, log, allowed } = deps
  const cache = new LRUCache<string, Cached>({ max: 1_000 })
  const pending = new Map<string, Promise<Cached>>()
  const limit = createRateLimit(clock, fetchBurst, fetchRefillMs)

  const load = async (id: string): Promise<Cached> => {
    try {
      if (limit.take('') > 0)
        throw new DocumentRefused('too many documents are being fetched, try again shortly')
      const response = await fetch(id, { headers: { accept: 'application/json' } })
      if (response.status !== 200) {
        await response.body?.cancel()
        const what =
          response.status >= 300 && response.status < 400 ? 'a redirect, which is not followed' : 'an error'
        throw new DocumentRefused(`its address answers ${response.status}, ${what}`)
      }
      const type = (response.headers.get('content-type') ?? '').split(';')[0]!.trim().toLowerCase()
      if (type !== 'application/json' && !/^application\/[a-z0-9.+-]+\+json$/.test(type)) {
        await response.body?.cancel()
        throw new DocumentRefused('it is not application/json')
      }
      const metadata = documentMetadata(id, await bounded(response))
      return { until: clock.now() + cacheMs(response.headers, clock.now()), metadata }
    } catch (error) {
      const problem =
        error instanceof DocumentRefused || error instanceof RegistrationRefused
          ? error.message
          : 'it could not be fetched'
      const detail =
        error instanceof Error ? (error.cause instanceof Error ? error.cause : error).message : ''
      log.warn({ event: 'client_document.refused', clientId: id, problem, detail }, 'client document refused')
      return { until: clock.now() + failureMs, problem }
    }
  }

  return {
    find: async (id) => {
      if (!isDocumentUrl(id) || !allowed(id)) return undefined
      let entry = cache.get(id)
      if (!entry || entry.until <= clock.now()) {
        let loading = pending.get(id)
        if (!loading) {
          loading = load(id).finally(() => pending.delete(id))
          pending.set(id, loading)
        }
        entry = await loading
        cache.set(id, entry)
      }
      if ('metadata' in entry) return entry.metadata
      throw new errors.InvalidClient(`the client id metadata document can not be used: ${entry.problem}`)
    },
  }
}

/** Whether the host of `id` is one of `domains`; `*.agent.example` is every host below it, and not itself. */
export function hostAllowed(id: string, domains: readonly string[]): boolean {
  const { hostname } = new URL(id)
  return domains.some((domain) =>
    domain.startsWith('*.') ? hostname.endsWith(domain.slice(1)) : hostname === domain,
  )
}

class DocumentRefused extends Error {}

async function bounded(response: Response): Promise<string> {
  const chunks: Uint8Array[] = []
  let size = 0
  for await (const chunk of response.body ?? []) {
    size += chunk.length
    if (size > documentLimits.bytes)
      throw new DocumentRefused(`it is larger than ${documentLimits.bytes} bytes`)
    chunks.push(chunk)
  }
  return Buffer.concat(chunks).toString('utf8')
}

function documentMetadata(id: string, text: string): ClientMetadata {
  let document: unknown
  try {
    document = JSON.parse(text)
  } catch {
    throw new DocumentRefused('it is not JSON')
  }
  if (typeof document !== 'object' || document === null || Array.isArray(document)) {
    throw new DocumentRefused('it is not a JSON object')
  }
  const fields = document as Record<string, unknown>
  if (fields.client_id !== id) throw new DocumentRefused('its client_id is not its own address')
  if ('client_secret' in fields || 'client_secret_expires_at' in fields) {
    throw new DocumentRefused('it holds a client_secret, which everyone can read')
  }
  const method = fields.token_endpoint_auth_method ?? 'none'
  if (method !== 'none' && method !== 'private_key_jwt') {
    throw new DocumentRefused('token_endpoint_auth_method must be none or private_key_jwt')
  }
  return { ...registrationMetadata({ ...fields, token_endpoint_auth_method: method }), client_id: id }
}

/** RFC 9111 §4.2.1 as far as it concerns a private cache: max-age, else Expires, else not at all; within our bounds. */
function cacheMs(headers: Headers, now: number): number {
  const control = (headers.get('cache-control') ?? '').toLowerCase()
  if (/\b(no-store|no-cache)\b/.test(control)) return minCacheMs
  const maxAge = /(?:^|[\s,])max-age="?(\d{1,10})/.exec(control)?.[1]
  const age = Number.parseInt(headers.get('age') ?? '0', 10) || 0
  const expires = Date.parse(headers.get('expires') ?? '')
  const fresh =
    maxAge !== undefined ? (Number(maxAge) - age) * 1000 : Number.isNaN(expires) ? 0 : expires - now
  return Math.min(maxCacheMs, Math.max(minCacheMs, fresh))
}
