import { once } from 'node:events'
import { writeFileSync } from 'node:fs'
import { Agent } from 'node:https'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import t from 'tap'
import { bindTcp } from '../../services/supervisor/listeners.ts'
import { succeeded } from '../../shared/ipc/succession.ts'
import { ask } from '../front/requests.ts'
import { proves } from '../requirements.ts'
import { isAlive, startGateway } from './rig.ts'

const pidOf = (body: string): number => (JSON.parse(body) as { pid: number }).pid

t.test('kill -9 of the supervisor: its processes serve until the next one is ready', async (t) => {
  proves(t, 'GW-RESTART-08')
  const https = bindTcp('127.0.0.1', 0, 'TEST')
  const http = bindTcp('127.0.0.1', 0, 'TEST')
  const inherited = [https.fd, http.fd]
  const systemd = { LISTEN_FDS: '2', LISTEN_FDNAMES: 'https:http' }
  const first = startGateway({ inherited, env: systemd })
  t.teardown(() => first.stop())
  await first.ready()
  const [front, proxy, sync] = await Promise.all(['front', 'proxy-0', 'sync'].map((name) => first.pid(name)))
  const agent = new Agent({ keepAlive: true, maxSockets: 1 })
  t.teardown(() => agent.destroy())
  const { port } = https
  t.equal(pidOf((await ask({ port, agent })).body), proxy)

  first.process.kill('SIGKILL')
  await once(first.process, 'exit')
  while (isAlive(sync ?? -1)) await sleep(10)
  t.equal(pidOf((await ask({ port })).body), proxy, 'a new connection')
  t.equal(pidOf((await ask({ port, agent })).body), proxy, 'one that was there')

  const failures: string[] = []
  let load = true
  const client = (async () => {
    while (load) {
      const answer = await ask({ port, agent }).catch((error) => ({ status: String(error) }))
      if (answer.status !== 200) failures.push(String(answer.status))
      await sleep(2)
    }
  })()
  const { AEMBIT_RUNTIME_DIR = '', AEMBIT_STATE_DIR = '' } = first.env
  const second = startGateway({ inherited, env: { ...systemd, AEMBIT_RUNTIME_DIR, AEMBIT_STATE_DIR } })
  t.teardown(() => second.stop())
  await second.ready()
  while ([front, proxy].some((pid) => isAlive(pid ?? -1))) await sleep(10)
  const next = await second.pid('proxy-0')
  t.equal(pidOf((await ask({ port, agent })).body), next)
  load = false
  await client
  t.same(failures, [])
  t.equal((await second.status()).ready, true)
})

t.test('without systemd the port is given up with the supervisor', async (t) => {
  proves(t, 'GW-RESTART-08')
  const gateway = startGateway()
  t.teardown(() => gateway.stop())
  await gateway.ready()
  const pids = (await gateway.status()).processes.map(({ pid }) => pid ?? -1)
  gateway.process.kill('SIGKILL')
  while (pids.some(isAlive)) await sleep(10)
  await t.rejects(gateway.get(), { code: 'ECONNREFUSED' })
})

t.test('it is over when the file names another, when it appears, and in the end anyway', async () => {
  const dir = t.testdir({ serving: '1' })
  const path = join(dir, 'serving')
  const renamed = succeeded(path, 60_000)
  const appeared = succeeded(join(dir, 'absent'), 60_000)
  await sleep(100)
  writeFileSync(path, '2')
  writeFileSync(join(dir, 'absent'), '1')
  await Promise.all([renamed, appeared, succeeded(path, 1)])
})
