import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import type { Agent } from 'node:https'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import { ask as askOperator } from '../../services/supervisor/cli-client.ts'
import type { SlotLimits } from '../../services/supervisor/slot.ts'
import type { GatewayStatus } from '../../services/supervisor/status.ts'
import { type Answer, ask } from '../front/requests.ts'
import { freePort } from '../rig/free-port.ts'
import { makeCertificate, type TestCertificate } from './certificates.ts'

export type LogLine = Record<string, unknown> & { msg: string; level: string }

export interface GatewayRig {
  readonly dir: string
  readonly env: Record<string, string>
  readonly process: ChildProcess
  readonly port: number
  readonly httpPort: number
  readonly metricsPort: number
  readonly operatorSocket: string
  readonly certificate: TestCertificate
  readonly log: LogLine[]
  readonly exited: Promise<{ code: number | null; signal: string | null; stderr: string }>
  /** Resolves with the first line that fits, of those already there and those to come; rejects when it has exited. */
  line(fits: (line: LogLine) => boolean): Promise<LogLine>
  ready(): Promise<LogLine>
  status(): Promise<GatewayStatus>
  /** Polls `status` until it fits. */
  until(fits: (status: GatewayStatus) => boolean): Promise<GatewayStatus>
  pid(name: string): Promise<number>
  operator(path: string): Promise<{ status: number; body: unknown }>
  get(path?: string, agent?: Agent): Promise<Answer>
  stop(): Promise<void>
}

export interface GatewayRigOptions {
  readonly env?: Record<string, string>
  readonly limits?: Partial<SlotLimits>
  /** Descriptors 3 and 4, passed as systemd passes them. */
  readonly inherited?: readonly number[]
  readonly port?: number
}

const main = fileURLToPath(new URL('fakes/gateway.ts', import.meta.url))

/** Starts supervisor and front, real ones, with small proxies and sync. Call `stop` in a teardown. */
export function startGateway({
  env = {},
  limits = {},
  inherited = [],
  port = freePort(),
}: GatewayRigOptions = {}): GatewayRig {
  const dir = mkdtempSync(join(tmpdir(), 'gw-'))
  mkdirSync(join(dir, 'flags'))
  writeFileSync(join(dir, 'flags/env'), `FAKE_DIR=${join(dir, 'flags')}\n`)
  const certificate = makeCertificate(dir, 'first')
  const httpPort = freePort()
  const metricsPort = freePort()
  const all: Record<string, string> = {
    AEMBIT_AUTHORIZATION_SERVER: `https://localhost:${port}`,
    AEMBIT_MCP_GATEWAY_URL: `https://localhost:${port}/mcp`,
    AEMBIT_AGENT_CONTROLLER_URL: 'http://127.0.0.1:5000',
    AEMBIT_TLS_CERT_CHAIN_PATH: certificate.certChainPath,
    AEMBIT_TLS_PRIVATE_KEY_PATH: certificate.privateKeyPath,
    AEMBIT_LISTEN_ADDRESS: '127.0.0.1',
    AEMBIT_HTTPS_PORT: String(port),
    AEMBIT_HTTP_PORT: String(httpPort),
    AEMBIT_METRICS_PORT: String(metricsPort),
    AEMBIT_RUNTIME_DIR: join(dir, 'run'),
    AEMBIT_STATE_DIR: join(dir, 'state'),
    AEMBIT_DRAIN_SECS: '5',
    AEMBIT_WARM_SPARES: 'false',
    FAKE_DIR: join(dir, 'flags'),
    FAKE_LIMITS: JSON.stringify({ pingEveryMs: 100, missedPings: 10, handoverMs: 50, ...limits }),
    PATH: process.env.PATH ?? '',
    ...env,
  }
  // systemd sets LISTEN_PID to the process it starts; a shell that becomes that process can do the same.
  const command = inherited.length > 0 ? 'LISTEN_PID=$$ exec "$0" "$1"' : 'exec "$0" "$1"'
  const child = spawn('/bin/sh', ['-c', command, process.execPath, main], {
    env: all,
    stdio: ['ignore', 'pipe', 'pipe', ...inherited],
  })
  const log: LogLine[] = []
  const listeners = new Set<() => void>()
  let stderr = ''
  child.stderr?.on('data', (chunk) => {
    stderr += chunk
  })
  if (child.stdout) {
    createInterface({ input: child.stdout }).on('line', (text) => {
      log.push(JSON.parse(text))
      for (const listener of listeners) listener()
    })
  }
  const exited = once(child, 'close').then(([code, signal]) => ({ code, signal, stderr }))
  const operatorSocket = join(all.AEMBIT_RUNTIME_DIR ?? '', 'operator.sock')

  const rig: GatewayRig = {
    dir,
    env: all,
    process: child,
    port,
    httpPort,
    metricsPort,
    operatorSocket,
    certificate,
    log,
    exited,
    line: (fits) =>
      new Promise((resolve, reject) => {
        const look = (): void => {
          const found = log.find(fits)
          if (!found) return
          listeners.delete(look)
          resolve(found)
        }
        listeners.add(look)
        look()
        void exited.then((exit) => reject(new Error(`exited: ${JSON.stringify(exit)}`)))
      }),
    ready: () => rig.line(({ msg }) => msg === 'ready'),
    operator: (path) => askOperator(operatorSocket, path === '/v1/status' ? 'GET' : 'POST', path),
    status: async () => (await rig.operator('/v1/status')).body as GatewayStatus,
    until: async (fits) => {
      for (;;) {
        const status = await rig.status()
        if (fits(status)) return status
        await new Promise((resolve) => setTimeout(resolve, 20))
      }
    },
    pid: async (name) => {
      const { processes } = await rig.status()
      return processes.find((row) => row.name === name && row.state !== 'draining')?.pid ?? -1
    },
    get: (path = '/', agent) => ask({ port, path, ...(agent ? { agent } : {}) }),
    stop: async () => {
      if (child.exitCode === null && child.signalCode === null) {
        child.kill('SIGTERM')
        // The second signal is for what a failed test left in flight.
        const second = setTimeout(() => child.kill('SIGTERM'), 3_000)
        await exited
        clearTimeout(second)
      }
      rmSync(dir, { recursive: true, force: true })
    },
  }
  return rig
}

export const isAlive = (pid: number): boolean => {
  try {
    return process.kill(pid, 0)
  } catch {
    return false
  }
}
