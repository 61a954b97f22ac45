import { type ChildProcess, spawn } from 'node:child_process'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import type { Job, Report } from './load.ts'

const start = (script: string, args: readonly string[]): ChildProcess =>
  spawn(process.execPath, [fileURLToPath(new URL(script, import.meta.url)), ...args], {
    stdio: ['pipe', 'pipe', 'inherit'],
  })

export interface Helper {
  readonly pid: number
  readonly port: number
  stop(): void
}

/** A process that prints `port <n>` once it listens. */
export async function startHelper(script: string, args: readonly string[]): Promise<Helper> {
  const child = start(script, args)
  for await (const line of createInterface({ input: child.stdout! })) {
    const port = Number(/^port (\d+)$/.exec(line)?.[1])
    if (port) return { pid: child.pid ?? -1, port, stop: () => void child.kill() }
  }
  throw new Error(`${script} ended before it listened`)
}

export interface Load {
  run(job: Job): Promise<Report>
  stop(): void
}

export function startLoad(): Load {
  const child = start('load.ts', [])
  const lines = createInterface({ input: child.stdout! })[Symbol.asyncIterator]()
  return {
    run: async (job) => {
      child.stdin?.write(`${JSON.stringify(job)}\n`)
      const line = await lines.next()
      if (line.done) throw new Error('the load generator ended')
      return JSON.parse(line.value) as Report
    },
    stop: () => void child.kill(),
  }
}
