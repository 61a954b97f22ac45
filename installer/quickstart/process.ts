import { type ChildProcess, spawn } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import type { LogFile } from './log-file.ts'

const root = fileURLToPath(new URL('../..', import.meta.url))
const leash = new URL('./leash.ts', import.meta.url).href
const errorLines = 200
const beginningChars = 64 * 1024

export interface Exit {
  readonly name: string
  readonly code: number | null
  readonly signal: NodeJS.Signals | null
}

export interface Running {
  readonly name: string
  readonly pid: number
  readonly log: LogFile
  /** Settles when the process has ended and all it wrote is in the log. */
  readonly ended: Promise<Exit>
  /** Has it said this since it started? Looks at the beginning of its output alone. */
  said(text: string): boolean
  /** What it said on stderr last: where a refused configuration is explained. */
  errors(): string
  /** TERM, and KILL after `graceMs`. */
  stop(graceMs: number): Promise<Exit>
}

export interface Launch {
  readonly name: string
  /** Relative to the checkout. */
  readonly script: string
  readonly args?: readonly string[]
  /** All there is of `AEMBIT_…`: what the person's shell has of these is not for these processes. */
  readonly env?: Readonly<Record<string, string>>
  /** Node flags before the script, e.g. --cpu-prof. */
  readonly nodeArgs?: readonly string[]
}

const inherited = ['PATH', 'HOME', 'LANG', 'LC_ALL', 'TZ', 'TMPDIR', 'NODE_EXTRA_CA_CERTS', 'NO_COLOR']

/**
 * Starts one Node process in a session of its own (Ctrl-C reaches the quickstart alone, which stops things in
 * order) and on a leash (it ends when the quickstart does).
 */
export function launch({ name, script, args = [], env = {}, nodeArgs = [] }: Launch, log: LogFile): Running {
  const base = Object.fromEntries(
    inherited.flatMap((key) => (process.env[key] ? [[key, process.env[key]]] : [])),
  )
  const child: ChildProcess = spawn(
    process.execPath,
    ['--disable-warning=ExperimentalWarning', '--import', leash, ...nodeArgs, script, ...args],
    {
      cwd: root,
      env: { ...base, ...env, QUICKSTART_LEASH_FD: '3' },
      detached: true,
      stdio: ['ignore', 'pipe', 'pipe', 'pipe'],
    },
  )
  let stderr: string[] = []
  let beginning = ''
  child.stdout?.on('data', (chunk: Buffer) => {
    log.write(chunk)
    if (beginning.length < beginningChars) beginning += chunk.toString('utf8')
  })
  child.stderr?.on('data', (chunk: Buffer) => {
    log.write(chunk)
    stderr = [...stderr, chunk.toString('utf8')].slice(-errorLines)
  })
  child.stdio[3]?.on('error', () => {})
  const ended = new Promise<Exit>((resolve) => {
    child.once('error', (error) => {
      stderr.push(error.message)
      resolve({ name, code: 1, signal: null })
    })
    child.once('close', (code, signal) => resolve({ name, code, signal }))
  }).then((exit) => {
    log.close()
    return exit
  })
  const signal = (which: NodeJS.Signals): void => {
    if (child.exitCode === null && child.signalCode === null) child.kill(which)
  }
  return {
    name,
    pid: child.pid ?? -1,
    log,
    ended,
    said: (text) => beginning.includes(text),
    errors: () => stderr.join('').trim(),
    stop: async (graceMs) => {
      signal('SIGTERM')
      const timer = setTimeout(() => signal('SIGKILL'), graceMs)
      const exit = await ended
      clearTimeout(timer)
      return exit
    },
  }
}
