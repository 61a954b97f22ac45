import { setTimeout as sleep } from 'node:timers/promises'
import t from 'tap'
import { startRedis } from '../../rig/redis.ts'
import { token } from '../edge/fakes.ts'
import { startAsking } from '../mcp/asking-server.ts'
import { connect, open, startGateway } from './gateways.ts'

const ping = { id: 1, method: 'ping' }

t.test('gateways that share a store share sessions', async (t) => {
  const redis = await startRedis()
  const server = await startAsking({ tools: {}, logging: {} })
  const client = await connect(redis)
  t.teardown(async () => {
    client.disconnect()
    await redis.close()
    await server.close()
  })
  const first = await startGateway(t, redis, server.url)
  const session = await open(first)
  const other = await open(first)
  await first.ask({ id: 1, method: 'logging/setLevel', params: { level: 'warning' } }, { headers: session })
  t.equal((await first.ask(null, { headers: other })).status, 204)

  const keys = (await client.keys('*')).sort()
  t.match(keys[0], /^aembit_mcp_gateway:tenant:t1:sessions$/)
  for (const key of keys.slice(1)) {
    t.match(key, /^aembit_mcp_gateway:tenant:t1:user:[\w-]{43}:session:[0-9a-f-]{36}$/)
    t.ok((await client.pttl(key)) > 3_500_000, 'kept as long as the session could live')
  }
  const content = JSON.stringify(await Promise.all(keys.slice(1).map((key) => client.hgetall(key))))
  t.notMatch(content, session['mcp-session-id'], 'nothing there opens a session')

  await first.kill()
  const second = await startGateway(t, redis, server.url)
  t.equal((await second.ask(ping, { headers: session })).status, 200, 'the client notices nothing')
  t.equal((await second.ask(ping, { headers: other })).status, 404, 'ended stays ended')
  t.equal(
    (await second.ask(ping, { headers: session, token: await token({ sub: 'bob@corp.test' }) })).status,
    404,
    'bound to its user',
  )
  const call = second.ask({ id: 2, method: 'tools/call', params: { name: 'a_go' } }, { headers: session })
  await server.call(0)
  server.finish(0)
  await call
  t.match(
    server.said.find(({ method }) => method === 'logging/setLevel')?.params,
    { level: 'warning' },
    'the log level too',
  )

  const records = keys.filter((name) => name.includes(':session:'))
  await client.del(records)
  t.equal((await second.ask(ping, { headers: session })).status, 200, 'a record that is lost is a miss')
  await client.del(records)
  for (const key of records) await client.set(key, 'not a hash of ours')
  t.equal((await second.ask(ping, { headers: session })).status, 200, 'one that can not be read too')
  for (const key of records) await client.set(key, 'not a hash of ours')
  t.equal((await second.ask(null, { headers: session })).status, 204, 'and it can be ended')
  t.equal((await second.ask(ping, { headers: session })).status, 404)
})

t.test(
  'a store that is down: initialize answers, ids are unknown, nothing is taken from memory',
  async (t) => {
    const redis = await startRedis()
    const server = await startAsking()
    t.teardown(async () => {
      await redis.close()
      await server.close()
    })
    const worker = await startGateway(t, redis, server.url)
    const session = await open(worker)
    t.equal((await worker.ask(ping, { headers: session })).status, 200)
    await redis.stop()
    t.equal((await worker.ask(ping, { headers: session })).status, 404)
    const during = await open(worker)
    t.equal((await worker.ask(ping, { headers: during })).status, 404)
    t.equal((await worker.ask(null, { headers: during })).status, 404)
    t.equal((await worker.ask(ping)).status, 200, 'clients without a session need no store')
    await worker.until(
      (report) =>
        report.type === 'check' && report.check === 'proxy.sessionStore' && report.status === 'failing',
    )
    const stats = await worker.until(
      (report) =>
        report.type === 'stats' &&
        report.values.sessionStoreUp === 0 &&
        Number(report.values.sessionStoreErrors) > 0,
    )
    t.match(stats, { values: { sessionStore: 'valkey' } })

    await redis.start()
    for (let attempt = 0; attempt < 200; attempt++) {
      if ((await worker.ask(ping, { headers: session })).status === 200) break
      await sleep(50)
    }
    t.equal((await worker.ask(ping, { headers: during })).status, 200, 'sessions live on')
  },
)
