import { execFile } from 'node:child_process'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import t from 'tap'
import { age, printStatus } from '../../services/supervisor/cli-status.ts'
import { proves } from '../requirements.ts'
import { startGateway } from './rig.ts'

const script = fileURLToPath(new URL('../../services/supervisor/cli.ts', import.meta.url))

const cli = (
  args: string[],
  env: Record<string, string>,
): Promise<{ code: number; out: string; err: string }> =>
  new Promise((resolve) => {
    execFile(process.execPath, [script, ...args], { env }, (error, out, err) =>
      resolve({ code: error ? Number(error.code) : 0, out, err }),
    )
  })

t.test('against a running gateway', async (t) => {
  const gateway = startGateway()
  t.teardown(() => gateway.stop())
  await gateway.ready()
  const { env } = gateway
  const settings = Object.fromEntries(Object.entries(env).filter(([key]) => !key.startsWith('FAKE_')))

  const [status, json, check, restart, unknown, reload, usage] = await Promise.all([
    cli(['status'], settings),
    cli(['status', '--json'], settings),
    cli(['--check'], settings),
    cli(['restart', 'proxy'], settings),
    cli(['restart', 'proxi'], settings),
    cli(['reload'], settings),
    cli(['restart'], settings),
  ])
  t.equal(status.code, 0)
  t.match(status.out, /^ready {4}https:\/\/localhost:\d+\/mcp$/m)
  t.match(status.out, /^process +pid +state +uptime +restarts +lag +memory +last error$/m)
  t.match(status.out, /^front +\d+ +running/m)
  t.match(status.out, /^policy {3}version 7, confirmed/m)
  t.match(JSON.parse(json.out), { ready: true, snapshot: { version: 7 } })
  t.equal(check.code, 0)
  t.match(check.out, /^AEMBIT_DRAIN_SECS +5$/m)
  t.match(check.out, /settings are valid, digest [0-9a-f]{64}/)
  t.equal(restart.code, 0)
  t.match(unknown, { code: 1, err: /there is no such process/ })
  t.equal(reload.code, 0)
  t.match(usage, { code: 2, err: /restart <process>/ })
})

t.test('without one', async (t) => {
  const dir = t.testdir()
  t.match(await cli(['status'], { AEMBIT_RUNTIME_DIR: dir }), {
    code: 3,
    err: `no gateway runs on ${join(dir, 'operator.sock')}`,
  })
  const check = await cli(['--check'], { AEMBIT_HTTPS_PORT: '0', AEMBIT_VALKEY_URL: 'redis://u:hunter2@h/x' })
  t.equal(check.code, 2)
  t.match(check.err, /AEMBIT_HTTPS_PORT: must be/)
  t.notMatch(check.err + check.out, /hunter2/)
})

t.test('what is wrong stands first', async (t) => {
  const text = printStatus(
    {
      ready: false,
      reasons: ['sync.control_plane: failing (no route)'],
      warnings: ['front.certificate: renewal is due and fails'],
      version: '1',
      pid: 1,
      url: 'https://gw.example/mcp',
      uptimeSecs: 60,
      configDigest: 'abcdef0123456789',
      snapshot: null,
      snapshotMaxAgeSecs: 3600,
      lastReload: { at: new Date(0).toISOString(), problems: ['AEMBIT_X is required'] },
      summary: {
        certificate: {
          expiresAt: new Date(90_000 + 3 * 86_400_000).toISOString(),
          renewalAt: new Date(0).toISOString(),
          selfSigned: false,
          failures: 2,
          lastError: 'rateLimited',
        },
        controlPlane: { state: 'away', enrolmentExpiresAt: null, clockSkewMs: 9_000, lastError: 'no route' },
        spool: { files: 4, bytes: 10, lagSecs: 400, shipped: 7, lost: 1 },
        traffic: { activeRequests: 2, connections: 3, sessions: 4, sessionStore: 'memory' },
      },
      spares: [{ role: 'front', pid: 77, rssBytes: 80 * 1048576 }],
      processes: [
        {
          name: 'sync',
          role: 'sync',
          pid: null,
          state: 'crash loop',
          uptimeSecs: 0,
          restarts: 7,
          lagMs: 0,
          rssBytes: 0,
          lastError: { at: new Date(0).toISOString(), text: 'exited with code 1' },
          checks: {},
          stats: { backlog: 3 },
        },
      ],
    },
    90_000,
    true,
  )
  proves(t, 'OPS-STATUS-01')
  t.match(
    text,
    /^tls +certificate ends in 3d 0h \(1970-01-04\), renewal is due, FAILED 2 times: rateLimited$/m,
  )
  t.match(text, /^cloud +control plane AWAY, no route, its clock is 9 s from ours$/m)
  t.match(text, /^events +7 stored, 4 files wait, the oldest for 6m, 1 LOST$/m)
  t.match(text, /^traffic +2 requests run, 3 connections, 4 sessions \(memory\)$/m)
  t.match(text, /^NOT READY .*\n {2}! sync.control_plane: failing \(no route\)/)
  t.match(text, /sync +- +crash loop +0s +7 +0 ms +0 MB +exited with code 1 \(1m ago\)/)
  t.match(text, /^spares +front \(pid 77, 80 MB\)$/m)
  t.match(text, /none yet: every request is refused/)
  t.match(text, /REFUSED 1m ago/)
  t.match(text, /^sync +backlog=3$/m)
  t.same([age(5), age(65), age(3700), age(90_000)], ['5s', '1m', '1h 1m', '1d 1h'])
})
