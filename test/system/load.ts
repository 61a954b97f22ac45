import { readFileSync } from 'node:fs'
import { createInterface } from 'node:readline'
import { Pool } from 'undici'
import { createAgent } from '../../installer/quickstart/agent.ts'
import { Http2Client } from './load-http2.ts'

/**
 * The load: a process on the container's network. Signs Ann in, opens a session, then keeps `connections` busy with
 * calls, one after the other on each, `http2` the same over HTTP/2, and `streams` with calls that stream. Lines on standard
 * input: `mark` closes a window and prints what happened in it, `kill <pid>` ends a process of this machine with SIGKILL,
 * `end` closes the last window and ends. Arguments: a JSON object.
 */
export interface LoadOptions {
  readonly url: string
  readonly caPath: string
  readonly email: string
  readonly password: string
  readonly connections: number
  readonly http2: number
  readonly streams: number
  /** Tenths of a second that a stream lasts. */
  readonly ticks: number
}

/** What a kill did. */
export interface Killed {
  /** Attempts that had begun and not ended when the process died. */
  readonly inFlight: number
  /** Failed attempts that began when clients could know which connections had died: `noticeMs` after it. */
  readonly failedLater: number
  /** From the kill until one that began after it was answered; null: none was. */
  readonly backMs: number | null
}

/** What happened between two marks. */
export interface Window {
  readonly requests: number
  readonly streams: number
  readonly failed: number
  /** How the failed ones failed, with how many of each. */
  readonly failures: Readonly<Record<string, number>>
  readonly killed: Killed | null
  /** The longest time without any answer. */
  readonly gapMs: number
  readonly p50Ms: number
  readonly p99Ms: number
  readonly seconds: number
}

/** A client that is busy learns late that a connection has ended, and may use it once more. */
const noticeMs = 100
const options = JSON.parse(process.argv[2] ?? '{}') as LoadOptions
const person = { email: options.email, password: options.password, account: 'ann' }
const agent = createAgent({
  url: options.url,
  caPath: options.caPath,
  person,
  clientName: 'load',
  era: 'legacy',
})
const client = await agent.connect()
await client.callTool({ name: 'load_lookup', arguments: { id: '1' } })
const h2 = Array.from({ length: options.http2 }, () => new Http2Client(options.url, options.caPath))
const accept = 'application/json, text/event-stream'
const headers: Record<string, string> = {
  authorization: `Bearer ${agent.provider.stored?.access_token}`,
  'content-type': 'application/json',
  accept,
}
const url = new URL(options.url)
const connect = { ca: readFileSync(options.caPath) }
const limits = { pipelining: 1, allowH2: false, connect, headersTimeout: 60_000, bodyTimeout: 60_000 }
const calls = new Pool(url.origin, { connections: options.connections, ...limits })
const streams = new Pool(url.origin, { connections: options.streams, ...limits })

const send = async (
  pool: Pool | Http2Client,
  body: object,
): Promise<{ status: number; text: string; session?: string }> => {
  const payload = JSON.stringify({ jsonrpc: '2.0', ...body })
  if (pool instanceof Http2Client) return pool.post(headers, payload)
  const answer = await pool.request({ path: url.pathname, method: 'POST', headers, body: payload })
  const session = answer.headers['mcp-session-id']
  const text = await answer.body.text()
  return { status: answer.statusCode, text, ...(typeof session === 'string' ? { session } : {}) }
}
const opening = {
  protocolVersion: '2025-11-25',
  capabilities: {},
  clientInfo: { name: 'load', version: '1' },
}
const opened = await send(calls, { id: 0, method: 'initialize', params: opening })
headers['mcp-session-id'] = opened.session ?? ''
headers['mcp-protocol-version'] = '2025-11-25'
await send(calls, { method: 'notifications/initialized' })

let ids = 0
const call = async (pool: Pool | Http2Client): Promise<void> => {
  const params = { name: 'load_lookup', arguments: { id: 'x' } }
  const { status, text } = await send(pool, { id: ++ids, method: 'tools/call', params })
  if (status !== 200 || !text.includes('xxxx')) throw new Error(`${status} ${text.slice(0, 200)}`)
}
const stream = async (): Promise<void> => {
  const id = ++ids
  const { ticks } = options
  const params = { name: 'load_watch', arguments: { ticks }, _meta: { progressToken: id } }
  const { status, text } = await send(streams, { id, method: 'tools/call', params })
  const seen = text.match(/notifications\/progress/g)?.length ?? 0
  if (status !== 200 || !text.includes('xxxx')) throw new Error(`stream: ${status} ${text.slice(-200)}`)
  if (seen < ticks) throw new Error(`stream: ${seen} of ${ticks} events`)
}

const fresh = () => ({
  began: performance.now(),
  answered: performance.now(),
  requests: 0,
  streams: 0,
  failures: {} as Record<string, number>,
  failed: 0,
  killedAt: Number.POSITIVE_INFINITY,
  killed: null as { inFlight: number; failedLater: number; backMs: number | null } | null,
  gapMs: 0,
  times: [] as number[],
})
let now = fresh()
let ending = false
let inFlight = 0

const attempt = async (work: () => Promise<void>, kind: 'requests' | 'streams'): Promise<void> => {
  const began = performance.now()
  inFlight++
  try {
    await work().finally(() => inFlight--)
    const at = performance.now()
    now[kind]++
    if (began >= now.killedAt && now.killed) now.killed.backMs ??= Math.round(at - now.killedAt)
    now.gapMs = Math.max(now.gapMs, at - now.answered)
    now.answered = at
    if (kind === 'requests') now.times.push(at - began)
  } catch (error) {
    const { code, message } = error as Error & { code?: string }
    const what = `${kind === 'streams' ? 'stream ' : ''}${code ?? ''} ${message}`.trim().slice(0, 300)
    now.failures[what] = (now.failures[what] ?? 0) + 1
    now.failed++
    if (now.killed && began >= now.killedAt + noticeMs) now.killed.failedLater++
    // A client that was cut off comes back, it does not hammer.
    await new Promise((resolve) => setTimeout(resolve, 20))
  }
}
const close = (): Window => {
  const { began, answered, times, killedAt: _, ...rest } = now
  const at = performance.now()
  times.sort((a, b) => a - b)
  const quantile = (share: number): number => Math.round(times[Math.floor(times.length * share)] ?? 0)
  now = fresh()
  return {
    ...rest,
    gapMs: Math.round(Math.max(rest.gapMs, at - answered)),
    p50Ms: quantile(0.5),
    p99Ms: quantile(0.99),
    seconds: (at - began) / 1000,
  }
}

const busy = [
  ...Array.from({ length: options.connections }, async () => {
    while (!ending) await attempt(() => call(calls), 'requests')
  }),
  ...h2.map(async (client) => {
    while (!ending) await attempt(() => call(client), 'requests')
  }),
  ...Array.from({ length: options.streams }, async () => {
    while (!ending) await attempt(stream, 'streams')
  }),
]
console.log('runs')
for await (const line of createInterface({ input: process.stdin })) {
  if (line === 'mark') console.log(JSON.stringify(close()))
  else if (line === 'requests') console.log(String(now.requests))
  else if (line.startsWith('kill ')) {
    process.kill(Number(line.slice(5)), 'SIGKILL')
    now.killedAt = performance.now()
    now.killed = { inFlight, failedLater: 0, backMs: null }
    console.log('killed')
  } else break
}
ending = true
await Promise.all(busy)
console.log(JSON.stringify(close()))
process.exit(0)
