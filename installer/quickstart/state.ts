import { randomBytes } from 'node:crypto'
import { mkdtempSync } from 'node:fs'
import { readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { ensurePrivateDir, writeFileAtomic } from '../../shared/files.ts'
import { Problem } from './problem.ts'

/** Where the quickstart keeps what must outlive it. Everything in it is its owner's alone. */
export interface State {
  readonly dir: string
  readonly tls: string
  readonly controlPlane: string
  readonly agentController: string
  readonly gateway: string
  readonly samples: string
  readonly logs: string
  readonly adminTokenPath: string
  readonly weatherKeyPath: string
  readonly portsPath: string
}

export async function openState(dir: string): Promise<State> {
  const state: State = {
    dir,
    tls: join(dir, 'tls'),
    controlPlane: join(dir, 'control-plane'),
    agentController: join(dir, 'agent-controller'),
    gateway: join(dir, 'gateway'),
    samples: join(dir, 'samples'),
    logs: join(dir, 'logs'),
    adminTokenPath: join(dir, 'control-plane', 'admin-token'),
    weatherKeyPath: join(dir, 'samples', 'weather-api-key'),
    portsPath: join(dir, 'ports.json'),
  }
  for (const path of [
    dir,
    state.tls,
    state.controlPlane,
    state.agentController,
    state.gateway,
    state.samples,
    state.logs,
  ]) {
    await ensurePrivateDir(path)
  }
  return state
}

export async function readOptional(path: string): Promise<string | undefined> {
  try {
    return await readFile(path, 'utf8')
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined
    throw error
  }
}

/** The text of a 0600 file, made by `create` the first time. */
export async function keepFile(path: string, create: () => string): Promise<string> {
  const kept = await readOptional(path)
  if (kept !== undefined) return kept
  const made = create()
  await writeFileAtomic(path, made)
  return made
}

/** About 10¹⁸ possibilities in an alphabet that nobody misreads. */
export function newPassword(): string {
  const alphabet = 'abcdefghjkmnpqrstuvwxyz23456789'
  const letters: string[] = []
  // Bytes above the last whole multiple of the alphabet are dropped: each letter stays equally likely.
  while (letters.length < 12) {
    for (const byte of randomBytes(16)) if (byte < 248) letters.push(alphabet[byte % alphabet.length]!)
  }
  return [0, 4, 8].map((at) => letters.slice(at, at + 4).join('')).join('-')
}

/** The kernel takes at most 107 bytes for the path of a unix socket; ours end in `/proxy-0.12345.sock`. */
const longestRuntimeDir = 80

/** A private folder for the sockets: inside the state where its path is short enough, else among the temporary files. */
export async function makeRuntimeDir(state: State): Promise<string> {
  const inside = join(state.dir, 'run')
  if (Buffer.byteLength(inside) <= longestRuntimeDir) {
    await rm(inside, { recursive: true, force: true })
    await ensurePrivateDir(inside)
    return inside
  }
  return mkdtempSync(join(tmpdir(), 'aembit-'))
}

/** One quickstart per state folder. Returns what gives the folder free again. */
export async function lockState(state: State): Promise<() => Promise<void>> {
  const path = join(state.dir, 'quickstart.pid')
  const pid = Number(await readOptional(path))
  if (pid > 0 && pid !== process.pid && (await isQuickstart(pid))) {
    throw new Problem(
      `The quickstart of ${state.dir} is already running (process ${pid}). Stop it, or choose another folder with --state.`,
    )
  }
  await writeFileAtomic(path, `${process.pid}\n`)
  return () => rm(path, { force: true })
}

/** A process number is given out again: what runs under it now must be a Node program of this folder's kind. */
async function isQuickstart(pid: number): Promise<boolean> {
  try {
    process.kill(pid, 0)
  } catch {
    return false
  }
  const commandLine = await readOptional(`/proc/${pid}/cmdline`).catch(() => undefined)
  return commandLine === undefined || /quickstart|\.test\.ts|bench/.test(commandLine)
}
