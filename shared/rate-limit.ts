import ipaddr from 'ipaddr.js'
import { LRUCache } from 'lru-cache'
import type { Clock } from './clock.ts'

export interface RateLimit {
  /** 0 where `address` may go on (and spends one); else the milliseconds to wait. */
  take(address: string): number
}

/** A token bucket per client address (an IPv6 /64 is one), for at most 10,000 addresses. */
export function createRateLimit(clock: Clock, burst: number, refillMs: number): RateLimit {
  const buckets = new LRUCache<string, { tokens: number; at: number }>({ max: 10_000 })
  return {
    take: (address) => {
      const key = group(address)
      const now = clock.now()
      const bucket = buckets.get(key) ?? { tokens: burst, at: now }
      const tokens = Math.min(burst, bucket.tokens + Math.max(0, now - bucket.at) / refillMs)
      const allowed = tokens >= 1
      buckets.set(key, { tokens: allowed ? tokens - 1 : tokens, at: now })
      return allowed ? 0 : Math.ceil((1 - tokens) * refillMs)
    },
  }
}

function group(address: string): string {
  if (!ipaddr.isValid(address)) return address
  const parsed = ipaddr.process(address)
  return parsed.kind() === 'ipv6' ? parsed.toByteArray().slice(0, 8).join('.') : parsed.toString()
}
