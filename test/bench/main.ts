import { parseArgs } from 'node:util'
import { withServers } from '../rig/servers.ts'
import { startRig } from '../rig/world.ts'
import { cpuOf } from './cpu.ts'
import { openGateway } from './gateway.ts'
import type { Job } from './load.ts'
import { startHelper, startLoad } from './processes.ts'
import { printReport, type Sample, type Way } from './report.ts'

/**
 * `npm run bench`: the same tools/call directly, through the floor and through the whole gateway, in rounds that take
 * turns. Exit code 0 whatever the figures say; 1 where something broke.
 */
const { values } = parseArgs({
  options: {
    seconds: { type: 'string', default: '3' },
    rounds: { type: 'string', default: '3' },
    connections: { type: 'string', default: '1,32,256' },
    'proxy-flags': { type: 'string', default: '' },
    only: { type: 'string' },
    json: { type: 'boolean', default: false },
  },
})
const apiKey = 'bench-key'
const maxRequests = 100_000
const rounds = Number(values.rounds)
const maxMs = Number(values.seconds) * 1000

const upstream = await startHelper('upstream.ts', [apiKey])
const upstreamUrl = `http://127.0.0.1:${upstream.port}/mcp`
const profiling = values['proxy-flags'].split(' ').filter(Boolean)
const rig = await startRig({
  logLevel: 'warn',
  edit: (yaml) => withServers(yaml, [{ id: 'bench', url: upstreamUrl, apiKey }]),
  adapt: (launch) =>
    launch.name === 'gateway' && profiling.length > 0
      ? { ...launch, env: { ...launch.env, NODE_OPTIONS: profiling.join(' ') } }
      : launch,
})
const { certChainPath, privateKeyPath } = {
  certChainPath: `${rig.state.tls}/localhost.pem`,
  privateKeyPath: `${rig.state.tls}/localhost.key`,
}
const floor = await startHelper('floor.ts', [certChainPath, privateKeyPath, String(upstream.port)])
const load = startLoad()
for (const signal of ['SIGINT', 'SIGTERM'] as const) {
  // The run then fails at the load generator's end, and the way out below is taken.
  process.once(signal, () => load.stop())
}
let failed = false
try {
  const session = await openGateway(rig)
  const key = { 'x-api-key': apiKey, 'mcp-protocol-version': '2025-11-25' }
  const ways: Record<Way, { job: Omit<Job, 'connections'>; pids: () => Record<string, number[]> }> = {
    direct: {
      job: { url: `${upstreamUrl}?tool=lookup`, caPath: null, headers: key, maxRequests, maxMs },
      pids: () => ({}),
    },
    floor: {
      job: {
        url: `https://localhost:${floor.port}/mcp?tool=lookup`,
        caPath: rig.caPath,
        headers: key,
        maxRequests,
        maxMs,
      },
      pids: () => ({ floor: [floor.pid] }),
    },
    gateway: {
      job: { url: `${rig.url}?tool=bench_lookup`, caPath: rig.caPath, headers: session, maxRequests, maxMs },
      pids: () => ({
        front: rig.pids('front'),
        proxy: rig.pids('proxy'),
        sync: rig.pids('sync'),
        'control plane': [rig.processes.get('control-plane')?.pid ?? -1],
      }),
    },
  }
  const chosen = (Object.keys(ways) as Way[]).filter(
    (way) => !values.only || values.only.split(',').includes(way),
  )

  // Long enough for the compiler to have seen everything; the first thousands of requests cost several times more.
  for (const way of chosen)
    await load.run({ ...ways[way].job, connections: 16, maxRequests: 5000, maxMs: 15_000 })

  const samples: Sample[] = []
  for (const connections of values.connections.split(',').map(Number)) {
    for (const way of chosen) await load.run({ ...ways[way].job, connections, maxMs: maxMs / 2 })
    for (let round = 0; round < rounds; round++) {
      for (const way of chosen) {
        const pids = ways[way].pids()
        let before: (readonly [string, number])[] = []
        const report = await load.run({ ...ways[way].job, connections }, () => {
          before = Object.entries(pids).map(([name, ids]) => [name, cpuOf(ids)] as const)
        })
        const cpu = Object.fromEntries(before.map(([name, was]) => [name, cpuOf(pids[name] ?? []) - was]))
        if (report.errors > 0) {
          failed = true
          console.error(`${way} at ${connections}: ${report.errors} errors, first: ${report.firstError}`)
        }
        samples.push({ way, connections, round, report, cpu })
        if (process.stdout.isTTY) process.stdout.write('.')
      }
    }
  }
  if (values.json) console.log(JSON.stringify(samples))
  else printReport(samples)
} catch (error) {
  failed = true
  console.error(error)
} finally {
  load.stop()
  floor.stop()
  upstream.stop()
  await rig.end()
}
process.exitCode = failed ? 1 : 0
