import { randomInt } from 'node:crypto'
import { createServer } from 'node:net'
import { Problem } from './problem.ts'

export interface Ports {
  /** The one port that clients see: HTTPS, or plain HTTP with `--http`. */
  gateway: number
  /** Plain HTTP that redirects to HTTPS; 0: none. */
  redirect: number
  controller: number
  controllerMetrics: number
  metrics: number
  notes: number
  weather: number
  everything: number
}

/** How a person chooses another one, by port. */
const wayOut: Record<keyof Ports, string> = {
  gateway: '--port <port>',
  redirect: '--redirect-port <port> (0: none)',
  controller: '--controller-port <port>',
  controllerMetrics: '--controller-metrics-port <port>',
  metrics: '--metrics-port <port>',
  notes: 'another port in ports.json of the state folder and in the server url of control-plane.yaml',
  weather: 'another port in ports.json of the state folder and in the server url of control-plane.yaml',
  everything: 'another port in ports.json of the state folder and in the server url of control-plane.yaml',
}

export const isFree = (port: number): Promise<boolean> =>
  new Promise((resolve) => {
    const server = createServer()
    server.once('error', () => resolve(false))
    server.listen(port, '127.0.0.1', () => server.close(() => resolve(true)))
  })

/** Below the range that the kernel hands out by itself: until it is used, no connection gets it by chance. */
const choosable = { from: 10_240, below: 32_768 }
const given = new Set<number>()

/** A port that is free, another one each time. */
export async function anyFreePort(): Promise<number> {
  for (;;) {
    const port = randomInt(choosable.from, choosable.below)
    if (given.has(port)) continue
    given.add(port)
    if (await isFree(port)) return port
  }
}

/** The first free port from `from` on, below the range that the kernel hands out by itself. */
export async function freePortFrom(from: number, taken: ReadonlySet<number>): Promise<number> {
  for (let port = from; port < from + 200; port++) if (!taken.has(port) && (await isFree(port))) return port
  throw new Problem(`No free port between ${from} and ${from + 199} on 127.0.0.1.`)
}

/** Looked at before anything starts, so that a taken port leaves nothing running. */
export async function requireFree(ports: Ports): Promise<void> {
  const wanted = Object.entries(ports) as [keyof Ports, number][]
  const checked = await Promise.all(
    wanted
      .filter(([, port]) => port !== 0)
      .map(async ([name, port]) => ({ name, port, free: await isFree(port) })),
  )
  const lines = checked
    .filter(({ free }) => !free)
    .map(
      ({ name, port }) =>
        `127.0.0.1:${port} (${name}) is taken: stop what listens there, or choose ${wayOut[name]}.`,
    )
  if (lines.length > 0) throw new Problem(lines.join('\n'))
}
