import t from 'tap'
import { proves } from '../requirements.ts'
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

t.test('one that says no ends the start for good', async (t) => {
  proves(t, 'GW-START-09')
  const redis = await startRedis()
  t.teardown(() => redis.close())
  const gateway = startGateway({ env: { AEMBIT_VALKEY_URL: `redis://:hunter2@127.0.0.1:${redis.port}` } })
  t.teardown(() => gateway.stop())
  const { code, stderr } = await gateway.exited
  t.equal(code, 2)
  t.match(stderr, /AEMBIT_VALKEY_URL: the session store at redis:\/\/127.0.0.1:\d+\/0 does not take us/)
  t.notMatch(stderr, /hunter2/)
})

t.test('one that is away is waited for', async (t) => {
  proves(t, 'GW-START-09')
  const redis = await startRedis()
  await redis.stop()
  const gateway = startGateway({ env: { AEMBIT_VALKEY_URL: redis.url } })
  t.teardown(async () => {
    await gateway.stop()
    await redis.close()
  })
  const { detail } = await gateway.line(({ msg }) => msg === 'waits for the session store')
  t.match(detail, /AEMBIT_VALKEY_URL: the session store at redis:.* does not take us .*ECONNREFUSED/)
  t.notMatch(detail, password)
  await redis.start()
  await gateway.ready()
})

t.test(
  'a wait for it ends by a signal, and after a minute with an exit code that systemd tries again',
  async (t) => {
    proves(t, 'GW-START-09')
    const waiting = startGateway({ env: { AEMBIT_VALKEY_URL: `redis://127.0.0.1:${freePort()}` } })
    t.teardown(() => waiting.stop())
    await waiting.line(({ msg }) => msg === 'waits for the session store')
    waiting.process.kill('SIGTERM')
    t.match(await waiting.exited, { code: 0 })

    const left = startGateway({
      env: { AEMBIT_VALKEY_URL: `redis://:hunter2@127.0.0.1:${freePort()}`, FAKE_HURRY: 'true' },
    })
    t.teardown(() => left.stop())
    const { code, stderr } = await left.exited
    t.equal(code, 1)
    t.match(stderr, /AEMBIT_VALKEY_URL: the session store at redis:\/\/127.0.0.1:\d+\/0 does not take us/)
    t.notMatch(stderr, /hunter2/)
    const waits = left.log.filter(({ msg }) => msg === 'waits for the session store').length
    t.ok(waits >= 25 && waits <= 30, `${waits} waits of two seconds`)
  },
)
