import assert from 'node:assert/strict'
import type { Case } from '../case.ts'
import { until, untilServing } from '../waits.ts'

const gateway = 'aembit_mcp_gateway'
export const cases: readonly Case[] = [
  {
    name: 'the documented commands: status, restart, stop, start',
    short: true,
    run: async (scene) => {
      assert.match(await scene.box.sh(`systemctl status ${gateway}`), /Active: active \(running\)/)
      await untilServing(scene)
      const before = (await scene.show(gateway, 'MainPID')).MainPID
      await scene.box.sh(`systemctl restart ${gateway}`)
      assert.notEqual((await scene.show(gateway, 'MainPID')).MainPID, before)
      await untilServing(scene)
      await scene.box.sh(`systemctl stop ${gateway}`)
      const refused = await scene.node(
        `fetch('https://localhost/mcp').catch((e) => console.log(e.cause?.code))`,
      )
      assert.equal(refused, 'ECONNREFUSED', 'a stopped gateway refuses, and a client does not start it again')
      assert.equal((await scene.show(gateway, 'ActiveState')).ActiveState, 'inactive')
      await scene.box.sh(`systemctl start ${gateway}`)
      await untilServing(scene)
    },
  },
  {
    name: 'logs in a namespace of their own, with limits',
    short: true,
    run: async (scene) => {
      const lines = await scene.box.sh(`journalctl --namespace ${gateway} -n 100 -o cat`)
      assert.match(lines, /"msg":"ready"/)
      assert.doesNotMatch(await scene.box.sh(`journalctl -n 1000 -o cat`), /"component":"supervisor"/)
      assert.match(
        await scene.box.sh(`journalctl --namespace ${gateway} --since "1 hour ago" -o cat`),
        /max 1(\.0)?G/,
      )
    },
  },
  {
    name: 'metrics on 9091',
    short: true,
    run: async (scene) => {
      const text = await scene.node(
        `fetch('http://localhost:9091/metrics').then((r) => r.text()).then(console.log)`,
      )
      for (const name of ['machine_cpu_cores', 'version', 'process_memory_usage_bytes'])
        assert.match(text, new RegExp(`^${name}\\{.*component="aembit_mcp_gateway"`, 'm'), name)
    },
  },
  {
    name: 'systemd-analyze security: 1.5 or better, for each service',
    short: true,
    run: async (scene, note) => {
      for (const unit of [
        gateway,
        'aembit_control_plane',
        'aembit_agent_controller',
        'aembit_mcp_gateway_tls',
      ]) {
        const text = await scene.box.sh(`systemd-analyze security ${unit} --no-pager | tail -1`)
        const score = Number(/: ([\d.]+) /.exec(text)?.[1])
        note(`${unit}: ${score}`)
        assert.ok(score <= 1.5, text)
      }
      const warnings = await scene.box.run([
        'sh',
        '-c',
        'systemd-analyze verify /etc/systemd/system/aembit_*.service /etc/systemd/system/aembit_*.socket 2>&1',
      ])
      assert.equal(
        warnings.stdout
          .split('\n')
          .filter((line) => line.includes('aembit'))
          .join('\n'),
        '',
      )
    },
  },
  {
    name: 'a wrong reload is refused, said, and changes nothing; a right one is in force',
    run: async (scene) => {
      const env = '/etc/aembit_mcp_gateway/gateway.env'
      await scene.box.sh(`cp -p ${env} /srv/env.kept; echo AEMBIT_MAX_BODY_BYTES=lots >> ${env}`)
      const refused = await scene.box.run(['systemctl', 'reload', gateway])
      assert.notEqual(refused.code, 0)
      assert.match(
        await scene.box.sh(`journalctl --namespace ${gateway} -n 20 -o cat`),
        /AEMBIT_MAX_BODY_BYTES/,
      )
      await untilServing(scene)
      await scene.box.sh(
        `cp -p /srv/env.kept ${env}; echo AEMBIT_MAX_BODY_BYTES=65536 >> ${env}; systemctl reload ${gateway}`,
      )
      await scene.box.sh(`cp -p /srv/env.kept ${env}; systemctl reload ${gateway}`)
      await untilServing(scene)
    },
  },
  {
    name: "what is secret on disk is root's or one service's alone",
    short: true,
    run: async (scene) => {
      const modes = await scene.box.sh(
        'stat -c "%a %U %G %n" /etc/aembit_*/*.env /var/lib/aembit_* /run/aembit_mcp_gateway_tls /run/aembit_mcp_gateway_tls/* /var/lib/aembit_control_plane/*',
      )
      for (const line of modes.split('\n')) {
        assert.doesNotMatch(line.split(' ')[0] ?? '', /[1-7]$/, `others have rights: ${line}`)
      }
      // What the gateway's user could reach of the two others.
      for (const path of [
        '/var/lib/aembit_control_plane/master-key',
        '/var/lib/aembit_agent_controller/agent-controller.json',
        '/srv/tls/localhost.key',
      ]) {
        const { code } = await scene.box.run([
          'setpriv',
          `--reuid=${gateway}`,
          `--regid=${gateway}`,
          '--init-groups',
          'cat',
          path,
        ])
        assert.notEqual(code, 0, path)
      }
    },
  },
  {
    name: 'no capability, no way to new privileges, a seccomp filter, no core dump: all processes of all services',
    short: true,
    run: async (scene) => {
      for (const unit of [gateway, 'aembit_control_plane', 'aembit_agent_controller']) {
        const pids = await scene.box.sh(`cat /sys/fs/cgroup/system.slice/${unit}.service/cgroup.procs`)
        assert.ok(pids.split('\n').length >= (unit === gateway ? 4 : 1))
        for (const pid of pids.split('\n')) {
          // A notification to systemd is a process of some milliseconds: one that is gone by now has no rights.
          const status = await scene.box.sh(
            `[ ! -e /proc/${pid} ] || { cat /proc/${pid}/status; grep core /proc/${pid}/limits; } || [ ! -e /proc/${pid} ]`,
          )
          if (!status.includes('CapEff:')) continue
          assert.match(status, /^CapEff:\t0{16}$/m)
          assert.match(status, /^CapBnd:\t0{16}$/m)
          assert.match(status, /^NoNewPrivs:\t1$/m)
          assert.match(status, /^Seccomp:\t2$/m)
          assert.match(status, /Max core file size +0 +0/)
        }
      }
    },
  },
  ...(['front', 'proxy', 'sync'] as const).map(
    (role): Case => ({
      name: `SIGSTOP ${role}: noticed by the supervisor, replaced`,
      run: async (scene, note) => {
        const pid = await scene.pidOf(role)
        await scene.box.sh(`kill -STOP ${pid}`)
        const began = Date.now()
        await until(`another ${role}`, async () => {
          const now = await scene.pidOf(role)
          return now !== -1 && now !== pid
        })
        note(`replaced after ${((Date.now() - began) / 1000).toFixed(1)} s`)
        await until('ready', async () => (await scene.status()).ready)
        await untilServing(scene)
      },
    }),
  ),
  {
    name: "SIGSTOP the supervisor: systemd's watchdog ends it and starts it again",
    run: async (scene, note) => {
      await scene.box.sh(
        `mkdir -p /run/systemd/system/${gateway}.service.d; printf '[Service]\\nWatchdogSec=4\\n' > /run/systemd/system/${gateway}.service.d/quick.conf; systemctl daemon-reload; systemctl restart ${gateway}`,
      )
      const { MainPID: pid } = await scene.show(gateway, 'MainPID')
      await scene.box.sh(`kill -STOP ${pid}`)
      const began = Date.now()
      await until('another supervisor', async () => {
        const now = await scene.show(gateway, 'MainPID', 'ActiveState')
        return now.MainPID !== pid && now.MainPID !== '0' && now.ActiveState === 'active'
      })
      note(`running again after ${((Date.now() - began) / 1000).toFixed(1)} s (WatchdogSec=4)`)
      assert.match(
        await scene.box.sh(`journalctl --namespace ${gateway} -n 100 -o cat; journalctl -n 200 -o cat`),
        /[Ww]atchdog timeout/,
      )
      await untilServing(scene)
      await scene.box.sh(
        `rm -r /run/systemd/system/${gateway}.service.d; systemctl daemon-reload; systemctl restart ${gateway}`,
      )
      await untilServing(scene)
    },
  },
]
