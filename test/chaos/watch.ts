import { readdirSync } from 'node:fs'
import { request } from 'node:http'
import { join } from 'node:path'
import type { Rig } from '../rig/world.ts'
import { heldBy } from './held.ts'

/** The gateway's processes at rest. */
export interface Sample {
  /** Of all proxies together: what they hold after a collection, in the heap and beside it. */
  readonly heldMb: number
  readonly rssMb: number
  readonly handles: number
  readonly files: number
  readonly upstreamSessions: number
  readonly frontHeldMb: number
  readonly frontRssMb: number
  readonly frontFiles: number
}

interface Row {
  readonly role: string
  readonly state: string
  readonly pid: number | null
  readonly rssBytes: number
  readonly stats: Readonly<Record<string, number>>
}
interface Status {
  readonly ready: boolean
  readonly processes: readonly Row[]
}

function statusOf(runtimeDir: string): Promise<Status> {
  return new Promise((resolve, reject) => {
    const sent = request({ socketPath: join(runtimeDir, 'operator.sock'), path: '/v1/status' }, (answer) => {
      let text = ''
      answer.setEncoding('utf8').on('data', (chunk) => {
        text += chunk
      })
      answer.on('end', () => resolve(JSON.parse(text)))
    })
    sent.on('error', reject)
    sent.end()
  })
}

const filesOf = (pid: number | null): number => {
  try {
    return readdirSync(`/proc/${pid}/fd`).length
  } catch {
    return 0 // Gone meanwhile.
  }
}

/** Counters that are zero when nobody waits for anything. */
const counters = ['active', 'activeCalls', 'streams', 'parkedCalls', 'connections'] as const
const restMs = 60_000

export interface Watch {
  /** Waits until the gateway is ready and nothing runs in it; says what still does. */
  rest(): Promise<{ left: Readonly<Record<string, number>>; sample: Sample }>
  ready(): Promise<void>
}

const megabytes = (bytes: number): number => Math.round((bytes / 2 ** 20) * 10) / 10

export function watch(rig: Rig, heldDir: string): Watch {
  const proxiesOf = ({ processes }: Status): Row[] =>
    processes.filter(({ role, state }) => role === 'proxy' && state === 'running')
  const leftIn = (status: Status): Record<string, number> =>
    Object.fromEntries(
      counters
        .map(
          (name) =>
            [name, proxiesOf(status).reduce((sum, { stats }) => sum + (stats[name] ?? 0), 0)] as const,
        )
        .filter(([, value]) => value > 0),
    )
  const poll = async (fits: (status: Status) => boolean): Promise<Status> => {
    const deadline = Date.now() + restMs
    for (;;) {
      const status = await statusOf(rig.runtimeDir)
      if (fits(status) || Date.now() > deadline) return status
      await new Promise((resolve) => setTimeout(resolve, 250))
    }
  }
  const sum = (rows: readonly Row[], value: (row: Row) => number): number =>
    rows.reduce((total, row) => total + value(row), 0)

  return {
    ready: async () => void (await poll(({ ready }) => ready)),
    rest: async () => {
      // What a process said before now does not count: its next report does.
      const known = new Map<number | null, number>()
      for (const { pid, stats } of proxiesOf(await poll(({ ready }) => ready)))
        known.set(pid, stats.uptimeMs ?? 0)
      const anew = ({ pid, stats }: Row): boolean => (stats.uptimeMs ?? 0) > (known.get(pid) ?? 0)
      const status = await poll(
        (now) => now.ready && proxiesOf(now).every(anew) && Object.keys(leftIn(now)).length === 0,
      )
      const proxies = proxiesOf(status)
      const front = status.processes.filter(({ role }) => role === 'front')
      const held = async (rows: readonly Row[]): Promise<number> => {
        const all = await Promise.all(rows.map(({ pid }) => heldBy(pid!, heldDir)))
        return megabytes(all.reduce((total, bytes) => total + bytes, 0))
      }
      return {
        left: leftIn(status),
        sample: {
          heldMb: await held(proxies),
          frontHeldMb: await held(front),
          rssMb: Math.round(sum(proxies, ({ rssBytes }) => rssBytes) / 2 ** 20),
          handles: sum(proxies, ({ stats }) => stats.handles ?? 0),
          files: sum(proxies, ({ pid }) => filesOf(pid)),
          upstreamSessions: sum(proxies, ({ stats }) => stats.upstreamSessions ?? 0),
          frontRssMb: Math.round(sum(front, ({ rssBytes }) => rssBytes) / 2 ** 20),
          frontFiles: sum(front, ({ pid }) => filesOf(pid)),
        },
      }
    },
  }
}
