import { readFileSync } from 'node:fs'
import { createInterface } from 'node:readline'
import { Pool } from 'undici'
import { createAgent } from '../../installer/quickstart/agent.ts'

/**
 * The load: a process on the container's network. Signs Ann in, opens a session, then keeps `connections` busy with
 * calls, one after the other on each, and `streams` with calls that stream. Lines on standard input: `mark` closes a
 * window and prints what happened in it, `end` closes the last and ends. Arguments: a JSON object.
 */
export interface LoadOptions {
  readonly url: string
  readonly caPath: string
  readonly email: string
  readonly password: string
  readonly connections: number
  readonly streams: number
  /** Tenths of a second that a stream lasts. */
  readonly ticks: number
}

/** What happened between two marks. */
export interface Window {
  readonly requests: number
  readonly streams: number
  readonly failed: number
  /** How the failed ones failed, with how many of each. */
  readonly failures: Readonly<Record<string, number>>
  /** From the mark until a request that began after it was answered; null: none was. */
  readonly backMs: number | null
  /** The longest time without any answer. */
  readonly gapMs: number
  readonly p50Ms: number
  readonly p99Ms: number
  readonly seconds: number
}

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
  pool: Pool,
  body: object,
): Promise<{ status: number; text: string; session?: string }> => {
  const payload = JSON.stringify({ jsonrpc: '2.0', ...body })
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
const call = async (): Promise<void> => {
  const params = { name: 'load_lookup', arguments: { id: 'x' } }
  const { status, text } = await send(calls, { id: ++ids, method: 'tools/call', params })
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
  backMs: null as number | null,
  gapMs: 0,
  times: [] as number[],
})
let now = fresh()
let ending = false

const attempt = async (work: () => Promise<void>, kind: 'requests' | 'streams'): Promise<void> => {
  const began = performance.now()
  try {
    await work()
    const at = performance.now()
    now[kind]++
    if (began >= now.began) now.backMs ??= at - now.began
    now.gapMs = Math.max(now.gapMs, at - now.answered)
    now.answered = at
    if (kind === 'requests') now.times.push(at - began)
  } catch (error) {
    const { code, message } = error as Error & { code?: string }
    const what = `${kind === 'streams' ? 'stream ' : ''}${code ?? ''} ${message}`.trim().slice(0, 300)
    now.failures[what] = (now.failures[what] ?? 0) + 1
    now.failed++
    // A client that was cut off comes back, it does not hammer.
    await new Promise((resolve) => setTimeout(resolve, 20))
  }
}
const close = (): Window => {
  const { began, answered, times, ...rest } = now
  const at = performance.now()
  times.sort((a, b) => a - b)
  const quantile = (share: number): number => Math.round(times[Math.floor(times.length * share)] ?? 0)
  now = fresh()
  return {
    ...rest,
    gapMs: Math.round(Math.max(rest.gapMs, at - answered)),
    backMs: rest.backMs === null ? null : Math.round(rest.backMs),
    p50Ms: quantile(0.5),
    p99Ms: quantile(0.99),
    seconds: (at - began) / 1000,
  }
}

const busy = [
  ...Array.from({ length: options.connections }, async () => {
    while (!ending) await attempt(call, 'requests')
  }),
  ...Array.from({ length: options.streams }, async () => {
    while (!ending) await attempt(stream, 'streams')
  }),
]
console.log('runs')
for await (const line of createInterface({ input: process.stdin })) {
  if (line === 'mark') console.log(JSON.stringify(close()))
  else if (line === 'requests') console.log(String(now.requests))
  else break
}
ending = true
await Promise.all(busy)
console.log(JSON.stringify(close()))
process.exit(0)
