import type { ServerWorkload } from '../../../../shared/wire/snapshot.ts'
import { isResponse, parseMessage } from '../protocol/jsonrpc.ts'
import { pause } from '../stop.ts'
import { openEventStream } from './event-stream.ts'
import type { BrokenStream, Exchanged, ExchangeOptions } from './exchange.ts'
import type { UpstreamHttp } from './http.ts'

/** Waits where the server named none, and at least and at most whatever it named. */
const retryMs = 1_000
const shortestRetryMs = 100
const longestRetryMs = 30_000
/** Connections in a row that bring no event. */
const maxBarren = 5

/**
 * Goes on with a stream that ended before its answer, from the last event that arrived (MCP 2025-11-25, streamable HTTP,
 * resumability and redelivery; sessions of the older era alone). Resolves with the answer; rejects with the stop's
 * reason, or with what broke the stream where the server does not resume it.
 */
export async function resume(
  http: UpstreamHttp,
  server: ServerWorkload,
  options: ExchangeOptions,
  broken: BrokenStream,
): Promise<Exchanged> {
  let { lastEventId, retry } = broken
  for (let barren = 0; barren < maxBarren; barren++) {
    await pause(Math.min(Math.max(retry ?? retryMs, shortestRetryMs), longestRetryMs), options.stop)
    const stream = await follow(http, server, options, lastEventId)
    if (stream.answer) return stream.answer
    if (stream.refused) break
    if (stream.lastEventId !== undefined && stream.lastEventId !== lastEventId) {
      lastEventId = stream.lastEventId
      barren = -1
    }
    retry = stream.retry ?? retry
  }
  throw broken.fault
}

interface Followed {
  answer?: Exchanged
  /** The server does not resume: it has no such stream. */
  refused: boolean
  lastEventId: string | undefined
  retry: number | undefined
}

function follow(
  http: UpstreamHttp,
  server: ServerWorkload,
  { headers, message, stop, limit, onMessage }: ExchangeOptions,
  lastEventId: string,
): Promise<Followed> {
  const id = message && 'id' in message ? message.id : undefined
  return new Promise((resolve, reject) => {
    const giveUp = (reason: Error): void => {
      reject(reason)
      stream.close()
    }
    let answer: Exchanged | undefined
    const stream = openEventStream(http, server, {
      headers: { ...headers, 'last-event-id': lastEventId },
      limit,
      onEvent: ({ event, data }) => {
        const next = event === 'message' && data !== '' ? parseMessage(data) : undefined
        if (!next) return
        if (!isResponse(next)) return onMessage?.(next)
        if (next.id !== id) return
        answer = { status: 200, headers: {}, response: next, text: data }
        http.measures.answered(message, next.error ? 'error' : 'success')
        stream.close()
      },
      onEnd: ({ status, fault }) => {
        stop.off(giveUp)
        if (fault && fault.code !== 'upstream.unreachable') return reject(fault)
        const refused = status !== 200 && status !== 0 && status < 500
        const { lastEventId: newest, retryMs: retry } = stream
        resolve({ ...(answer ? { answer } : {}), refused, lastEventId: newest, retry })
      },
    })
    stop.on(giveUp)
  })
}
