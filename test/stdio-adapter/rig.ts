import { type ChildProcess, fork, spawnSync } from 'node:child_process'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import { stringify } from 'yaml'
import type { ConfigOf } from '../../shared/ipc/contract.ts'

export type LogLine = Record<string, unknown> & { msg: string; level: string }

const main = fileURLToPath(new URL('../../services/stdio-adapter/main.ts', import.meta.url))
export const scripted = fileURLToPath(new URL('servers/scripted.ts', import.meta.url))
const { resolve } = createRequire(import.meta.url)
export const everything = resolve('@modelcontextprotocol/server-everything/dist/index.js')
export const filesystem = resolve('@modelcontextprotocol/server-filesystem/dist/index.js')

/** The adapter as its own process, told by IPC what the supervisor would tell it. */
export async function startAdapter(
  servers: Record<string, Record<string, unknown>>,
  more: Partial<ConfigOf['stdio-adapter']> = {},
) {
  const dir = mkdtempSync(join(tmpdir(), 'stdio-'))
  const serversPath = join(dir, 'servers.yaml')
  const write = (next: Record<string, Record<string, unknown>>): void =>
    writeFileSync(serversPath, stringify({ servers: next }), { mode: 0o600 })
  write(servers)
  const config: ConfigOf['stdio-adapter'] = {
    logLevel: 'debug',
    socketPath: join(dir, 'stdio.sock'),
    serversPath,
    hidden: [],
    maxMessageBytes: 1 << 20,
    ...more,
  }
  const log: LogLine[] = []
  const child: ChildProcess = fork(main, [], { execArgv: [], stdio: ['ignore', 'pipe', 'inherit', 'ipc'] })
  createInterface({ input: child.stdout! }).on('line', (line) => log.push(JSON.parse(line)))
  const exited = new Promise<void>((done) => child.once('exit', () => done()))
  let epoch = 0
  const configure = (): Promise<{ type: string; fault?: { detail?: string } }> =>
    new Promise((done, fail) => {
      const own = ++epoch
      child.on('message', (message: { type: string; epoch?: number }) => {
        if (message.epoch === own) done(message)
      })
      child.once('exit', (code) => fail(new Error(`the adapter ended with ${code}`)))
      child.send({ type: 'configure', epoch: own, config })
    })
  const first = await configure()
  if (first.type !== 'applied') throw new Error(first.fault?.detail)
  return {
    socketPath: config.socketPath,
    dir,
    log,
    child,
    /** Writes the file anew and has it read, as a reload does. */
    reload: (next: Record<string, Record<string, unknown>>) => {
      write(next)
      return configure()
    },
    close: async () => {
      if (child.exitCode === null && child.signalCode === null) child.send({ type: 'drain', deadlineMs: 0 })
      await exited
      rmSync(dir, { recursive: true, force: true })
    },
  }
}

export const until = async (condition: () => boolean): Promise<void> => {
  while (!condition()) await new Promise((done) => setTimeout(done, 5))
}

/** Namespaces of one's own are not to be had everywhere (containers, hardened kernels). */
export const namespaces =
  spawnSync('/usr/bin/unshare', [
    '--user',
    '--map-root-user',
    '--mount',
    '--pid',
    '--fork',
    '--mount-proc',
    'true',
  ]).status === 0

export const node = (script: string, ...args: string[]) => ({
  command: process.execPath,
  args: [script, ...args],
  ...(namespaces ? {} : { sandbox: 'none' }),
})
