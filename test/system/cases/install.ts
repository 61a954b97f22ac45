import assert from 'node:assert/strict'
import type { Case } from '../case.ts'

/** Before anything is installed: each thing that is wrong is one message, and leaves nothing behind. */
const refusals: readonly [what: string, env: Record<string, string>, expected: RegExp][] = [
  [
    'a certificate that is none',
    { AEMBIT_TLS_CERT_CHAIN_PATH: '/etc/hosts' },
    /AEMBIT_TLS_CERT_CHAIN_PATH: .* does not begin with a PEM certificate/,
  ],
  [
    'no such key',
    { AEMBIT_TLS_PRIVATE_KEY_PATH: '/absent' },
    /AEMBIT_TLS_PRIVATE_KEY_PATH: \/absent can not be read \(ENOENT\)/,
  ],
  [
    'a TTL beyond the limit',
    { AEMBIT_MCP_SESSION_IDLE_TTL_SECS: '1209601' },
    /AEMBIT_MCP_SESSION_IDLE_TTL_SECS: /,
  ],
  ['a malformed time-out', { AEMBIT_MCP_GATEWAY_TIMEOUT: 'tools_list=fast' }, /AEMBIT_MCP_GATEWAY_TIMEOUT: /],
  ['a URL that is none', { AEMBIT_MCP_GATEWAY_URL: 'gateway' }, /AEMBIT_MCP_GATEWAY_URL: /],
]

export const cases: readonly Case[] = [
  ...refusals.map(
    ([what, env, expected]): Case => ({
      name: `refused: ${what}; one message, no trace`,
      run: async (scene) => {
        const before = await scene.traces()
        const { code, stderr } = await scene.install('first', ['--all'], { ...scene.settings, ...env })
        assert.equal(code, 2, stderr)
        assert.match(stderr, /problems: 1\n/)
        assert.match(stderr, expected)
        assert.equal(await scene.traces(), before)
      },
    }),
  ),
  {
    name: 'refused: a taken port, with the name of who has it',
    short: true,
    run: async (scene) => {
      const before = await scene.traces()
      const script = "require('node:net').createServer().listen(443, '127.0.0.1', () => console.log('taken'))"
      const holder = scene.box.onItsNetwork([process.execPath, '-e', script])
      await new Promise((resolve) => holder.stdout?.once('data', resolve))
      try {
        const { code, stderr } = await scene.install('first', ['--all'], scene.settings)
        assert.equal(code, 2, stderr)
        assert.match(stderr, /problems: 1\n {2}AEMBIT_HTTPS_PORT: port 443 is taken by /)
        assert.equal(await scene.traces(), before)
      } finally {
        holder.kill()
      }
    },
  },
  {
    name: 'refused: a gateway whose controller does not answer',
    run: async (scene) => {
      const before = await scene.traces()
      const { AEMBIT_CONFIG_PATH: _, ...settings } = scene.settings
      const { code, stderr } = await scene.install('first', [], {
        ...settings,
        AEMBIT_MCP_GATEWAY_URL: 'https://localhost/mcp',
        AEMBIT_AUTHORIZATION_SERVER: 'https://localhost',
        AEMBIT_AGENT_CONTROLLER_URL: 'http://localhost:5000',
      })
      assert.equal(code, 2, stderr)
      assert.match(stderr, /problems: 1\n {2}AEMBIT_AGENT_CONTROLLER_URL: no agent controller answers/)
      assert.equal(await scene.traces(), before)
    },
  },
  {
    name: 'refused: everything at once, without a setting',
    run: async (scene) => {
      const { code, stderr } = await scene.install('first')
      assert.equal(code, 2)
      for (const key of [
        'AEMBIT_MCP_GATEWAY_URL',
        'AEMBIT_AGENT_CONTROLLER_URL',
        'AEMBIT_AUTHORIZATION_SERVER',
        'AEMBIT_TLS_CERT_CHAIN_PATH',
        'AEMBIT_TLS_PRIVATE_KEY_PATH',
      ])
        assert.match(stderr, new RegExp(`^ {2}${key}: is required`, 'm'))
    },
  },
  {
    name: 'refused: several things at once, each in a line of its own',
    run: async (scene) => {
      const before = await scene.traces()
      const { code, stderr } = await scene.install('first', ['--all'], {
        ...scene.settings,
        AEMBIT_TLS_CERT_CHAIN_PATH: '/etc/hosts',
        AEMBIT_MCP_SESSION_IDLE_TTL_SECS: '1209601',
        AEMBIT_MCP_GATEWAY_TIMEOUT: 'tools_list=0s',
        AEMBIT_VALKEY_URL: 'redis://gw:hidden@127.0.0.1:9',
        TLS_PEM_PATH: '/srv/tls/localhost.pem',
      })
      assert.equal(code, 2, stderr)
      assert.match(stderr, /problems: 4\n/)
      const keys = [...stderr.matchAll(/^ {2}(\w+): /gm)].map(([, key]) => key)
      assert.deepEqual(keys.sort(), [
        'AEMBIT_MCP_GATEWAY_TIMEOUT',
        'AEMBIT_MCP_SESSION_IDLE_TTL_SECS',
        'AEMBIT_TLS_CERT_CHAIN_PATH',
        'TLS_PEM_PATH',
      ])
      assert.doesNotMatch(stderr, /hidden| at /, 'no secret, no stack trace')
      assert.equal(await scene.traces(), before)
    },
  },
  {
    name: 'refused: a session store that does not answer',
    run: async (scene) => {
      const before = await scene.traces()
      const { code, stderr } = await scene.install('first', ['--all'], {
        ...scene.settings,
        AEMBIT_VALKEY_URL: 'redis://gw:hidden@127.0.0.1:9',
      })
      assert.equal(code, 2, stderr)
      assert.match(stderr, /problems: 1\n {2}AEMBIT_VALKEY_URL: .*127\.0\.0\.1:9.*ECONNREFUSED/)
      assert.doesNotMatch(stderr, /hidden/)
      assert.equal(await scene.traces(), before)
    },
  },
  {
    name: 'refused: a release for another machine',
    run: async (scene) => {
      await scene.box.sh(
        'cp /srv/broken/RELEASE /srv/kept; sed -i s/^ARCH=.*/ARCH=other/ /srv/broken/RELEASE',
      )
      const { code, stderr } = await scene.install('broken', ['--all'], scene.settings)
      await scene.box.sh('mv /srv/kept /srv/broken/RELEASE')
      assert.equal(code, 2)
      assert.match(stderr, /problems: 1\n {2}machine: this release is for other, this machine is /)
    },
  },
  {
    name: 'refused: a damaged release',
    run: async (scene) => {
      const path = '/srv/broken/systemd/aembit_mcp_gateway.service'
      await scene.box.sh(`cp ${path} /srv/kept && echo '# changed' >> ${path}`)
      const { code, stderr } = await scene.install('broken', ['--all'], scene.settings)
      await scene.box.sh(`mv /srv/kept ${path}`)
      assert.equal(code, 2)
      assert.match(stderr, /release: files are damaged/)
    },
  },
  {
    name: 'refused: who is not root',
    run: async (scene) => {
      await scene.box.sh(
        'mkdir /tmp/unprivileged; cp /srv/first/install /srv/first/RELEASE /tmp/unprivileged',
      )
      const as = ['setpriv', '--reuid=65534', '--clear-groups']
      const { code, stderr } = await scene.box.run([...as, 'sh', '/tmp/unprivileged/install'])
      assert.equal(code, 2)
      assert.match(stderr, /root: this has to run as root/)
    },
  },
  {
    name: '--check says yes and changes nothing',
    short: true,
    run: async (scene) => {
      const before = await scene.traces()
      const { code, stdout, stderr } = await scene.install('first', ['--all', '--check'], scene.settings)
      assert.equal(code, 0, stderr)
      assert.match(stdout, /can be installed here/)
      assert.equal(await scene.traces(), before)
    },
  },
  {
    name: 'a first install that does not become ready goes back without a trace',
    short: true,
    run: async (scene) => {
      const before = await scene.traces()
      const { code, stderr } = await scene.install('broken', ['--all', '--wait', '20'], scene.settings)
      assert.equal(code, 1, stderr)
      assert.match(stderr, /broken on purpose/)
      assert.equal(await scene.traces(), before)
    },
  },
  {
    name: 'install --all: three services run; the gateway within 10 s of its start',
    short: true,
    run: async (scene, note) => {
      // Where SELinux is: what it would be asked to label.
      const tool = '/usr/local/sbin/restorecon'
      await scene.box.sh(`printf '#!/bin/sh\\necho "$@" >>/srv/labelled\\n' >${tool}; chmod 755 ${tool}`)
      const began = Date.now()
      const { code, stderr } = await scene.install('first', ['--all'], scene.settings)
      assert.equal(code, 0, stderr)
      const labelled = await scene.box.sh(`rm ${tool}; cat /srv/labelled`)
      for (const path of ['opt/aembit/aembit_mcp_gateway', 'etc/systemd/system/aembit_mcp_gateway.service'])
        assert.match(labelled, new RegExp(`-RF /${path}$`, 'm'))
      assert.doesNotMatch(stderr, /not registered/)
      note(`the whole install took ${((Date.now() - began) / 1000).toFixed(1)} s`)
      for (const name of ['aembit_control_plane', 'aembit_agent_controller', 'aembit_mcp_gateway']) {
        const unit = await scene.show(
          `${name}.service`,
          'ActiveState',
          'SubState',
          'NRestarts',
          'InactiveExitTimestampMonotonic',
          'ActiveEnterTimestampMonotonic',
        )
        assert.equal(`${unit.ActiveState} (${unit.SubState})`, 'active (running)')
        assert.equal(unit.NRestarts, '0')
        const secs =
          (Number(unit.ActiveEnterTimestampMonotonic) - Number(unit.InactiveExitTimestampMonotonic)) / 1e6
        note(`${name}: ready ${secs.toFixed(1)} s after its start`)
        assert.ok(secs < 10)
      }
    },
  },
  {
    name: 'two installs at once: the second is refused',
    short: true,
    run: async (scene) => {
      const [one, two] = await Promise.all([
        scene.install('first', ['--all']),
        scene.install('first', ['--all']),
      ])
      const codes = [one.code, two.code].sort()
      assert.deepEqual(codes, [0, 2])
      assert.match(one.stderr + two.stderr, /another install or uninstall runs/)
    },
  },
]
