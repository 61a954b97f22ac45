import { writeFileSync } from 'node:fs'
import { Agent } from 'node:https'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import t from 'tap'
import { proves } from '../requirements.ts'
import { type GatewayRig, isAlive, startGateway } from './rig.ts'

const pidOf = (body: string): number => (JSON.parse(body) as { pid: number }).pid

/** Requests without a pause until stopped, half on kept connections; a failed one is what the test is about. */
function load(gateway: GatewayRig): {
  stop(): Promise<{ done: number; failed: string[]; pids: Set<number> }>
} {
  const agent = new Agent({ keepAlive: true })
  const failed: string[] = []
  const pids = new Set<number>()
  let done = 0
  let running = true
  const client = async (kept: Agent | undefined): Promise<void> => {
    while (running) {
      try {
        const answer = await gateway.get('/', kept)
        if (answer.status !== 200) failed.push(String(answer.status))
        else pids.add(pidOf(answer.body))
        done++
      } catch (error) {
        failed.push(String(error))
      }
      await sleep(2)
    }
  }
  const clients = [client(agent), client(agent), client(undefined), client(undefined)]
  return {
    stop: async () => {
      running = false
      await Promise.all(clients)
      agent.destroy()
      return { done, failed, pids }
    },
  }
}

t.test('a rolling restart fails no request', async (t) => {
  proves(t, 'GW-RESTART-04')
  const gateway = startGateway({ env: { AEMBIT_PROXY_WORKERS: '2' } })
  t.teardown(() => gateway.stop())
  await gateway.ready()
  const before = await gateway.status()
  const slow = gateway.get('/?wait=1500')
  const clients = load(gateway)
  for (const name of ['proxy', 'sync', 'proxy-1']) {
    t.same(await gateway.operator(`/v1/restart/${name}`), { status: 200, body: { problems: [] } }, name)
    await sleep(150)
  }
  const { done, failed, pids } = await clients.stop()
  t.same(failed, [])
  t.ok(done > 50, `${done} requests`)
  t.ok(pids.size >= 4, 'old and new workers answered')
  t.equal((await slow).status, 200, 'a request in flight ends where it began')
  const after = await gateway.until(({ processes }) => processes.every(({ state }) => state === 'running'))
  for (const { name, pid, restarts } of after.processes) {
    const old = before.processes.find((row) => row.name === name)?.pid ?? -1
    t.equal(restarts, name === 'proxy-1' ? 2 : name === 'front' ? 0 : 1, name)
    if (name !== 'front') {
      t.not(pid, old)
      t.notOk(isAlive(old))
    }
  }
})

t.test('front is replaced too: new connections at the new one, the old ones run on', async (t) => {
  const gateway = startGateway()
  t.teardown(() => gateway.stop())
  await gateway.ready()
  const old = await gateway.pid('front')
  const slow = gateway.get('/?wait=600')
  const clients = load(gateway)
  await sleep(100)
  t.same((await gateway.operator('/v1/restart/front')).status, 200)
  t.equal((await slow).status, 200)
  const { failed } = await clients.stop()
  t.same(failed, [])
  t.not(await gateway.pid('front'), old)
  await gateway.until(({ processes }) => processes.every(({ state }) => state === 'running'))
  t.notOk(isAlive(old))
})

t.test('a successor that does not become ready leaves the predecessor in place', async (t) => {
  proves(t, 'GW-RESTART-05')
  const gateway = startGateway({ limits: { startMs: 8_000 } })
  t.teardown(() => gateway.stop())
  await gateway.ready()
  const before = await gateway.pid('proxy-0')
  writeFileSync(join(gateway.dir, 'flags/unready'), '')
  t.match(await gateway.operator('/v1/restart/proxy'), {
    status: 409,
    body: { problems: ['proxy-0 did not become ready (proxy.fake)'] },
  })
  t.equal(await gateway.pid('proxy-0'), before)
  t.equal(pidOf((await gateway.get()).body), before)
  t.equal((await gateway.status()).ready, true)
  t.equal((await gateway.operator('/v1/restart/nothing')).status, 404)
})

t.test('every proxy knows every other one, also one that drains', async (t) => {
  const gateway = startGateway({ env: { AEMBIT_PROXY_WORKERS: '2' } })
  t.teardown(() => gateway.stop())
  await gateway.ready()
  /** The lists that the worker which answers was told, and who it is. */
  const ask = async (): Promise<{ self: string; lists: string[][] }> => {
    const { config, told } = JSON.parse((await gateway.get()).body) as {
      config: { peer: { id: string } }
      told: { type: string; peers: { id: string }[] }[]
    }
    const lists = told.filter(({ type }) => type === 'peers').map(({ peers }) => peers.map(({ id }) => id))
    return { self: config.peer.id, lists }
  }
  const before = await ask()
  const all = before.lists.at(-1) ?? []
  t.equal(all.length, 2)
  t.ok(all.includes(before.self))

  t.same(await gateway.operator('/v1/restart/proxy'), { status: 200, body: { problems: [] } })
  await gateway.until(({ processes }) => processes.every(({ state }) => state === 'running'))
  const after = await ask()
  t.notOk(all.includes(after.self), 'a successor answers')
  t.ok(
    after.lists.some((list) => list.length === 3 && all.some((id) => list.includes(id))),
    'and knew its predecessor while that one was there',
  )
  t.equal(after.lists.at(-1)?.length, 2, 'and who is there now')
})
