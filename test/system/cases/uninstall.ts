import assert from 'node:assert/strict'
import type { Case } from '../case.ts'

export const cases: readonly Case[] = [
  {
    name: 'uninstall: services and programs go, settings and state stay; an install takes them up again',
    short: true,
    run: async (scene) => {
      const { code, stderr } = await scene.uninstall([])
      assert.equal(code, 0, stderr)
      const units = await scene.box.sh("systemctl list-units --all --no-legend 'aembit_mcp_gateway*'")
      assert.equal(units, '')
      assert.match(await scene.box.sh('ls /opt/aembit'), /aembit_control_plane/, 'the others stay')
      assert.doesNotMatch(await scene.box.sh('ls /opt/aembit'), /aembit_mcp_gateway/)
      await scene.box.sh('test -e /etc/aembit_mcp_gateway/gateway.env -a -d /var/lib/aembit_mcp_gateway')
      const again = await scene.install('first')
      assert.equal(again.code, 0, again.stderr)
    },
  },
  {
    name: 'uninstall --all --purge: nothing is left',
    short: true,
    run: async (scene) => {
      await scene.box.sh('rm -f /etc/aembit_control_plane/weather.key')
      const { code, stderr } = await scene.uninstall(['--all', '--purge'])
      assert.equal(code, 0, stderr)
      const left = (await scene.traces()).split('\n').filter((text) => /aembit/.test(text))
      assert.deepEqual(left, [])
      assert.equal(await scene.box.sh("ps ax -o args | grep '[a]embit' || :"), '')
    },
  },
]
