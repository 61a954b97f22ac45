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
  /** `measuring` is called when every connection is open: right before the first request that counts. */
  run(job: Job, measuring?: () => void): Promise<Report>
  stop(): void
}

export function startLoad(): Load {
  const child = start('load.ts', [])
  const lines = createInterface({ input: child.stdout! })[Symbol.asyncIterator]()
  const next = async (): Promise<string> => {
    const line = await lines.next()
    if (line.done) throw new Error('the load generator ended')
    return line.value
  }
  return {
    run: async (job, measuring) => {
      child.stdin?.write(`${JSON.stringify(job)}\n`)
      if ((await next()) !== 'warm') throw new Error('the load generator did not warm up')
      measuring?.()
      child.stdin?.write('go\n')
      return JSON.parse(await next()) as Report
    },
    stop: () => void child.kill(),
  }
}
