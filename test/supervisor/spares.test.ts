import { appendFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import t, { type Test } from 'tap'
import type { GatewayStatus } from '../../services/supervisor/status.ts'
import { ask } from '../front/requests.ts'
import { proves } from '../requirements.ts'
import { type GatewayRig, isAlive, startGateway } from './rig.ts'

const start = async (t: Test): Promise<GatewayRig> => {
  const gateway = startGateway({ env: { AEMBIT_WARM_SPARES: 'true' }, limits: { spareAfterMs: 50 } })
  t.teardown(() => gateway.stop())
  await gateway.ready()
  return gateway
}
const whole = ({ ready, spares }: GatewayStatus): boolean => ready && spares.length === 3
const pidOf = ({ spares }: GatewayStatus, role: string): number =>
  spares.find((spare) => spare.role === role)?.pid ?? -1

t.test('a spare takes the place of a process that dies, and another one is made', async (t) => {
  proves(t, 'GW-RESTART-07')
  const gateway = await start(t)
  for (const name of ['front', 'proxy-0', 'sync']) {
    const before = await gateway.until(whole)
    const spare = pidOf(before, name.replace('-0', ''))
    const killedAt = performance.now()
    process.kill(await gateway.pid(name), 'SIGKILL')
    const after = await gateway.until(({ ready, processes }) =>
      Boolean(ready && processes.find((row) => row.name === name)?.pid === spare),
    )
    const row = after.processes.find((row) => row.name === name)
    t.match(row, { restarts: 1, lastError: { text: 'was ended by SIGKILL' } }, name)
    t.ok((row?.uptimeSecs ?? Infinity) <= (performance.now() - killedAt) / 1000, 'up since it took the place')
    t.equal((await gateway.get()).status, 200)
    t.not(pidOf(await gateway.until(whole), name.replace('-0', '')), spare)
  }
})

t.test('spares count as no process, are replaced when they die, and end with the gateway', async (t) => {
  proves(t, 'GW-RESTART-07')
  const gateway = await start(t)
  const status = await gateway.until(whole)
  t.equal(status.processes.length, 3)
  const { body } = await ask({ port: gateway.metricsPort, plain: true, path: '/metrics' })
  t.equal(body.match(/^aembit_mcp_gateway_process_up\{/gm)?.length, 3)

  const spare = pidOf(status, 'proxy')
  process.kill(spare, 'SIGKILL')
  await gateway.line(({ msg, reason }) => msg === 'spare is gone' && reason === 'was ended by SIGKILL')
  const again = await gateway.until((now) => whole(now) && pidOf(now, 'proxy') !== spare)
  t.equal(again.ready, true)
  t.equal(again.processes.find(({ name }) => name === 'proxy-0')?.restarts, 0)

  gateway.process.kill('SIGTERM')
  await gateway.exited
  t.same(again.spares.map(({ pid }) => pid ?? -1).filter(isAlive), [])
})

t.test('a restart that is asked for starts anew, also the spare', async (t) => {
  const gateway = await start(t)
  const before = pidOf(await gateway.until(whole), 'proxy')
  t.equal((await gateway.operator('/v1/restart/proxy')).status, 200)
  t.not(await gateway.pid('proxy-0'), before, 'what a process finds at its start may be new')
  t.not(pidOf(await gateway.until(whole), 'proxy'), before)
  t.notOk(isAlive(before))
})

t.test('without a supervisor spares end at once', async (t) => {
  const gateway = await start(t)
  const { spares, processes } = await gateway.until(whole)
  gateway.process.kill('SIGKILL')
  const gone = [...spares, ...processes].map(({ pid }) => pid ?? -1)
  while (gone.some(isAlive)) await sleep(10)
})

t.test('a reload turns them off and on', async (t) => {
  const file = join(t.testdir(), 'settings')
  writeFileSync(file, 'AEMBIT_WARM_SPARES=true\n')
  const gateway = startGateway({ env: { AEMBIT_ENV_FILE: file }, limits: { spareAfterMs: 50 } })
  t.teardown(() => gateway.stop())
  await gateway.ready()
  const { spares } = await gateway.until(whole)
  appendFileSync(file, 'AEMBIT_WARM_SPARES=false\n')
  t.same((await gateway.operator('/v1/reload')).body, { problems: [] })
  t.same((await gateway.status()).spares, [])
  while (spares.some(({ pid }) => isAlive(pid ?? -1))) await sleep(10)
  appendFileSync(file, 'AEMBIT_WARM_SPARES=true\n')
  t.same((await gateway.operator('/v1/reload')).body, { problems: [] })
  await gateway.until(whole)
})
