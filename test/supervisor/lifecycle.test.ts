import { readdirSync, statSync, unlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { ask } from '../front/requests.ts'
import { proves } from '../requirements.ts'
import { isAlive, startGateway } from './rig.ts'

const pidOf = (body: string): number => (JSON.parse(body) as { pid: number }).pid

t.test('starts, serves, says ready, and stops without a trace', async (t) => {
  proves(t, 'GW-START-08')
  const gateway = startGateway()
  t.teardown(() => gateway.stop())
  const line = await gateway.ready()
  t.equal(line.url, `https://localhost:${gateway.port}/mcp`)
  t.match(line, { level: 'info', component: 'supervisor' })

  const answer = await gateway.get()
  t.equal(answer.status, 200)
  const seen = JSON.parse(answer.body) as { told: unknown[]; env: string[]; config: { socketPath: string } }
  t.match(seen.told.at(-1), { version: 7 }, "sync's word reached the proxy")
  t.same(
    seen.env.filter((key) => /^AEMBIT_|^NOTIFY|^LISTEN/.test(key)),
    [],
    'settings go by IPC alone',
  )
  t.equal(
    (await ask({ port: gateway.httpPort, plain: true, path: '/x' })).headers.location,
    `https://localhost:${gateway.port}/x`,
  )

  t.equal(statSync(gateway.operatorSocket).mode & 0o777, 0o600)
  t.equal(statSync(join(gateway.dir, 'run')).mode & 0o777, 0o700)

  const metrics = await ask({ port: gateway.metricsPort, plain: true, path: '/metrics' })
  t.match(metrics.body, /aembit_mcp_gateway_process_up\{process="proxy-0"\} 1/)
  t.match(metrics.body, /^version\{component="aembit_mcp_gateway",version="\d/m)
  t.equal((await ask({ port: gateway.metricsPort, plain: true, path: '/ready' })).status, 200)

  const status = await gateway.status()
  t.match(status, { ready: true, snapshot: { version: 7 }, lastReload: null })
  const pids = status.processes.map(({ pid }) => pid ?? -1)
  t.equal(pids.length, 3)
  gateway.process.kill('SIGTERM')
  t.same(await gateway.exited, { code: 0, signal: null, stderr: '' })
  t.same(pids.filter(isAlive), [])
  t.same(readdirSync(join(gateway.dir, 'run')), [])
})

t.test('kill -9 of each process: replaced at once, and the next request works', async (t) => {
  proves(t, 'GW-RESTART-01')
  const gateway = startGateway()
  t.teardown(() => gateway.stop())
  await gateway.ready()
  for (const name of ['front', 'proxy-0', 'sync']) {
    const before = await gateway.pid(name)
    process.kill(before, 'SIGKILL')
    // What a process took in its last moment dies with it; the promise is about the next request.
    while (isAlive(before)) await new Promise((resolve) => setTimeout(resolve, 1))
    const answer = await gateway.get()
    t.equal(answer.status, 200, `after kill -9 of ${name}`)
    const after = await gateway.until(
      ({ ready, processes }) => ready && processes.every((row) => row.name !== name || row.pid !== before),
    )
    const row = after.processes.find((process) => process.name === name)
    t.match(row, { restarts: 1, lastError: { text: 'was ended by SIGKILL' } })
  }
  const told = (JSON.parse((await gateway.get()).body) as { told: { type: string }[] }).told.filter(
    ({ type }) => type !== 'peers',
  )
  t.match(
    told[0],
    { type: 'snapshot', ref: { version: 7 }, confirmedAt: 2000 },
    'a new proxy is told what is known',
  )
})

t.test('a process that stands still or breaks the contract is replaced', async (t) => {
  proves(t, 'GW-RESTART-02')
  const gateway = startGateway({ limits: { pingEveryMs: 50, missedPings: 8 } })
  t.teardown(() => gateway.stop())
  await gateway.ready()
  const first = await gateway.pid('proxy-0')
  process.kill(first, 'SIGSTOP')
  const second = await gateway.until(({ processes }) =>
    processes.some(({ name, pid, state }) => name === 'proxy-0' && pid !== first && state === 'running'),
  )
  t.match(second.processes.find(({ name }) => name === 'proxy-0')?.lastError?.text, /does not answer/)
  t.notOk(isAlive(first))
  t.equal((await gateway.get()).status, 200)

  const before = await gateway.pid('proxy-0')
  process.kill(before, 'SIGUSR2')
  const third = await gateway.until(({ processes }) =>
    processes.some(({ name, pid, state }) => name === 'proxy-0' && pid !== before && state === 'running'),
  )
  t.match(
    third.processes.find(({ name }) => name === 'proxy-0')?.lastError?.text,
    /does not fit the contract/,
  )
  t.equal((await gateway.get()).status, 200)
})

t.test('a crash loop turns readiness off and says why, and ends when the cause does', async (t) => {
  proves(t, 'GW-RESTART-03')
  const gateway = startGateway({
    limits: { crashLoop: 3, backoffBaseMs: 40, backoffCapMs: 80, stableMs: 100 },
  })
  t.teardown(() => gateway.stop())
  await gateway.ready()
  const crash = join(gateway.dir, 'flags/crash')
  writeFileSync(crash, '')
  process.kill(await gateway.pid('proxy-0'), 'SIGKILL')
  const broken = await gateway.until(({ reasons }) => reasons.some((reason) => reason.includes('crash loop')))
  t.match(broken.reasons, ['proxy-0: crash loop (exited with code 9)'])
  t.equal((await ask({ port: gateway.metricsPort, plain: true, path: '/ready' })).status, 503)
  await gateway.line(({ msg, reasons }) => msg === 'not ready' && String(reasons).includes('crash loop'))
  unlinkSync(crash)
  await gateway.until(({ ready }) => ready)
  t.equal((await gateway.get()).status, 200)
})

t.test('every worker takes connections', async (t) => {
  const gateway = startGateway({ env: { AEMBIT_PROXY_WORKERS: '2' } })
  t.teardown(() => gateway.stop())
  await gateway.ready()
  const pids = new Set<number>()
  for (let n = 0; n < 4; n++) pids.add(pidOf((await gateway.get()).body))
  t.equal(pids.size, 2)
})
