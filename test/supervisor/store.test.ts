import t from 'tap'
import { freePort } from '../rig/free-port.ts'
import { password, startRedis } from '../rig/redis.ts'
import { startGateway } from './rig.ts'

t.test('the session store is tried at the start, and its password stays with those who use it', async (t) => {
  const redis = await startRedis()
  const gateway = startGateway({ env: { AEMBIT_VALKEY_URL: redis.url } })
  t.teardown(async () => {
    await gateway.stop()
    await redis.close()
  })
  await gateway.ready()
  const { config, env } = JSON.parse((await gateway.get()).body) as { config: object; env: string[] }
  t.ok(env.includes('AEMBIT_VALKEY'), 'a proxy gets it')
  t.notMatch(JSON.stringify([config, gateway.log, await gateway.status()]), encodeURIComponent(password))
  t.notMatch(JSON.stringify([config, gateway.log, await gateway.status()]), password)
})

t.test('one that does not answer, or not to us, ends the start', async (t) => {
  const redis = await startRedis()
  t.teardown(() => redis.close())
  const wrong = `redis://:hunter2@127.0.0.1:${redis.port}`
  const away = `redis://:hunter2@127.0.0.1:${freePort()}`
  for (const url of [wrong, away]) {
    const gateway = startGateway({ env: { AEMBIT_VALKEY_URL: url } })
    t.teardown(() => gateway.stop())
    const { code, stderr } = await gateway.exited
    t.equal(code, 2)
    t.match(stderr, /AEMBIT_VALKEY_URL: the session store at redis:\/\/127.0.0.1:\d+\/0 does not take us/)
    t.notMatch(stderr, /hunter2/)
  }
})
