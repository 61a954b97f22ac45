import { type ChildProcess, spawn } from 'node:child_process'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { type ValkeySettings, valkeyUrl } from '../../shared/config/valkey-url.ts'
import { freePort } from './free-port.ts'

export const password = 'a store of sessions'

export interface TestRedis {
  readonly port: number
  readonly url: string
  readonly settings: ValkeySettings
  /** Ends it as an outage does; `start` brings it back on the same port, empty. */
  stop(): Promise<void>
  start(): Promise<void>
  /** Ends it and removes its folder. */
  close(): Promise<void>
}

/** Debian's redis-server, with a password, on loopback, keeping nothing on disk. Throws where the package is missing. */
export async function startRedis(): Promise<TestRedis> {
  const dir = await mkdtemp(join(tmpdir(), 'redis-'))
  const port = freePort()
  let child: ChildProcess | undefined
  const stop = async (): Promise<void> => {
    const running = child
    child = undefined
    if (!running || running.exitCode !== null || running.signalCode !== null) return
    const ended = new Promise((resolve) => running.once('exit', resolve))
    running.kill('SIGKILL')
    await ended
  }
  const start = (): Promise<void> =>
    new Promise((resolve, reject) => {
      const args = ['--port', String(port), '--bind', '127.0.0.1', '--save', '', '--dir', dir]
      const started = spawn('redis-server', [...args, '--requirepass', password], {
        stdio: ['ignore', 'pipe', 'inherit'],
      })
      child = started
      started.once('error', (error) =>
        reject(new Error(`redis-server (Debian package redis-server) does not start: ${error.message}`)),
      )
      started.once('exit', (code) => reject(new Error(`redis-server ended with ${code}`)))
      createInterface({ input: started.stdout }).on('line', (line) => {
        if (line.includes('Ready to accept connections')) resolve()
      })
    })
  await start()
  const url = `redis://:${encodeURIComponent(password)}@127.0.0.1:${port}/1`
  return {
    port,
    url,
    settings: valkeyUrl(url),
    stop,
    start,
    close: async () => {
      await stop()
      await rm(dir, { recursive: true, force: true })
    },
  }
}
