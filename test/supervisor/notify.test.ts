import { chmodSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { createLogger } from '../../shared/log.ts'
import { Notifier } from '../../shared/notify.ts'
import { proves } from '../requirements.ts'
import { startGateway } from './rig.ts'

const log = createLogger('test', 'off')

function notifier(env: Record<string, string>, fail = false): { notifier: Notifier; calls: string[][] } {
  const calls: string[][] = []
  return {
    calls,
    notifier: new Notifier({
      env,
      log,
      pid: 42,
      monotonicUsec: () => 123n,
      exec: async (file, args) => {
        calls.push([file, ...args])
        if (fail) throw new Error('no such program')
      },
    }),
  }
}

t.test('without NOTIFY_SOCKET nothing is run', async (t) => {
  const { notifier: quiet, calls } = notifier({ WATCHDOG_USEC: '2000000' })
  await quiet.ready('x')
  await quiet.stopping('x')
  t.same(calls, [])
  t.equal(quiet.watchdogMs, undefined)
})

t.test('what systemd is told, in order', async (t) => {
  proves(t, 'GW-START-07')
  const { notifier: told, calls } = notifier({
    NOTIFY_SOCKET: '/run/n',
    WATCHDOG_USEC: '2000000',
    WATCHDOG_PID: '42',
  })
  t.equal(told.watchdogMs, 1000)
  void told.ready('serving\nall')
  void told.reloading()
  void told.watchdog()
  void told.status('x'.repeat(200))
  await told.stopping('asked by SIGTERM')
  t.same(calls, [
    ['systemd-notify', 'READY=1', 'STATUS=serving all'],
    ['systemd-notify', 'RELOADING=1', 'MONOTONIC_USEC=123'],
    ['systemd-notify', 'WATCHDOG=1'],
    ['systemd-notify', `STATUS=${'x'.repeat(80)}`],
    ['systemd-notify', 'STOPPING=1', 'STATUS=asked by SIGTERM'],
  ])
})

t.test("another process's watchdog is not ours, and a failing program stops nothing", async (t) => {
  const { notifier: told, calls } = notifier(
    { NOTIFY_SOCKET: '/run/n', WATCHDOG_USEC: '2000000', WATCHDOG_PID: '41' },
    true,
  )
  t.equal(told.watchdogMs, undefined)
  await told.ready('a')
  await told.status('b')
  t.equal(calls.length, 2)
})

t.test('the life of a gateway as systemd hears it', async (t) => {
  const dir = t.testdir()
  const heard = join(dir, 'heard')
  const program = join(dir, 'systemd-notify')
  writeFileSync(program, `#!/bin/sh\necho "$@" >> ${heard}\n`)
  chmodSync(program, 0o755)
  const gateway = startGateway({
    env: { PATH: `${dir}:${process.env.PATH}`, NOTIFY_SOCKET: join(dir, 'n'), WATCHDOG_USEC: '200000' },
  })
  t.teardown(() => gateway.stop())
  await gateway.ready()
  t.same((await gateway.operator('/v1/reload')).status, 200)
  while (!/WATCHDOG=1[\s\S]*WATCHDOG=1/.test(readFileSync(heard, 'utf8'))) {
    await new Promise((resolve) => setTimeout(resolve, 20))
  }
  gateway.process.kill('SIGTERM')
  t.equal((await gateway.exited).code, 0)
  const lines = readFileSync(heard, 'utf8').trim().split('\n')
  const told = lines.filter((line) => !line.startsWith('WATCHDOG') && !line.startsWith('STATUS=not ready'))
  t.match(told, [
    `READY=1 STATUS=ready, serving https://localhost:${gateway.port}/mcp`,
    /^RELOADING=1 MONOTONIC_USEC=\d+$/,
    /^READY=1 STATUS=ready/,
    'STOPPING=1 STATUS=asked by SIGTERM',
  ])
})
