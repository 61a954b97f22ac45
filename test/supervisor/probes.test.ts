import { setTimeout as sleep } from 'node:timers/promises'
import t from 'tap'
import { Probes } from '../../services/supervisor/probes.ts'
import type { ProcessStatus } from '../../services/supervisor/status.ts'
import { proves } from '../requirements.ts'
import { look } from '../rig/scrape.ts'
import { startGateway } from './rig.ts'

const process = (role: string, more: Partial<ProcessStatus>): ProcessStatus => ({
  name: role,
  role,
  pid: 1,
  state: 'running',
  uptimeSecs: 1,
  restarts: 0,
  lagMs: 0,
  rssBytes: 0,
  lastError: null,
  checks: {},
  stats: {},
  ...more,
})
const cloud = (control_plane: string) => ({
  processes: [process('sync', { stats: { control_plane, last_error: 'no route' } })],
})
const store = (...said: string[]) => ({
  processes: said.map((each) => process('proxy', { checks: { 'proxy.sessionStore': each } })),
})

t.test('the control plane counts as away after three looks in a row', async (t) => {
  proves(t, 'OPS-HEALTH-01')
  const probes = new Probes()
  for (const seen of ['starting', 'connected', 'away', 'away', 'connected', 'away', 'away'])
    probes.look(cloud(seen))
  t.same(probes.reasons, [], 'two are an accident')
  t.same(probes.all, [{ name: 'cloud', up: true, flaps: 0 }])
  probes.look(cloud('away'))
  t.same(probes.reasons, ['cloud: the control plane is away (no route)'])
  probes.look(cloud('away'))
  t.same(probes.all, [{ name: 'cloud', up: false, flaps: 1 }])
  probes.look(cloud('connected'))
  t.same(probes.reasons, [])
  t.same(probes.all, [{ name: 'cloud', up: true, flaps: 2 }])
})

t.test('one worker without the session store is enough; without a store there is no probe', async (t) => {
  const probes = new Probes()
  probes.look({ processes: [process('proxy', {})] })
  t.notOk(probes.all.some(({ name }) => name === 'session_store'))
  probes.look(store('running', 'running'))
  t.same(probes.reasons, [])
  probes.look(store('running', 'failing: no answer'))
  t.same(probes.reasons, ['session_store: failing: no answer'])
})

t.test('healthz, readyz and its alias on the port of metrics', async (t) => {
  const gateway = startGateway()
  t.teardown(() => gateway.stop())
  await gateway.ready()
  t.match(await look(gateway.metricsPort, '/healthz'), { status: 200, body: '{"healthy":true}' })
  t.match(await look(gateway.metricsPort, '/readyz'), { status: 200, body: '{"ready":true,"reasons":[]}' })
  t.match(await look(gateway.metricsPort, '/ready?from=lb'), { status: 200 })
  t.equal((await look(gateway.metricsPort, '/')).status, 404)
  // Stopped, it answers no ping: first not healthy, then replaced.
  globalThis.process.kill(await gateway.pid('sync'), 'SIGSTOP')
  const seen = new Set<number>()
  while (!seen.has(503)) {
    seen.add((await look(gateway.metricsPort, '/readyz')).status)
    await sleep(10)
  }
  await gateway.until(({ ready }) => ready)
  t.equal((await look(gateway.metricsPort, '/readyz')).status, 200, 'healed')
})
