import { readFileSync } from 'node:fs'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { Agent, request } from 'undici'
import { parseDocument } from 'yaml'
import { openLogFile } from '../../installer/quickstart/log-file.ts'
import { anyFreePort } from '../../installer/quickstart/ports.ts'
import { type Launch, launch, type Running } from '../../installer/quickstart/process.ts'
import { startRig } from '../rig/world.ts'

/**
 * `npm run measure:revoke`: three gateways under one control plane, each asked again and again with one person's token.
 * How long from the call of the kill switch, and from a change of policy, until the last of the three has said no for
 * the first time, and until it says yes again. `--rounds`, `--policy-rounds`. Exit code 1 where p99 is a second or more.
 */
const { values } = parseArgs({
  options: {
    rounds: { type: 'string', default: '200' },
    'policy-rounds': { type: 'string', default: '50' },
  },
})
const targetMs = 1_000
const giveUpMs = 15_000

let first: Launch | undefined
const rig = await startRig({
  logLevel: 'warn',
  adapt: (what) => {
    if (what.name === 'gateway') first = what
    return what
  },
})
const more: Running[] = []
const ca = readFileSync(rig.caPath!)
const dispatcher = new Agent({ connect: { ca, servername: 'localhost' }, connections: 4 })
try {
  const agent = rig.agent('ann', { era: 'legacy' })
  await agent.connect()
  const token = agent.provider.stored!.access_token
  const ports = [Number(new URL(rig.url).port)]
  for (const name of ['second', 'third']) ports.push(await another(name))

  const ask = async (port: number): Promise<boolean> => {
    // `fetch` would put the port of the URL into Host; all three are one name to their clients.
    const answer = await request(`https://127.0.0.1:${port}/mcp`, {
      method: 'POST',
      dispatcher,
      headers: {
        host: new URL(rig.url).host,
        authorization: `Bearer ${token}`,
        'content-type': 'application/json',
        accept: 'application/json, text/event-stream',
      },
      body: '{"jsonrpc":"2.0","id":1,"method":"ping"}',
    })
    await answer.body.dump()
    const { statusCode: status } = answer
    if (status !== 200 && status !== 403) throw new Error(`a gateway answered ${status}`)
    return status === 200
  }
  /** ms from now until each gateway answered so, asked without a pause. */
  const until = async (allowed: boolean): Promise<number[]> => {
    const began = performance.now()
    return Promise.all(
      ports.map(async (port) => {
        while ((await ask(port)) !== allowed) {
          if (performance.now() - began > giveUpMs) throw new Error(`port ${port} did not follow`)
        }
        return performance.now() - began
      }),
    )
  }
  /** The slowest of the three for each round. */
  const measure = async (rounds: number, deny: () => Promise<() => Promise<unknown>>) => {
    const shut: number[] = []
    const open: number[] = []
    for (let round = 0; round < rounds; round++) {
      await until(true)
      const denied = until(false)
      const undo = await deny()
      shut.push(Math.max(...(await denied)))
      const allowed = until(true)
      await undo()
      open.push(Math.max(...(await allowed)))
      if (process.stdout.isTTY) process.stdout.write('.')
    }
    return { shut, open }
  }

  const kill = await measure(Number(values.rounds), async () => {
    const body = { kind: 'user', value: 'ann@example.com', reason: 'measured' }
    const made = (await rig.admin('POST', '/api/v1/kill-switch', body)) as { externalId: string }
    return () => rig.admin('DELETE', `/api/v1/kill-switch/${made.externalId}`)
  })
  const yaml = readFileSync(rig.configPath, 'utf8')
  const control = rig.processes.get('control-plane')!
  const apply = async (text: string): Promise<void> => {
    await writeFile(rig.configPath, text)
    process.kill(control.pid, 'SIGHUP')
  }
  const closed = parseDocument(yaml)
  closed.setIn(['accessPolicies', 0, 'active'], false)
  const policy = await measure(Number(values['policy-rounds']), async () => {
    await apply(closed.toString({ lineWidth: 0 }))
    return () => apply(yaml)
  })

  const line = (name: string, times: readonly number[]): string => {
    const sorted = [...times].sort((a, b) => a - b)
    const ms = (share: number): string => percentile(sorted, share).toFixed(0).padStart(5)
    return `${name.padEnd(46)} ${ms(0.5)} ${ms(0.99)} ${sorted.at(-1)?.toFixed(0).padStart(5)}   ${times.length}`
  }
  console.log(`\n${'ms until the last of three gateways follows'.padEnd(46)}   p50   p99   max   rounds`)
  console.log(line('kill switch set: first denial', kill.shut))
  console.log(line('kill switch taken back: first success', kill.open))
  console.log(line('policy made inactive (SIGHUP): first denial', policy.shut))
  console.log(line('policy made active (SIGHUP): first success', policy.open))
  const worst = Math.max(
    ...[kill.shut, policy.shut].map((times) =>
      percentile(
        [...times].sort((a, b) => a - b),
        0.99,
      ),
    ),
  )
  process.exitCode = worst < targetMs ? 0 : 1
} finally {
  for (const gateway of more) await gateway.stop(15_000)
  await dispatcher.destroy()
  await rig.end()
}

/** One more gateway under the same control plane, under the same name, on a port of its own. */
async function another(name: string): Promise<number> {
  const [port, metrics] = [await anyFreePort(), await anyFreePort()]
  const dir = join(rig.state.dir, name)
  const running = launch(
    {
      ...first!,
      name: `gateway-${name}`,
      env: {
        ...first!.env,
        AEMBIT_HTTPS_PORT: String(port),
        AEMBIT_HTTP_PORT: '0',
        AEMBIT_METRICS_PORT: String(metrics),
        AEMBIT_RUNTIME_DIR: join(rig.runtimeDir, name),
        AEMBIT_STATE_DIR: dir,
      },
    },
    openLogFile(join(rig.state.logs, `gateway-${name}.log`)),
  )
  more.push(running)
  for (;;) {
    const ready = await fetch(`http://127.0.0.1:${metrics}/ready`).then(
      ({ ok }) => ok,
      () => false,
    )
    if (ready) return port
    if (await Promise.race([running.ended, new Promise((resolve) => setTimeout(resolve, 100, null))])) {
      throw new Error(`${name} ended: ${running.errors()}`)
    }
  }
}

/** Nearest rank; `sorted` rises. */
function percentile(sorted: readonly number[], share: number): number {
  return sorted[Math.max(0, Math.ceil(sorted.length * share) - 1)] ?? 0
}
