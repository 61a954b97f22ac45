import { createLogger } from '../../../shared/log.ts'
import { createValkey, type Valkey } from '../../../shared/valkey.ts'
import { startRedis, type TestRedis } from '../../rig/redis.ts'
import { type Message, startWorkers, type Worker } from '../peers/workers.ts'
import { startKeeper } from './keeper.ts'

export async function open(worker: Worker): Promise<Record<string, string>> {
  const params = { protocolVersion: '2025-11-25', capabilities: {}, clientInfo: { name: 'c', version: '1' } }
  const { status, headers } = await worker.ask({ id: 0, method: 'initialize', params })
  if (status !== 200) throw new Error(`initialize answered ${status}`)
  return { 'mcp-session-id': String(headers['mcp-session-id']) }
}

export async function connect(redis: TestRedis): Promise<Valkey> {
  const client = createValkey(redis.settings, createLogger('test', 'off'))
  await client.connect()
  return client
}

/** Gateways that share nothing but the store: each has one worker. */
export async function startGateway(
  t: { teardown(end: () => Promise<void>): void },
  redis: TestRedis,
  url: string,
) {
  const workers = await startWorkers({
    servers: [{ prefix: 'a', url }],
    config: { sessionStore: 'x' },
    env: { AEMBIT_VALKEY: JSON.stringify(redis.settings) },
  })
  t.teardown(() => workers.close())
  const worker = await workers.start()
  await worker.until(
    (report) =>
      report.type === 'check' && report.check === 'proxy.sessionStore' && report.status === 'running',
  )
  return worker
}

type Headers = Record<string, string>

const updated = 'notifications/resources/updated'
/** What came to a session before its answers, not looked at yet. */
const told = new WeakMap<Headers, Message[]>()

export async function ask(worker: Worker, headers: Headers, method: string, params: object = {}) {
  const heard = told.get(headers) ?? []
  told.set(headers, heard)
  const onMessage = (message: Message): void => {
    if (message.method) heard.push(message)
  }
  const { status, last } = await worker.ask({ id: 1, method, params }, { headers, onMessage })
  return { status, result: last?.result }
}

export async function count(worker: Worker, headers: Headers): Promise<string | undefined> {
  const { result } = await ask(worker, headers, 'tools/call', { name: 'a_count' })
  return result?.content?.[0]?.text
}

/** Asks until it was told of the resource. */
export async function toldOf(worker: Worker, headers: Headers): Promise<Message> {
  for (;;) {
    const heard = told.get(headers) ?? []
    const at = heard.findIndex(({ method }) => method === updated)
    if (at !== -1) return heard.splice(at, 1)[0]
    await ask(worker, headers, 'ping')
  }
}

/** A store, a server, and as many gateways as the test wants. */
export async function start(t: { teardown(end: () => Promise<void>): void }) {
  const redis = await startRedis()
  const server = await startKeeper()
  const client = await connect(redis)
  t.teardown(async () => {
    client.disconnect()
    await redis.close()
    await server.close()
  })
  return { server, client, gateway: () => startGateway(t, redis, server.url) }
}
