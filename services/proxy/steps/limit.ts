import { Fault } from '../../../shared/faults.ts'
import { corsHeaders, hasOneHost, type Origins } from '../origins.ts'
import type { Run } from '../pipeline.ts'

export interface LimitDeps {
  readonly origins: Origins
  readonly gate: { readonly active: number; readonly max: number }
}

/**
 * May this request take any of our time? Over the limit it is refused, not queued: a queue in front of servers that
 * are already slow only adds to the wait, holds its memory, and answers clients that have long given up.
 */
export function limit({ origins, gate }: LimitDeps): Run {
  return (x) => {
    if (gate.active > gate.max) throw new Fault('http.busy')
    if (!hasOneHost(x.req)) throw new Fault('http.malformed', { detail: 'more than one Host header' })
    const { host, origin } = x.req.headers
    // HTTP/2 has :authority in its place.
    const authority = host ?? (x.req.headers as Record<string, string | undefined>)[':authority']
    if (!origins.host(authority))
      throw new Fault('http.host', { detail: `host ${String(authority).slice(0, 200)}` })
    if (origin === undefined) return
    if (!origins.origin(origin)) throw new Fault('http.origin', { detail: `origin ${origin.slice(0, 200)}` })
    x.reply.extra = corsHeaders(origin)
  }
}
