import { mkdtempSync, readdirSync, readFileSync } from 'node:fs'
import { rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createAgent, type Era, type Person, type ScriptedAgent } from '../../installer/quickstart/agent.ts'
import type { LocalUser } from '../../installer/quickstart/config.ts'
import { startWorld, type World, type WorldOptions } from '../../installer/quickstart/world.ts'
import type { WorkloadEvent } from '../../shared/wire/event.ts'

export type Role = 'front' | 'proxy' | 'sync'

/** The appliance as `npm start` has it, in a folder and on ports of its own, and hands to take hold of it. */
export interface Rig extends World {
  /** An agent of one of `users`, not yet connected. `account` is what they sign in with at notes. */
  agent(name: keyof typeof users, options?: { era?: Era; account?: string }): ScriptedAgent
  /** The process ids of a role now, newest last. */
  pids(role: Role): number[]
  /** SIGKILL to every process of a role; resolves with their ids. */
  kill(role: Role): number[]
  /** Stored events that match, oldest first; polls until `enough` is satisfied or 15 s are over. */
  events(search: string, enough: (events: WorkloadEvent[]) => boolean): Promise<WorkloadEvent[]>
  /** Stops it and removes its folder. */
  end(): Promise<void>
}

export const users = {
  ann: { email: 'ann@example.com', name: 'Ann', password: 'correct horse battery' },
  bob: { email: 'bob@example.com', name: 'Bob', password: 'staple and so forth' },
} as const satisfies Record<string, LocalUser>

const eventsWithinMs = 15_000

export const makeStateDir = (): string => mkdtempSync(join(tmpdir(), 'rig-'))

export async function startRig(options: Partial<WorldOptions> = {}): Promise<Rig> {
  const stateDir = options.stateDir ?? makeStateDir()
  const world = await startWorld({
    freePorts: true,
    users: Object.values(users),
    ...options,
    stateDir,
  }).catch(async (error: unknown) => {
    await rm(stateDir, { recursive: true, force: true })
    throw error
  })
  const agents = new Set<ScriptedAgent>()

  const pids = (role: Role): number[] => {
    const supervisor = world.processes.get('gateway')
    return supervisor ? childrenOf(supervisor.pid, `services/${role}/main.ts`) : []
  }

  return {
    ...world,
    agent: (name, { era = 'auto', account = `${name}-notes` } = {}) => {
      const person: Person = { ...users[name], account }
      const agent = createAgent({
        url: world.url,
        caPath: world.caPath,
        person,
        clientName: `test ${name}`,
        era,
      })
      agents.add(agent)
      return agent
    },
    pids,
    kill: (role) => {
      const killed = pids(role)
      for (const pid of killed) process.kill(pid, 'SIGKILL')
      return killed
    },
    events: async (search, enough) => {
      const deadline = Date.now() + eventsWithinMs
      for (;;) {
        const query = `search=${encodeURIComponent(search)}&span-last-hours=1&per-page=500`
        const answer = await world.admin('GET', `/api/v1/workload-events?${query}`)
        const events = (answer as { entities: WorkloadEvent[] }).entities.toReversed()
        if (enough(events) || Date.now() > deadline) return events
        await new Promise((resolve) => setTimeout(resolve, 200))
      }
    },
    end: async () => {
      await Promise.allSettled([...agents].map((agent) => agent.close()))
      await world.stop()
      await rm(stateDir, { recursive: true, force: true })
    },
  }
}

/** Direct children of a process whose command line names `script`. */
export function childrenOf(parent: number, script: string): number[] {
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .flatMap((name) => {
      try {
        // proc(5): pid (comm) state ppid …; comm may hold spaces and brackets.
        const stat = readFileSync(`/proc/${name}/stat`, 'utf8')
        const ppid = Number(stat.slice(stat.lastIndexOf(')') + 2).split(' ')[1])
        if (ppid !== parent) return []
        return readFileSync(`/proc/${name}/cmdline`, 'utf8').includes(script) ? [Number(name)] : []
      } catch {
        return [] // Gone meanwhile.
      }
    })
    .sort((a, b) => a - b)
}

export const isAlive = (pid: number): boolean => {
  try {
    process.kill(pid, 0)
    return true
  } catch {
    return false
  }
}

/** Every process whose command line or environment is of this state folder. */
export function processesOf(stateDir: string): number[] {
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name) && Number(name) !== process.pid)
    .flatMap((name) => {
      try {
        const about =
          readFileSync(`/proc/${name}/cmdline`, 'utf8') + readFileSync(`/proc/${name}/environ`, 'utf8')
        return about.includes(stateDir) ? [Number(name)] : []
      } catch {
        return []
      }
    })
}

export const textOf = (result: unknown): string =>
  ((result as { content?: { text?: string }[] }).content ?? []).map(({ text }) => text ?? '').join('')
