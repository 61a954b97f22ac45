import { readFileSync } from 'node:fs'
import { createInterface } from 'node:readline'
import { Pool } from 'undici'

/**
 * The load generator, a process of its own. Reads one JSON job per line on stdin, answers one JSON line each.
 * Closed loop: each connection sends its next request when the last one is answered.
 */
export interface Job {
  readonly url: string
  readonly caPath: string | null
  readonly headers: Record<string, string>
  readonly connections: number
  /** Ends at whichever comes first. */
  readonly maxRequests: number
  readonly maxMs: number
}

export interface Report {
  readonly requests: number
  readonly errors: number
  readonly firstError: string | null
  readonly seconds: number
  readonly p50Ms: number
  readonly p99Ms: number
}

const toolName = (url: URL): string => url.searchParams.get('tool') ?? 'lookup'

async function run(job: Job): Promise<Report> {
  const url = new URL(job.url)
  const tool = toolName(url)
  url.search = ''
  const pool = new Pool(url.origin, {
    connections: job.connections,
    pipelining: 1,
    // The floor speaks HTTP/1.1 alone: like with like.
    allowH2: false,
    ...(job.caPath ? { connect: { ca: readFileSync(job.caPath) } } : {}),
  })
  const headers = {
    'content-type': 'application/json',
    accept: 'application/json, text/event-stream',
    ...job.headers,
  }
  const times: number[] = []
  let sent = 0
  let errors = 0
  let firstError: string | null = null
  const start = performance.now()
  const one = async (): Promise<void> => {
    while (sent < job.maxRequests && performance.now() - start < job.maxMs) {
      const id = ++sent
      const body = JSON.stringify({
        jsonrpc: '2.0',
        id,
        method: 'tools/call',
        params: { name: tool, arguments: { id: `record-${id}` } },
      })
      const before = performance.now()
      try {
        const answer = await pool.request({ path: url.pathname, method: 'POST', headers, body })
        const text = await answer.body.text()
        if (answer.statusCode !== 200 || !text.includes('"result"') || !text.includes('xxxx')) {
          throw new Error(`${answer.statusCode} ${text.slice(0, 300)}`)
        }
        times.push(performance.now() - before)
      } catch (error) {
        errors++
        firstError ??= String(error)
      }
    }
  }
  await Promise.all(Array.from({ length: job.connections }, one))
  const seconds = (performance.now() - start) / 1000
  await pool.close()
  times.sort((a, b) => a - b)
  const at = (share: number): number =>
    times[Math.min(times.length - 1, Math.floor(times.length * share))] ?? 0
  return { requests: times.length, errors, firstError, seconds, p50Ms: at(0.5), p99Ms: at(0.99) }
}

if (import.meta.main) {
  for await (const line of createInterface({ input: process.stdin })) {
    console.log(JSON.stringify(await run(JSON.parse(line) as Job)))
  }
}
