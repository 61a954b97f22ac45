import { type ChildProcess, execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import { closeSync, mkdtempSync, openSync, readdirSync, readFileSync, readlinkSync, rmSync } from 'node:fs'
import { join } from 'node:path'

export interface Ran {
  readonly code: number
  readonly stdout: string
  readonly stderr: string
}

const bootWithinMs = 60_000
const commandLimitMs = 300_000

/** A machine of its own: systemd as process 1, a private network with loopback alone, a copy of a root file system. */
export class Container {
  /** Its root folder, seen from here. */
  readonly root: string
  readonly #folder: string
  readonly #process: ChildProcess
  #init = 0

  private constructor(folder: string, process: ChildProcess) {
    this.#folder = folder
    this.root = join(folder, 'root')
    this.#process = process
  }

  static async boot(rootfs: string, cache: string): Promise<Container> {
    const folder = mkdtempSync(join(cache, 'container-'))
    execFileSync('cp', ['-a', '--reflink=auto', rootfs, join(folder, 'root')])
    const console = openSync(join(folder, 'console.log'), 'w')
    const flags = ['--boot', '--register=no', '--keep-unit', '--private-network', '--console=pipe', '--quiet']
    const child = spawn('systemd-nspawn', ['-D', join(folder, 'root'), '-M', 'testbox', ...flags], {
      stdio: ['ignore', console, console],
      // Hosts with the older control groups would hand these on otherwise.
      env: { ...process.env, SYSTEMD_NSPAWN_UNIFIED_HIERARCHY: '1' },
    })
    closeSync(console)
    const container = new Container(folder, child)
    try {
      await container.#untilBooted()
    } catch (error) {
      await container.stop()
      throw error
    }
    return container
  }

  /** Runs a program inside, as root, with an environment of its own. */
  run(args: readonly string[], env: Readonly<Record<string, string>> = {}): Promise<Ran> {
    const inside = ['-m', '-u', '-i', '-n', '-p', '-C']
    return this.#enter([
      ...inside,
      '--',
      '/usr/bin/env',
      '-i',
      'PATH=/usr/sbin:/usr/bin:/sbin:/bin',
      'HOME=/root',
      ...pairs(env),
      ...args,
    ])
  }

  /** A line of shell inside; throws where it fails. */
  async sh(line: string, env: Readonly<Record<string, string>> = {}): Promise<string> {
    const { code, stdout, stderr } = await this.run(['sh', '-c', line], env)
    if (code !== 0) throw new Error(`${line}: exit code ${code}\n${stdout}${stderr}`)
    return stdout.trim()
  }

  /** Starts a program of this machine on the container's network. */
  onItsNetwork(args: readonly string[]): ChildProcess {
    return spawn('nsenter', ['-t', String(this.#init), '-n', '--', ...args], {
      stdio: ['pipe', 'pipe', 'inherit'],
    })
  }

  /** The id that a process of the container has here. */
  outside(pid: number): number {
    const space = (of: number | string): string => readlinkSync(`/proc/${of}/ns/pid`)
    const found = readdirSync('/proc').find((here) => {
      if (!/^\d+$/.test(here)) return false
      try {
        const ids = /^NSpid:\s+(.*)$/m.exec(readFileSync(`/proc/${here}/status`, 'utf8'))?.[1]?.split(/\s+/)
        return ids?.at(-1) === String(pid) && space(here) === space(this.#init)
      } catch {
        return false
      }
    })
    if (found === undefined) throw new Error(`there is no process ${pid} in the container`)
    return Number(found)
  }

  /** Powers it off, and removes it. */
  async stop(): Promise<void> {
    if (this.#process.exitCode === null && this.#process.signalCode === null) {
      const ended = once(this.#process, 'exit')
      if (this.#init) await this.run(['systemctl', 'poweroff', '--force', '--force']).catch(() => {})
      const late = setTimeout(() => this.#process.kill('SIGKILL'), 10_000)
      await ended
      clearTimeout(late)
    }
    rmSync(this.#folder, { recursive: true, force: true })
  }

  async #untilBooted(): Promise<void> {
    const deadline = Date.now() + bootWithinMs
    for (;;) {
      if (this.#process.exitCode !== null) throw new Error(`the container did not boot:\n${this.#console()}`)
      this.#init ||= childOf(this.#process.pid ?? 0)
      if (this.#init) {
        const { stdout } = await this.run(['systemctl', 'is-system-running'])
        if (/^(running|degraded)$/.test(stdout.trim())) return
      }
      if (Date.now() > deadline) throw new Error(`the container did not boot in time:\n${this.#console()}`)
      await new Promise((resolve) => setTimeout(resolve, 200))
    }
  }

  #console(): string {
    return readFileSync(join(this.#folder, 'console.log'), 'utf8').slice(-4000)
  }

  #enter(args: readonly string[]): Promise<Ran> {
    const child = spawn('nsenter', ['-t', String(this.#init), ...args], { stdio: ['ignore', 'pipe', 'pipe'] })
    const late = setTimeout(() => child.kill('SIGKILL'), commandLimitMs)
    let stdout = ''
    let stderr = ''
    child.stdout.setEncoding('utf8').on('data', (text: string) => {
      stdout += text
    })
    child.stderr.setEncoding('utf8').on('data', (text: string) => {
      stderr += text
    })
    return new Promise((resolve, reject) => {
      child.once('error', reject)
      child.once('close', (code) => {
        clearTimeout(late)
        resolve({ code: code ?? -1, stdout, stderr })
      })
    })
  }
}

const pairs = (env: Readonly<Record<string, string>>): string[] =>
  Object.entries(env).map(([key, value]) => `${key}=${value}`)

/** The first child of a process; 0 where it has none yet. */
function childOf(pid: number): number {
  try {
    return Number(readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').split(' ')[0])
  } catch {
    return 0
  }
}
