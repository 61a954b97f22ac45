import { type ChildProcess, fork } from 'node:child_process'
import { createHash } from 'node:crypto'
import { once } from 'node:events'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { request } from 'node:http'
import { connect } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t from 'tap'
import type { Report } from '../../../shared/ipc/contract.ts'
import { encodeProxyHeader } from '../../../shared/proxy-protocol.ts'
import { proves } from '../../requirements.ts'
import { FakeSync, snapshot, token } from './fakes.ts'
import { rpc, startRig } from './rig.ts'

t.test('what runs is finished, idle connections are closed, nobody new comes in', async (t) => {
  proves(t, 'GW-RESTART-06')
  const { promise: release, resolve: go } = Promise.withResolvers<void>()
  const rig = await startRig({
    core: async (call) => {
      if ('method' in call.message && call.message.method === 'slow') await release
      call.reply.json(200, '{"done":1}')
    },
  })
  t.teardown(() => rig.close())
  const idle = rig.dial()
  const body = rpc('x')
  const text = (what: string): string =>
    `POST /mcp HTTP/1.1\r\nHost: gw.test:8443\r\nAuthorization: Bearer ${rig.valid}\r\nContent-Type: application/json\r\nContent-Length: ${what.length}\r\n\r\n${what}`
  idle.write(text(body))
  await once(idle, 'data')
  const busy = rig.dial()
  busy.write(text(rpc('slow')))
  const session = rig.session2()
  const slow2 = rig.http2({ body: rpc('slow') }, session)
  while (rig.core.calls.length < 3) await new Promise((done) => setTimeout(done, 2))
  const goaway = once(session, 'goaway')
  const closed = once(idle, 'close')
  const drained = rig.stop(5_000)
  await closed
  await goaway
  const late = connect(rig.config.socketPath)
  const [refused] = await once(late, 'error')
  t.match(refused, { code: /ENOENT|ECONNREFUSED/ })
  go()
  const [data] = await once(busy, 'data')
  t.match(String(data), /^HTTP\/1.1 200 .*connection: close.*{"done":1}$/is)
  t.equal((await slow2).text, '{"done":1}')
  t.equal(await drained, 0)
})

t.test('the deadline ends what does not finish, and counts it', async (t) => {
  const rig = await startRig({ core: () => new Promise(() => {}) })
  t.teardown(() => rig.close())
  const hanging = rig.http1({ body: rpc('x') }).catch((error: NodeJS.ErrnoException) => error.code)
  while (rig.core.calls.length === 0) await new Promise((done) => setTimeout(done, 2))
  t.equal(await rig.stop(50), 1)
  t.equal(await hanging, 'ECONNRESET')
})

t.test('the process: hello, configure, snapshot, serve, drain, exit 0', async (t) => {
  const dir = await mkdtemp(join(tmpdir(), 'proxy-'))
  const sync = new FakeSync()
  const syncSocketPath = join(dir, 'sync.sock')
  sync.server.listen(syncSocketPath)
  await once(sync.server, 'listening')
  const child: ChildProcess = fork('services/proxy/main.ts', { silent: true })
  const reports: Report<'proxy'>[] = []
  child.on('message', (message) => reports.push(message as Report<'proxy'>))
  t.teardown(async () => {
    child.kill('SIGKILL')
    for (const stream of sync.streams) stream.destroy()
    sync.server.closeAllConnections()
    sync.server.close()
    await rm(dir, { recursive: true, force: true })
  })
  const until = async (test: (report: Report<'proxy'>) => boolean): Promise<void> => {
    while (!reports.some(test)) {
      if (child.exitCode !== null) throw new Error(`the process ended with code ${child.exitCode}`)
      await Promise.race([once(child, 'message'), once(child, 'exit')])
    }
  }
  await until((report) => report.type === 'hello')
  const config = {
    logLevel: 'off',
    version: '0.0.0',
    worker: 0,
    origin: 'https://gw.test:8443',
    mcpPath: '/mcp',
    publicPort: 8443,
    socketPath: join(dir, 'proxy-0.1.sock'),
    peer: { id: '0.1', socketPath: join(dir, 'peer-0.1.sock') },
    syncSocketPath,
    stdioSocketPath: null,
    controlPlaneSocketPath: null,
    spoolDir: join(dir, 'spool'),
    sessionIdleTtlSecs: 3600,
    sessionStore: null,
    timeouts: {},
    trustedIssuerDomains: [],
    allowedOrigins: [],
    snapshotMaxAgeMs: 60_000,
    successionPath: null,
    limits: { bodyBytes: 65_536, bodyTimeoutMs: 5_000, depth: 64, concurrent: 64, responseBytes: 1 << 20 },
  }
  child.send({ type: 'configure', epoch: 1, config })
  await until((report) => report.type === 'applied')
  const content = JSON.stringify(snapshot(1))
  const path = join(dir, 'snapshot.json')
  await writeFile(path, content)
  const sha256 = createHash('sha256').update(content).digest('hex')
  child.send({ type: 'snapshot', ref: { version: 1, path, sha256 }, confirmedAt: Date.now() })
  for (const check of ['proxy.socket', 'proxy.snapshot', 'proxy.sync']) {
    await until((report) => report.type === 'check' && report.check === check && report.status === 'running')
  }
  const bearer = await token()
  const status = await new Promise((resolve, reject) => {
    const socket = connect(config.socketPath)
    const at = { address: '127.0.0.1', port: 1 }
    socket.write(
      encodeProxyHeader({ source: at, destination: at, alpn: null, authority: null, tlsVersion: null }),
    )
    const req = request({
      method: 'POST',
      path: '/mcp',
      headers: {
        host: 'gw.test:8443',
        authorization: `Bearer ${bearer}`,
        'content-type': 'application/json',
      },
      createConnection: () => socket,
    })
    req.on('response', (res) => resolve(res.resume().statusCode))
    req.on('error', reject)
    req.end(
      rpc('initialize', {
        protocolVersion: '2025-11-25',
        capabilities: {},
        clientInfo: { name: 'a', version: '1' },
      }),
    )
  })
  t.equal(status, 200)
  child.send({ type: 'drain', deadlineMs: 1_000 })
  const [code] = await once(child, 'exit')
  t.equal(code, 0)
  t.match(reports.at(-1), { type: 'drained', left: 0 })
})
