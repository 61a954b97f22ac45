import { once } from 'node:events'
import { writeFileSync } from 'node:fs'
import { createServer } from 'node:net'
import { join } from 'node:path'
import t from 'tap'
import { bindTcp } from '../../services/supervisor/listeners.ts'
import { inheritedFds } from '../../shared/listen-fds.ts'
import { ask } from '../front/requests.ts'
import { proves } from '../requirements.ts'
import { freePort } from '../rig/free-port.ts'
import { isAlive, startGateway } from './rig.ts'

t.test('wrong settings: every problem on stderr, exit code 2', async (t) => {
  proves(t, 'GW-START-02')
  const gateway = startGateway({
    env: { AEMBIT_HTTPS_PORT: 'x', AEMBIT_AGENT_CONTROLER_URL: 'y', AEMBIT_TLS_PRIVATE_KEY_PATH: '/absent' },
  })
  t.teardown(() => gateway.stop())
  const { code, stderr } = await gateway.exited
  t.equal(code, 2)
  t.match(stderr, /3 problems/)
  t.match(stderr, /AEMBIT_AGENT_CONTROLER_URL: .* did you mean AEMBIT_AGENT_CONTROLLER_URL/)
  t.match(stderr, /AEMBIT_HTTPS_PORT: must be a whole number/)
  t.match(stderr, /AEMBIT_TLS_PRIVATE_KEY_PATH: \/absent can not be read \(ENOENT\)/)
})

t.test('a taken port: one line with the address and the setting, exit code 2', async (t) => {
  proves(t, 'GW-START-05')
  const other = createServer().listen(0, '127.0.0.1')
  t.teardown(() => other.close())
  await once(other, 'listening')
  const { port } = other.address() as { port: number }
  for (const key of ['AEMBIT_HTTPS_PORT', 'AEMBIT_HTTP_PORT', 'AEMBIT_METRICS_PORT']) {
    const gateway = startGateway({ env: { [key]: String(port) } })
    t.teardown(() => gateway.stop())
    t.match(await gateway.exited, {
      code: 2,
      stderr: `aembit_mcp_gateway: 127.0.0.1:${port} is taken by another process; stop it or set ${key}\n`,
    })
  }
})

t.test('a port that is taken between bind and listen is told the same way', async (t) => {
  const rival = bindTcp('127.0.0.1', 0, 'TEST')
  t.teardown(() => rival.close())
  const gateway = startGateway({ port: rival.port, env: { FAKE_FRONT: 'slow' } })
  t.teardown(() => gateway.stop())
  await gateway.line(({ msg, process }) => msg === 'child started' && process === 'front')
  const other = createServer().listen({ fd: rival.fd })
  t.teardown(() => other.close())
  await once(other, 'listening')
  writeFileSync(join(gateway.dir, 'flags/go'), '')
  const { code, stderr } = await gateway.exited
  t.equal(code, 2)
  t.match(stderr, `127.0.0.1:${rival.port} is taken by another process; stop it or set AEMBIT_HTTPS_PORT`)
})

t.test('a second gateway in the same runtime folder is refused', async (t) => {
  const first = startGateway()
  t.teardown(() => first.stop())
  await first.ready()
  const second = startGateway({ env: { AEMBIT_RUNTIME_DIR: join(first.dir, 'run') } })
  t.teardown(() => second.stop())
  t.match(await second.exited, { code: 2, stderr: /another gateway runs on .*operator\.sock/ })
  t.equal((await first.get()).status, 200)
})

t.test('sockets from systemd are used, and survive the front', async (t) => {
  proves(t, 'GW-START-06')
  const https = bindTcp('127.0.0.1', 0, 'TEST')
  const http = bindTcp('127.0.0.1', 0, 'TEST')
  const taken = freePort()
  const gateway = startGateway({
    port: taken,
    inherited: [http.fd, https.fd],
    env: { LISTEN_FDS: '2', LISTEN_FDNAMES: 'http:https' },
  })
  t.teardown(() => gateway.stop())
  await gateway.ready()
  https.close()
  http.close()
  t.equal((await ask({ port: https.port })).status, 200)
  t.equal((await ask({ port: http.port, plain: true })).status, 308)
  await t.rejects(ask({ port: taken }), { code: 'ECONNREFUSED' })
  const front = await gateway.pid('front')
  process.kill(front, 'SIGKILL')
  while (isAlive(front)) await new Promise((resolve) => setTimeout(resolve, 1))
  t.equal((await ask({ port: https.port })).status, 200)
})

t.test('what sd_listen_fds(3) says', async (t) => {
  const fds = (env: Record<string, string>) => Object.fromEntries(inheritedFds(env, 42, ['https', 'http']))
  t.same(fds({ LISTEN_PID: '42', LISTEN_FDS: '2' }), { https: 3, http: 4 })
  t.same(fds({ LISTEN_PID: '42', LISTEN_FDS: '2', LISTEN_FDNAMES: 'http:https' }), { http: 3, https: 4 })
  t.same(fds({ LISTEN_PID: '41', LISTEN_FDS: '2' }), {}, 'meant for another process')
  t.same(fds({}), {})
})
