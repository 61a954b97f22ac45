import { readFileSync } from 'node:fs'
import { createInterface } from 'node:readline'
import { Pool } from 'undici'

/**
 * The load generator, a process of its own. Reads one JSON job per line on stdin; says `warm` when every connection
 * is open and has answered, waits for a line, then measures and answers one JSON line: handshakes are not counted.
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

const warmUpRounds = 3

const toolName = (url: URL): string => url.searchParams.get('tool') ?? 'lookup'

async function run(job: Job, go: () => Promise<void>): Promise<Report> {
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
  const ask = async (id: number): Promise<void> => {
    const params = { name: tool, arguments: { id: `record-${id}` } }
    const body = JSON.stringify({ jsonrpc: '2.0', id, method: 'tools/call', params })
    const answer = await pool.request({ path: url.pathname, method: 'POST', headers, body })
    const text = await answer.body.text()
    if (answer.statusCode !== 200 || !text.includes('"result"') || !text.includes('xxxx')) {
      throw new Error(`${answer.statusCode} ${text.slice(0, 300)}`)
    }
  }
  const all = (work: (connection: number) => Promise<void>): Promise<unknown> =>
    Promise.all(Array.from({ length: job.connections }, (_, connection) => work(connection)))

  const times: number[] = []
  let sent = 0
  let errors = 0
  let firstError: string | null = null
  const attempt = async (id: number): Promise<void> => {
    const before = performance.now()
    try {
      await ask(id)
      times.push(performance.now() - before)
    } catch (error) {
      errors++
      firstError ??= String(error)
    }
  }
  for (let round = 0; round < warmUpRounds; round++) await all(attempt)
  times.length = 0
  await go()
  const start = performance.now()
  await all(async () => {
    while (sent < job.maxRequests && performance.now() - start < job.maxMs) await attempt(++sent)
  })
  const seconds = (performance.now() - start) / 1000
  void pool.close()
  times.sort((a, b) => a - b)
  const at = (share: number): number =>
    times[Math.min(times.length - 1, Math.floor(times.length * share))] ?? 0
  return { requests: times.length, errors, firstError, seconds, p50Ms: at(0.5), p99Ms: at(0.99) }
}

const lines = createInterface({ input: process.stdin })[Symbol.asyncIterator]()
for (;;) {
  const line = await lines.next()
  if (line.done) break
  const report = await run(JSON.parse(line.value) as Job, async () => {
    console.log('warm')
    await lines.next()
  })
  console.log(JSON.stringify(report))
}
