import assert from 'node:assert/strict'
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { Lock, stagePackages } from '../../../installer/pack/dependencies.ts'
import { withServers } from '../../rig/servers.ts'
import type { Case } from '../case.ts'
import type { Scene } from '../scene.ts'
import { until, untilServing } from '../waits.ts'

const root = fileURLToPath(new URL('../../..', import.meta.url))
const filesystem = '@modelcontextprotocol/server-filesystem'
const servers = '/etc/aembit_mcp_gateway/stdio-servers.yaml'
const configuration = '/etc/aembit_control_plane/control_plane.yaml'
/** What the server is allowed to show by itself; the sandbox is to stand before it. */
const allowed = ['/srv/shared', '/proc', '/run/aembit_mcp_gateway', '/var/lib/aembit_mcp_gateway']

const serversYaml = `servers:
  files:
    command: /opt/aembit/aembit_mcp_gateway/current/bin/node
    args: [/srv/mcp/node_modules/${filesystem}/dist/index.js, ${allowed.join(', ')}]
    cwd: /srv/shared
`

/** A real MCP server with its packages, a folder for it, and a workload and policy that name it. */
async function furnish(scene: Scene): Promise<void> {
  const lock = new Lock(root)
  stagePackages(root, lock.closure([filesystem]), join(scene.box.root, 'srv/mcp'))
  await scene.box.sh(
    `mkdir -p /srv/shared; chown aembit_mcp_gateway /srv/shared; echo hello > /srv/shared/note; cp -p ${configuration} /srv/configuration.kept`,
  )
  writeFileSync(join(scene.box.root, servers), serversYaml, { mode: 0o640 })
  const path = join(scene.box.root, configuration)
  writeFileSync(path, withServers(readFileSync(path, 'utf8'), [{ id: 'files', url: 'stdio:files' }]))
  await scene.box.sh(`chgrp aembit_mcp_gateway ${servers}; systemctl reload aembit_control_plane`)
}

export const cases: readonly Case[] = [
  {
    name: 'local stdio servers: installed with their file, a real one runs in its sandbox under the unit',
    short: true,
    run: async (scene, note) => {
      await furnish(scene)
      const { code, stderr } = await scene.install('first', [], { AEMBIT_STDIO_SERVERS_PATH: servers })
      assert.equal(code, 0, stderr)
      await untilServing(scene)
      const call = (name: string, path: string, more = {}) => ({
        name: `files_${name}`,
        arguments: { path, ...more },
      })
      const [note1, proc, run, state, write] = await scene.calls([
        call('read_text_file', '/srv/shared/note'),
        call('list_directory', '/proc'),
        call('list_directory', '/run/aembit_mcp_gateway'),
        call('list_directory', '/var/lib/aembit_mcp_gateway'),
        call('write_file', '/srv/shared/other', { content: 'x' }),
      ])
      assert.match(note1?.text ?? '', /hello/)
      const processes = (proc?.text.match(/\[DIR\] \d+$/gm) ?? []).length
      note(`it sees ${processes} processes`)
      assert.ok(processes >= 1 && processes <= 3, proc?.text)
      for (const answer of [run, state]) assert.doesNotMatch(answer?.text ?? '', /\[(DIR|FILE)\]/)
      assert.ok(write?.isError, 'nothing of the machine is writable for it unless the unit says so')
      const score = await scene.box.sh('systemd-analyze security aembit_mcp_gateway --no-pager | tail -1')
      note(score)
    },
  },
  {
    name: 'local stdio servers: a folder that a drop-in opens is writable, and the gateway stops with its servers',
    run: async (scene) => {
      const folder = '/etc/systemd/system/aembit_mcp_gateway.service.d'
      await scene.box.sh(
        `mkdir -p ${folder}; printf '[Service]\\nReadWritePaths=/srv/shared\\n' > ${folder}/files.conf; systemctl daemon-reload; systemctl restart aembit_mcp_gateway`,
      )
      await untilServing(scene)
      const [write] = await scene.calls([
        { name: 'files_write_file', arguments: { path: '/srv/shared/other', content: 'x' } },
      ])
      assert.equal(write?.isError, false, write?.text)
      assert.equal(await scene.box.sh('cat /srv/shared/other'), 'x')
      await scene.box.sh('systemctl stop aembit_mcp_gateway')
      assert.equal(await scene.box.sh("pgrep -f '[s]erver-filesystem' || :"), '')
      await scene.box.sh(`rm -r ${folder}; systemctl daemon-reload; systemctl start aembit_mcp_gateway`)
      await untilServing(scene)
    },
  },
  {
    name: 'local stdio servers: without the setting, the next install makes the unit as tight as it was',
    short: true,
    run: async (scene) => {
      const env = '/etc/aembit_mcp_gateway/gateway.env'
      await scene.box.sh(
        `sed -i /AEMBIT_STDIO_SERVERS_PATH/d ${env}; rm ${servers}; cp -p /srv/configuration.kept ${configuration}; systemctl reload aembit_control_plane`,
      )
      const { code, stderr } = await scene.install('first')
      assert.equal(code, 0, stderr)
      await until('ready', async () => (await scene.status()).ready)
      const { RestrictNamespaces } = await scene.show('aembit_mcp_gateway', 'RestrictNamespaces')
      assert.equal(RestrictNamespaces, 'yes')
    },
  },
]
