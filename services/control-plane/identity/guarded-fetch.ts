import { isIP } from 'node:net'
import { Agent, fetch as undiciFetch } from 'undici'
import { boundedAnswer } from '../../../shared/bounded-answer.ts'
import { Fault } from '../../../shared/faults.ts'
import { createNetworkGuard } from '../../../shared/networks.ts'

export interface GuardedFetch {
  (url: string, options?: Record<string, unknown>): Promise<Response>
  close(): Promise<void>
}

/**
 * `fetch` for a URL that a configuration or a client chose: addresses outside public space only where `allowed`
 * (CIDR) names them, checked when connecting; redirects are not followed; answers are bounded in time and size, also in what they decode to.
 */
export function createGuardedFetch(
  allowed: readonly string[],
  limits = { timeoutMs: 10_000, bytes: 1024 * 1024 },
): GuardedFetch {
  const guard = createNetworkGuard(allowed)
  const agent = new Agent({
    connect: { lookup: guard.lookup, timeout: limits.timeoutMs },
    headersTimeout: limits.timeoutMs,
    bodyTimeout: limits.timeoutMs,
    maxResponseSize: limits.bytes,
    connections: 8,
  })
  const call = async (url: string, options: Record<string, unknown> = {}): Promise<Response> => {
    const { hostname, protocol } = new URL(url)
    if (protocol !== 'https:' && protocol !== 'http:') {
      throw new Fault('upstream.blocked', { detail: `${protocol} is not fetched` })
    }
    const literal = hostname.replace(/^\[|\]$/g, '')
    // A literal address never passes through lookup.
    if (isIP(literal)) guard.check(literal)
    const given = options.signal instanceof AbortSignal ? [options.signal] : []
    const response = await undiciFetch(url, {
      ...options,
      redirect: 'manual',
      signal: AbortSignal.any([AbortSignal.timeout(limits.timeoutMs), ...given]),
      dispatcher: agent,
    } as Parameters<typeof undiciFetch>[1])
    return boundedAnswer(response as unknown as Response, url, limits.bytes)
  }
  return Object.assign(call, { close: () => agent.close() })
}
