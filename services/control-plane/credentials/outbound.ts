import dns from 'node:dns/promises'
import ipaddr from 'ipaddr.js'
import { Fault } from '../../../shared/faults.ts'
import { createGuardedFetch, type GuardedFetch } from '../identity/guarded-fetch.ts'

/** Requests to URLs that somebody else chose: a server's metadata, its authorization server's endpoints. */
export interface Outbound {
  /** Network-guarded, no redirects, bounded in time and size. Throws a Fault for everything but an answer. */
  fetch(url: string, options?: Record<string, unknown>): Promise<Response>
  /** A 200 of JSON as an object; undefined for 404 and other 4xx. Throws a Fault otherwise. */
  document(url: string): Promise<Record<string, unknown> | undefined>
  /** Throws `upstream.blocked` unless the URL is https, or http to a private network that is allowed. */
  checkUrl(url: string): Promise<void>
  close(): Promise<void>
}

const limits = { timeoutMs: 10_000, bytes: 256 << 10 }

/** `allowed`: CIDR blocks in private space that may be called as well. */
export function createOutbound(allowed: readonly string[]): Outbound {
  const guarded: GuardedFetch = createGuardedFetch(allowed, limits)

  /** A code or token never travels in the clear over a network that is not the operator's own. */
  const checkUrl = async (text: string): Promise<void> => {
    const url = URL.canParse(text) ? new URL(text) : undefined
    if (!url || url.username || url.password || url.hash || !['https:', 'http:'].includes(url.protocol)) {
      throw blocked('a URL that is not plain http(s)')
    }
    if (url.protocol === 'https:') return
    if (allowed.length === 0) throw blocked(`${url.origin} is not https`)
    const host = url.hostname.replace(/^\[|\]$/g, '')
    const addresses = ipaddr.isValid(host) ? [host] : await resolve(host)
    if (addresses.some((address) => ipaddr.process(address).range() === 'unicast')) {
      throw blocked(`${url.origin} is in public space and not https`)
    }
  }

  const call = async (url: string, options: Record<string, unknown> = {}): Promise<Response> => {
    await checkUrl(url)
    let response: Response
    try {
      response = await guarded(url, options)
    } catch (error) {
      throw asFault(error, url)
    }
    if (response.status >= 300 && response.status < 400) {
      await response.body?.cancel().catch(() => {})
      throw new Fault('upstream.rejected', {
        detail: `${place(url)} answered a redirect, which is not followed`,
      })
    }
    return response
  }

  return {
    fetch: call,
    checkUrl,
    close: () => guarded.close(),
    document: async (url) => {
      const response = await call(url, { headers: { accept: 'application/json' } })
      if (response.status !== 200) {
        await response.body?.cancel().catch(() => {})
        if (response.status >= 500) {
          throw new Fault('upstream.rejected', { detail: `${place(url)} answered ${response.status}` })
        }
        return undefined
      }
      try {
        const value: unknown = await response.json()
        if (typeof value === 'object' && value !== null && !Array.isArray(value)) {
          return value as Record<string, unknown>
        }
      } catch (error) {
        const fault = asFault(error, url)
        if (fault.code !== 'upstream.unreachable') throw fault
      }
      throw new Fault('upstream.garbage', { detail: `${place(url)} is no JSON object` })
    },
  }
}

async function resolve(host: string): Promise<string[]> {
  try {
    return (await dns.lookup(host, { all: true })).map(({ address }) => address)
  } catch (cause) {
    throw new Fault('upstream.unreachable', { detail: `${host} does not resolve`, cause })
  }
}

/** Without its query, which may hold a code. */
function place(url: string): string {
  const { origin, pathname } = new URL(url)
  return origin + pathname
}

function blocked(detail: string): Fault {
  return new Fault('upstream.blocked', { detail })
}

/** What lies at the bottom of a failed fetch. */
export function asFault(error: unknown, url: string): Fault {
  for (let at: unknown = error, depth = 0; at instanceof Error && depth < 8; at = at.cause, depth += 1) {
    if (at instanceof Fault) return at
    if (at.name === 'TimeoutError') return new Fault('upstream.timeout', { detail: place(url), cause: error })
    if ('code' in at && at.code === 'UND_ERR_RES_EXCEEDED_MAX_SIZE') {
      return new Fault('upstream.too_large', { detail: `${place(url)}: over ${limits.bytes} bytes` })
    }
  }
  const why =
    error instanceof Error ? (error.cause instanceof Error ? error.cause.message : error.message) : ''
  return new Fault('upstream.unreachable', { detail: `${place(url)}: ${why}`, cause: error })
}
