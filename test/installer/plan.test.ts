import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:http'
import { type AddressInfo, createServer as createTcpServer } from 'node:net'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import t from 'tap'
import { layouts } from '../../installer/host/layout.ts'
import { type PlannedFile, plan } from '../../installer/host/plan.ts'
import { formatSettings, mergeSettings, readKept } from '../../installer/host/settings.ts'
import { joined, routed, unroutable } from '../../installer/host/together.ts'
import { fillUnit, unitValues } from '../../installer/host/units.ts'
import { parseGatewayEnv } from '../../shared/config/gateway.ts'
import { proves } from '../requirements.ts'
import { freePort } from '../rig/free-port.ts'
import { makeCertificate } from '../supervisor/certificates.ts'

/** Of a release, only the units are asked for here. */
const release = fileURLToPath(new URL('../../etc', import.meta.url))
const dir = mkdtempSync(join(tmpdir(), 'plan-'))
t.teardown(() => rmSync(dir, { recursive: true, force: true }))

let health = '{"status":"Healthy"}'
const controller = createServer((_request, response) => {
  response.writeHead(200, { 'content-type': 'application/json' }).end(health)
})
await new Promise<void>((resolve) => controller.listen(0, '127.0.0.1', resolve))
t.teardown(() => controller.close())

const certificate = makeCertificate(dir, 'gateway')
const settings = {
  AEMBIT_AUTHORIZATION_SERVER: 'https://tenant.example',
  AEMBIT_MCP_GATEWAY_URL: 'https://gateway.example/mcp',
  AEMBIT_AGENT_CONTROLLER_URL: `http://127.0.0.1:${(controller.address() as AddressInfo).port}`,
  AEMBIT_TLS_CERT_CHAIN_PATH: certificate.certChainPath,
  AEMBIT_TLS_PRIVATE_KEY_PATH: certificate.privateKeyPath,
  AEMBIT_LISTEN_ADDRESS: '127.0.0.1',
  AEMBIT_HTTPS_PORT: String(freePort()),
  AEMBIT_HTTP_PORT: String(freePort()),
  AEMBIT_METRICS_PORT: String(freePort()),
}

const planGateway = (env: Record<string, string>, hostRoot = dir) =>
  plan({ applications: ['aembit_mcp_gateway'], release, env, hostRoot })

async function problemsOf(change: Record<string, string>): Promise<string[]> {
  const planned = await planGateway({ ...settings, ...change })
  return 'problems' in planned ? planned.problems.map(({ key, message }) => `${key}: ${message}`) : []
}

const contentOf = (files: readonly PlannedFile[], path: string): string =>
  files.find((file) => file.path === path)?.content ?? ''

t.test('the files of a gateway', async (t) => {
  const planned = await planGateway(settings)
  if ('problems' in planned) return t.fail(JSON.stringify(planned.problems))
  const { files } = planned
  t.same(files.map(({ path }) => path).sort(), [
    '/etc/aembit_mcp_gateway/gateway.env',
    '/etc/systemd/journald@aembit_mcp_gateway.conf',
    '/etc/systemd/system/aembit_mcp_gateway.service',
    '/etc/systemd/system/aembit_mcp_gateway.socket',
    '/etc/systemd/system/aembit_mcp_gateway_tls.path',
    '/etc/systemd/system/aembit_mcp_gateway_tls.service',
    '/etc/systemd/system/aembit_mcp_gateway_tls.timer',
    '/etc/sysusers.d/aembit_mcp_gateway.conf',
  ])
  const env = contentOf(files, '/etc/aembit_mcp_gateway/gateway.env')
  t.match(env, `#from AEMBIT_TLS_PRIVATE_KEY_PATH=${certificate.privateKeyPath}\n`)
  t.match(env, 'AEMBIT_TLS_PRIVATE_KEY_PATH=/run/aembit_mcp_gateway_tls/private_key.pem\n')
  const socket = contentOf(files, '/etc/systemd/system/aembit_mcp_gateway.socket')
  t.match(
    socket,
    `ListenStream=127.0.0.1:${settings.AEMBIT_HTTPS_PORT}\nListenStream=127.0.0.1:${settings.AEMBIT_HTTP_PORT}\n`,
    'https first: the order tells which is which',
  )
  const tls = contentOf(files, '/etc/systemd/system/aembit_mcp_gateway_tls.service')
  t.match(tls, `LoadCredential=cert_chain.pem:${certificate.certChainPath}\n`)
  t.notOk(
    files.some(({ content }) => /@[A-Z_]+@/.test(content)),
    'no marker is left',
  )
  t.equal(files.find(({ path }) => path.endsWith('.env'))?.mode, '0640')
})

t.test('what the last install was given counts until it is given anew', async (t) => {
  const host = join(dir, 'host')
  const envFile = join(host, layouts.aembit_mcp_gateway.envFile)
  mkdirSync(dirname(envFile), { recursive: true })
  writeFileSync(envFile, formatSettings('aembit_mcp_gateway', { ...settings, AEMBIT_LOG_LEVEL: 'debug' }))
  t.same(readKept(envFile), { ...settings, AEMBIT_LOG_LEVEL: 'debug' }, 'paths as they were given')
  const planned = await planGateway({ AEMBIT_LOG_LEVEL: 'warn' }, host)
  if ('problems' in planned) return t.fail(JSON.stringify(planned.problems))
  t.match(contentOf(planned.files, layouts.aembit_mcp_gateway.envFile), 'AEMBIT_LOG_LEVEL=warn\n')
  t.match(
    mergeSettings({ AEMBIT_DEVICE_CODE: '123456' }, { AEMBIT_AGENT_CONTROLLER_ID: 'x' }),
    { AEMBIT_AGENT_CONTROLLER_ID: 'x', AEMBIT_DEVICE_CODE: undefined },
    'an id takes the code back',
  )
})

t.test('files in place of ACME, and back', async (t) => {
  proves(t, 'GW-INSTALL-02')
  const acme = {
    AEMBIT_ACME_DIRECTORY_URL: 'https://acme.example/directory',
    AEMBIT_ACME_AGREE_TO_TERMS: 'true',
    AEMBIT_ACME_DOMAINS: 'gateway.example',
    AEMBIT_ACME_CONTACT: 'ops@example.com',
  }
  const files = {
    AEMBIT_TLS_CERT_CHAIN_PATH: certificate.certChainPath,
    AEMBIT_TLS_PRIVATE_KEY_PATH: certificate.privateKeyPath,
  }
  const { AEMBIT_TLS_CERT_CHAIN_PATH: _c, AEMBIT_TLS_PRIVATE_KEY_PATH: _k, ...rest } = settings
  for (const [kept, given, gone] of [
    [acme, files, 'AEMBIT_ACME_'],
    [files, acme, 'AEMBIT_TLS_'],
  ] as const) {
    const host = join(dir, `host-${gone}`)
    const envFile = join(host, layouts.aembit_mcp_gateway.envFile)
    mkdirSync(dirname(envFile), { recursive: true })
    writeFileSync(envFile, formatSettings('aembit_mcp_gateway', { ...rest, ...kept }))
    const planned = await planGateway(given, host)
    if ('problems' in planned) return t.fail(JSON.stringify(planned.problems))
    t.notMatch(contentOf(planned.files, layouts.aembit_mcp_gateway.envFile), gone)
  }
  t.match(mergeSettings(acme, { ...files, ...acme }), acme, 'both given: both are told to be too many')
  t.same(mergeSettings({ AEMBIT_OIDC_TOKEN: 'x' }, { AEMBIT_OIDC_TOKEN_PATH: '/t' }), {
    AEMBIT_OIDC_TOKEN_PATH: '/t',
  })
})

t.test('one problem, one line', async (t) => {
  const taken = createTcpServer()
  await new Promise<void>((resolve) => taken.listen(0, '127.0.0.1', resolve))
  const port = String((taken.address() as AddressInfo).port)
  t.teardown(() => taken.close())
  const other = makeCertificate(dir, 'other')
  const closed = freePort()
  const rows: [string, Record<string, string>, RegExp][] = [
    [
      'a taken port',
      { AEMBIT_HTTPS_PORT: port },
      new RegExp(`^AEMBIT_HTTPS_PORT: port ${port} is taken by `),
    ],
    [
      'the key of another certificate',
      { AEMBIT_TLS_PRIVATE_KEY_PATH: other.privateKeyPath },
      /is not the key/,
    ],
    [
      'no controller',
      { AEMBIT_AGENT_CONTROLLER_URL: `http://127.0.0.1:${closed}` },
      /^AEMBIT_AGENT_CONTROLLER_URL: no agent controller answers .*ECONNREFUSED/,
    ],
    [
      'a TTL beyond the limit',
      { AEMBIT_MCP_SESSION_IDLE_TTL_SECS: '1209601' },
      /^AEMBIT_MCP_SESSION_IDLE_TTL_SECS/,
    ],
    ['a malformed time-out', { AEMBIT_MCP_GATEWAY_TIMEOUT: 'tools_list=3' }, /^AEMBIT_MCP_GATEWAY_TIMEOUT/],
    ['a misspelt setting', { AEMBIT_LOGLEVEL: 'info' }, /AEMBIT_LOGLEVEL.*did you mean AEMBIT_LOG_LEVEL/],
    ['a folder of systemd', { AEMBIT_STATE_DIR: '/srv/x' }, /^AEMBIT_STATE_DIR: is \/var\/lib/],
    [
      'a session store that does not answer',
      { AEMBIT_VALKEY_URL: `redis://gw:hidden@127.0.0.1:${closed}/1` },
      new RegExp(
        `^AEMBIT_VALKEY_URL: the session store at redis://127\\.0\\.0\\.1:${closed}/1 does not take us .*ECONNREFUSED`,
      ),
    ],
    ['a quote', { AEMBIT_VALKEY_URL: 'redis://a"b' }, /AEMBIT_VALKEY_URL: can not hold quotes/],
  ]
  for (const [what, change, expected] of rows) {
    const problems = (await problemsOf(change)).filter((line) => what !== 'a quote' || expected.test(line))
    t.equal(problems.length, 1, `${what}: ${problems.join(' | ')}`)
    t.match(problems[0], expected, what)
  }
})

t.test('local servers loosen the unit, and only where they are configured', (t) => {
  const read = parseGatewayEnv(settings)
  if ('problems' in read) throw new Error(JSON.stringify(read.problems))
  const of = (file: string): string => readFileSync(join(release, 'systemd', file), 'utf8')
  const unit = (stdioServersPath: string | null): string => {
    const config = { ...read.ok, stdioServersPath }
    const values = unitValues('aembit_mcp_gateway', settings, config, of('stdio-servers.conf'))
    return fillUnit(of('aembit_mcp_gateway.service'), values)
  }
  const directives = (text: string): string[] => text.split('\n').filter((line) => /^\w+=/.test(line))
  const tight = directives(unit(null))
  t.notOk(tight.includes('RestrictNamespaces=user mnt pid ipc'))
  const loose = unit('/etc/stdio-servers.yaml')
  t.ok(loose.indexOf('RestrictNamespaces=yes') < loose.indexOf('RestrictNamespaces=user'), 'the later counts')
  t.match(loose, /RestrictNamespaces=user mnt pid ipc\n[^[]*\n\n\[Install\]/)
  t.same(
    directives(loose).filter((line) => tight.includes(line)),
    tight,
    'and everything else stays',
  )
  t.end()
})

t.test('a controller without a registration stands against it', async (t) => {
  health = '{"status":"Unregistered"}'
  t.teardown(() => {
    health = '{"status":"Healthy"}'
  })
  t.match(await problemsOf({}), [/is not registered/])
})

t.test('every problem at once', async (t) => {
  const planned = await planGateway({ AEMBIT_LISTEN_ADDRESS: '127.0.0.1', AEMBIT_METRICS_PORT: 'x' })
  const keys = 'problems' in planned ? planned.problems.map(({ key }) => key) : []
  for (const key of [
    'AEMBIT_AUTHORIZATION_SERVER',
    'AEMBIT_MCP_GATEWAY_URL',
    'AEMBIT_AGENT_CONTROLLER_URL',
    'AEMBIT_TLS_CERT_CHAIN_PATH',
    'AEMBIT_TLS_PRIVATE_KEY_PATH',
    'AEMBIT_METRICS_PORT',
  ]) {
    t.equal(keys.filter((each) => each === key).length, 1, key)
  }
})

t.test('three on one machine: each gets what is its own', async (t) => {
  const given = {
    AEMBIT_LOG_LEVEL: 'debug',
    AEMBIT_CONFIG_PATH: '/c',
    AEMBIT_TENANT_ID: 'x',
    AEMBIT_HTTPS_PORT: '1',
  }
  t.same(routed('aembit_control_plane', given), { AEMBIT_LOG_LEVEL: 'debug', AEMBIT_CONFIG_PATH: '/c' })
  t.same(routed('aembit_agent_controller', given), { AEMBIT_LOG_LEVEL: 'debug', AEMBIT_TENANT_ID: 'x' })
  t.same(routed('aembit_mcp_gateway', given), { AEMBIT_LOG_LEVEL: 'debug', AEMBIT_HTTPS_PORT: '1' })
  const config = join(dir, 'control-plane.yaml')
  writeFileSync(config, 'tenant: { id: acme }\ngateway: { url: https://gw.example/mcp }\n')
  t.match(joined('aembit_mcp_gateway', config), {
    AEMBIT_MCP_GATEWAY_URL: 'https://gw.example/mcp',
    AEMBIT_AUTHORIZATION_SERVER: 'https://gw.example',
    AEMBIT_CONTROL_PLANE_SOCKET: '/run/aembit_control_plane/public.sock',
  })
  t.match(joined('aembit_agent_controller', config), { AEMBIT_TENANT_ID: 'acme' })
  t.match(unroutable({ ...given, TLS_PEM_PATH: '/c.pem' }), [{ key: 'TLS_PEM_PATH', message: /--all/ }])
  t.same(unroutable(given), [], 'what --all has a place for')
  t.same(joined('aembit_agent_controller', join(dir, 'absent')).AEMBIT_TENANT_ID, undefined)
})

t.test('a unit with a marker that nobody fills is no unit', async (t) => {
  t.throws(() => fillUnit('User=@WHO@\n', {}), /@WHO@ has no value/)
  t.equal(fillUnit('a\n@NONE@\nb=@X@\n', { NONE: '', X: '1' }), 'a\nb=1\n', 'an empty one leaves no line')
})
