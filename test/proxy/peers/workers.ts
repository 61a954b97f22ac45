import { type ChildProcess, fork } from 'node:child_process'
import { createHash } from 'node:crypto'
import { once } from 'node:events'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { request as httpRequest, type IncomingHttpHeaders } from 'node:http'
import { connect } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { ConfigOf, Report } from '../../../shared/ipc/contract.ts'
import { encodeProxyHeader } from '../../../shared/proxy-protocol.ts'
import { FakeSync, origin, snapshot, token } from '../edge/fakes.ts'

export interface Worker {
  readonly id: string
  readonly process: ChildProcess
  readonly config: ConfigOf['proxy']
  readonly reports: Report<'proxy'>[]
  until(fits: (report: Report<'proxy'>) => boolean): Promise<Report<'proxy'>>
  ask(message: object | null, options?: AskOptions): Promise<WorkerAnswer>
  drain(deadlineMs: number): Promise<number | null>
  kill(): Promise<void>
}

export interface AskOptions {
  readonly headers?: Record<string, string>
  readonly token?: string
  /** Each message of an event stream as it comes. */
  readonly onMessage?: (message: Message) => void
  readonly signal?: AbortSignal
}

// biome-ignore lint/suspicious/noExplicitAny: answers are inspected field by field, and a missing one fails the test
export type Message = any

export interface WorkerAnswer {
  readonly status: number
  readonly headers: IncomingHttpHeaders
  readonly last: Message
}

export interface WorkersOptions {
  readonly servers: readonly { prefix: string; url: string }[]
  readonly config?: Partial<ConfigOf['proxy']>
  readonly env?: Record<string, string>
}

/** Real proxy processes of one gateway, told of each other as the supervisor does; `ask` picks which one is asked. */
export async function startWorkers(options: WorkersOptions) {
  const dir = await mkdtemp(join(tmpdir(), 'peers-'))
  const sync = new FakeSync()
  const syncSocketPath = join(dir, 'sync.sock')
  sync.server.listen(syncSocketPath)
  await once(sync.server, 'listening')
  const content = JSON.stringify(
    snapshot(1, {
      servers: options.servers.map(({ prefix, url }) => ({
        id: prefix,
        name: prefix,
        prefix,
        url,
        credential: 'none',
        allowedNetworks: ['127.0.0.0/8'],
      })),
      policies: [
        ...snapshot(1).policies,
        ...options.servers.map(({ prefix }) => ({
          id: `use-${prefix}`,
          name: prefix,
          version: 1,
          active: true,
          kind: 'gateway-to-server' as const,
          serverWorkload: prefix,
          trustProviders: [],
        })),
      ],
    }),
  )
  const path = join(dir, 'snapshot.json')
  await writeFile(path, content)
  const ref = { version: 1, path, sha256: createHash('sha256').update(content).digest('hex') }
  const valid = await token()
  const workers: Worker[] = []

  const tell = (): void => {
    const peers = workers.map(({ config }) => config.peer)
    for (const { process } of workers) if (process.connected) process.send({ type: 'peers', peers })
  }

  /** One more worker; resolves when all its checks run. */
  const start = async (): Promise<Worker> => {
    const at = workers.length
    const id = `${at}.1`
    const config: ConfigOf['proxy'] = {
      logLevel: 'off',
      version: '0.0.0',
      worker: at,
      origin,
      mcpPath: '/mcp',
      publicPort: 8443,
      socketPath: join(dir, `proxy-${id}.sock`),
      successionPath: null,
      peer: { id, socketPath: join(dir, `peer-${id}.sock`) },
      syncSocketPath,
      stdioSocketPath: null,
      controlPlaneSocketPath: null,
      spoolDir: join(dir, 'spool'),
      sessionIdleTtlSecs: 3600,
      sessionStore: null,
      timeouts: { initialize: 10_000, tools_call: 30_000, tools_list: 10_000 },
      trustedIssuerDomains: [],
      allowedOrigins: [],
      snapshotMaxAgeMs: 3_600_000,
      limits: {
        bodyBytes: 1 << 20,
        bodyTimeoutMs: 5_000,
        depth: 64,
        concurrent: 64,
        responseBytes: 1 << 20,
      },
      ...options.config,
    }
    const process = fork('services/proxy/main.ts', {
      silent: true,
      env: { ...globalThis.process.env, ...options.env },
    })
    const reports: Report<'proxy'>[] = []
    process.on('message', (message) => reports.push(message as Report<'proxy'>))
    const until: Worker['until'] = async (fits) => {
      for (;;) {
        const found = reports.find(fits)
        if (found) return found
        await once(process, 'message')
      }
    }
    const worker: Worker = {
      id,
      process,
      config,
      reports,
      until,
      ask: (message, more) => ask(config.socketPath, message, { token: valid, ...more }),
      drain: async (deadlineMs) => {
        const ended = once(process, 'exit')
        process.send({ type: 'drain', deadlineMs })
        const [code] = await ended
        return code
      },
      kill: async () => {
        if (process.exitCode !== null || process.signalCode !== null) return
        const ended = once(process, 'exit')
        process.kill('SIGKILL')
        await ended
      },
    }
    workers.push(worker)
    await until(({ type }) => type === 'hello')
    process.send({ type: 'configure', epoch: 1, config })
    tell()
    process.send({ type: 'snapshot', ref, confirmedAt: Date.now() })
    for (const check of ['proxy.socket', 'proxy.snapshot', 'proxy.sync', 'proxy.peers']) {
      await until(
        (report) => report.type === 'check' && report.check === check && report.status === 'running',
      )
    }
    return worker
  }

  return {
    start,
    close: async () => {
      await Promise.all(workers.map((worker) => worker.kill()))
      for (const stream of sync.streams) stream.destroy()
      sync.server.closeAllConnections()
      sync.server.close()
      await rm(dir, { recursive: true, force: true })
    },
  }
}

/** One request, or an array as a batch, on a connection of its own, as front hands it over. Null: DELETE. */
function ask(
  socketPath: string,
  message: object | null,
  { headers, token: bearer, onMessage, signal }: AskOptions,
): Promise<WorkerAnswer> {
  return new Promise((resolve, reject) => {
    const socket = connect(socketPath)
    const at = { address: '127.0.0.1', port: 1 }
    socket.write(
      encodeProxyHeader({ source: at, destination: at, alpn: null, authority: null, tlsVersion: null }),
    )
    const request = httpRequest({
      method: message === null ? 'DELETE' : 'POST',
      path: '/mcp',
      headers: {
        host: new URL(origin).host,
        authorization: `Bearer ${bearer}`,
        accept: 'application/json, text/event-stream',
        ...(message === null ? {} : { 'content-type': 'application/json' }),
        ...headers,
      },
      createConnection: () => socket,
      ...(signal ? { signal } : {}),
    })
    request.on('error', reject)
    request.on('response', (response) => {
      let text = ''
      let last: Message
      const stream = response.headers['content-type']?.startsWith('text/event-stream')
      response.setEncoding('utf8')
      response.on('data', (chunk) => {
        text += chunk
        for (let end = text.indexOf('\n\n'); stream && end !== -1; end = text.indexOf('\n\n')) {
          const data = /^data: (.*)$/m.exec(text.slice(0, end))?.[1]
          text = text.slice(end + 2)
          if (data === undefined) continue
          last = JSON.parse(data)
          onMessage?.(last)
        }
      })
      response.on('error', reject)
      response.on('end', () => {
        if (!stream && text !== '') last = JSON.parse(text)
        resolve({ status: response.statusCode ?? 0, headers: response.headers, last })
      })
    })
    request.end(message === null ? undefined : JSON.stringify(written(message)))
  })
}

/** A modern request with the headers that its body asks for. */
export function modern(
  method: string,
  params: Record<string, unknown> & { name?: string },
  capabilities = {},
) {
  const _meta = {
    'io.modelcontextprotocol/protocolVersion': '2026-07-28',
    'io.modelcontextprotocol/clientCapabilities': capabilities,
  }
  return {
    message: { id: 1, method, params: { ...params, _meta } },
    headers: {
      'mcp-protocol-version': '2026-07-28',
      'mcp-method': method,
      ...(params.name === undefined ? {} : { 'mcp-name': params.name }),
    },
  }
}

const written = (message: object): object =>
  Array.isArray(message) ? message.map(written) : { jsonrpc: '2.0', ...message }
