import { type ChildProcess, fork } from 'node:child_process'
import { once } from 'node:events'
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import { createServer as createH2Server } from 'node:http2'
import { createServer as createNetServer, type Socket } from 'node:net'
import { fileURLToPath } from 'node:url'
import { bindTcp, type OwnedSocket } from '../../services/supervisor/listeners.ts'
import type { Command, ConfigOf, Report } from '../../shared/ipc/contract.ts'
import { createProxyHeaderReader, type ProxyInfo } from '../../shared/proxy-protocol.ts'

/** A proxy of few words on a unix socket: reads the PROXY header and answers each request with what it saw. */
export interface FakeProxy {
  readonly path: string
  readonly infos: ProxyInfo[]
  readonly sockets: Set<Socket>
  close(): Promise<void>
}

export type Handler = (request: IncomingMessage, response: ServerResponse, info: ProxyInfo) => void

export async function startFakeProxy(path: string, handler?: Handler): Promise<FakeProxy> {
  const infos: ProxyInfo[] = []
  const sockets = new Set<Socket>()
  const byPort = new Map<Socket, ProxyInfo>()
  const answer = (request: IncomingMessage, response: ServerResponse): void => {
    const info = byPort.get(request.socket) ?? infos.at(-1)
    if (!info) throw new Error('a request without a PROXY header')
    if (handler) {
      handler(request, response, info)
      return
    }
    request.resume()
    request.on('end', () => response.end(JSON.stringify({ info, url: request.url, proxy: path })))
  }
  const http = createServer(answer)
  const h2 = createH2Server((request, response) => {
    response.end(JSON.stringify({ info: infos.at(-1), url: request.url, proxy: path }))
  })
  const server = createNetServer({ allowHalfOpen: true }, (socket) => {
    const reader = createProxyHeaderReader()
    sockets.add(socket)
    socket.on('error', () => {})
    socket.on('close', () => sockets.delete(socket))
    const onReadable = (): void => {
      const chunk: Buffer | null = socket.read()
      if (chunk === null) return
      const header = reader.push(chunk)
      if (!header) return
      socket.off('readable', onReadable)
      infos.push(header.info)
      byPort.set(socket, header.info)
      if (header.rest.length > 0) socket.unshift(header.rest)
      if (header.info.alpn === 'h2') h2.emit('connection', socket)
      else http.emit('connection', socket)
    }
    socket.on('readable', onReadable)
  })
  server.listen(path)
  await once(server, 'listening')
  return {
    path,
    infos,
    sockets,
    close: async () => {
      const closed = once(server, 'close')
      server.close()
      for (const socket of sockets) socket.destroy()
      await closed
    },
  }
}

export interface RunningFront {
  readonly child: ChildProcess
  readonly port: number
  readonly httpPort: number
  readonly reports: Report<'front'>[]
  send(command: Command<'front'>): void
  /** Resolves with the first report that fits, of those already there and those to come. */
  report<T extends Report<'front'>['type']>(
    type: T,
    fits?: (report: Extract<Report<'front'>, { type: T }>) => boolean,
  ): Promise<Extract<Report<'front'>, { type: T }>>
  config(changes?: Partial<ConfigOf['front']>): ConfigOf['front']
  stop(): Promise<void>
}

const script = fileURLToPath(new URL('../../services/front/main.ts', import.meta.url))

/** The real front as a child, configured and told of `proxies`, on ports of its own. */
export async function startFront(
  tls: ConfigOf['front']['tls'],
  proxies: string[],
  changes: Partial<ConfigOf['front']> = {},
  ports = { https: 0, http: 0 },
): Promise<RunningFront> {
  const https: OwnedSocket = bindTcp('127.0.0.1', ports.https, 'TEST')
  const http: OwnedSocket = bindTcp('127.0.0.1', ports.http, 'TEST')
  const child = fork(script, [], {
    execArgv: [],
    stdio: ['ignore', 'inherit', 'inherit', 'ipc', https.fd, http.fd],
  })
  const reports: Report<'front'>[] = []
  const listeners = new Set<() => void>()
  child.on('message', (message) => {
    reports.push(message as Report<'front'>)
    for (const listener of listeners) listener()
  })
  const config = (more: Partial<ConfigOf['front']> = {}): ConfigOf['front'] => ({
    logLevel: 'off',
    origin: 'https://gw.example:8443',
    listeners: { https: { fd: 4 }, http: { fd: 5 } },
    tls,
    maxConnections: 100,
    handshakeTimeoutMs: 5_000,
    proxyWaitMs: 3_000,
    successionPath: null,
    ...changes,
    ...more,
  })
  const front: RunningFront = {
    child,
    port: https.port,
    httpPort: http.port,
    reports,
    config,
    send: (command) => void child.send(command),
    report: (type, fits = () => true) =>
      new Promise((resolve) => {
        const look = (): void => {
          for (const report of reports) {
            if (report.type !== type) continue
            const found = report as Extract<Report<'front'>, { type: typeof type }>
            if (!fits(found)) continue
            listeners.delete(look)
            resolve(found)
            return
          }
        }
        listeners.add(look)
        look()
      }),
    stop: async () => {
      https.close()
      http.close()
      if (child.exitCode !== null || child.signalCode !== null) return
      const exited = once(child, 'exit')
      child.kill('SIGKILL')
      await exited
    },
  }
  await front.report('hello')
  front.send({ type: 'configure', epoch: 1, config: config() })
  front.send({ type: 'proxies', sockets: proxies })
  await front.report('applied')
  return front
}
