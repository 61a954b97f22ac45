import assert from 'node:assert/strict'
import type { Case } from '../case.ts'
import type { Scene } from '../scene.ts'
import { until, untilServing } from '../waits.ts'

const unit = 'aembit_mcp_gateway'
const version = (scene: Scene): Promise<string> => scene.box.sh(`${unit} --version`)
const override = `/etc/systemd/system/${unit}.service.d/override.conf`
const releases = (scene: Scene): Promise<string> => scene.box.sh(`ls /opt/aembit/${unit}/versions`)

export const cases: readonly Case[] = [
  {
    name: 'an upgrade needs no setting again, and keeps drop-ins',
    short: true,
    run: async (scene, note) => {
      const before = await version(scene)
      await scene.box.sh(
        `mkdir -p ${override.replace(/\/[^/]*$/, '')}; printf '[Service]\\nEnvironment=AEMBIT_MCP_GATEWAY_TIMEOUT=tools_list=4s\\n' > ${override}`,
      )
      const settings = await scene.box.sh('cat /etc/aembit_mcp_gateway/gateway.env')
      const began = Date.now()
      const { code, stderr } = await scene.install('second', ['--all'])
      note(`took ${((Date.now() - began) / 1000).toFixed(1)} s for three services`)
      assert.equal(code, 0, stderr)
      assert.equal(before === '99.0.0', false)
      assert.equal(await version(scene), '99.0.0')
      assert.equal(await scene.box.sh('cat /etc/aembit_mcp_gateway/gateway.env'), settings)
      assert.match(await scene.box.sh(`cat ${override}`), /tools_list=4s/)
      assert.match((await scene.show(unit, 'Environment')).Environment ?? '', /tools_list=4s/)
      await untilServing(scene)
      assert.equal((await releases(scene)).split('\n').length, 2, 'this release and the one before it stay')
    },
  },
  {
    name: 'the same release again changes nothing and works',
    run: async (scene) => {
      const before = await scene.traces()
      const { code, stderr } = await scene.install('second', ['--all'])
      assert.equal(code, 0, stderr)
      assert.equal(await scene.traces(), before)
      await untilServing(scene)
    },
  },
  ...(['broken', 'silent'] as const).map(
    (release): Case => ({
      name:
        release === 'broken'
          ? 'a release that does not start: the former one is back by itself'
          : 'a release that never becomes ready: the former one is back by itself',
      ...(release === 'broken' ? { short: true as const } : {}),
      run: async (scene) => {
        const before = await scene.traces()
        const { code, stderr } = await scene.install(release, ['--wait', '15'])
        assert.equal(code, 1, stderr)
        assert.match(stderr, /did not become ready within 15 s/)
        if (release === 'broken') assert.match(stderr, /broken on purpose/, 'what the service said')
        assert.match(stderr, /the former state is back/)
        assert.equal(await version(scene), '99.0.0')
        assert.equal((await scene.show(unit, 'ActiveState')).ActiveState, 'active')
        await untilServing(scene)
        const after = (await scene.traces()).split('\n').filter((line) => !line.startsWith('/opt/aembit/'))
        assert.deepEqual(
          after,
          before.split('\n').filter((line) => !line.startsWith('/opt/aembit/')),
        )
      },
    }),
  ),
  {
    name: 'an install that is told to stop half way goes back',
    run: async (scene) => {
      const install = scene.install('silent', ['--wait', '120'])
      await until('the new release is being started', async () => (await version(scene)) === '99.0.2')
      await until(
        'its start',
        async () => (await scene.show(unit, 'ActiveState')).ActiveState === 'activating',
      )
      await scene.box.sh("pkill -TERM -o -f '[s]rv/silent/install'")
      assert.notEqual((await install).code, 0)
      assert.equal(await version(scene), '99.0.0')
      await untilServing(scene)
    },
  },
  {
    name: 'an install that was killed half way: the next one works',
    run: async (scene) => {
      const install = scene.install('silent', ['--wait', '120'])
      await until(
        'its start',
        async () => (await scene.show(unit, 'ActiveState')).ActiveState === 'activating',
      )
      await scene.box.sh("pkill -KILL -f '[s]rv/silent/install'")
      await install
      await scene.box.sh("pkill -KILL -f '[s]ystemctl restart aembit' || :")
      const { code, stderr } = await scene.install('second', ['--all'])
      assert.equal(code, 0, stderr)
      assert.equal(await version(scene), '99.0.0')
      await untilServing(scene)
    },
  },
  {
    name: 'an operator goes back by installing the former release',
    run: async (scene) => {
      const { code, stderr } = await scene.install('first')
      assert.equal(code, 0, stderr)
      assert.notEqual(await version(scene), '99.0.0')
      await untilServing(scene)
      await scene.box.sh(`rm -r ${override.replace(/\/[^/]*$/, '')}; systemctl daemon-reload`)
    },
  },
]
