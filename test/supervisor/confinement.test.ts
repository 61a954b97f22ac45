import { spawnSync } from 'node:child_process'
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t from 'tap'
import { confinement } from '../../services/supervisor/confinement.ts'
import { childEnvironment, isInstrumented } from '../../services/supervisor/environment.ts'
import { parseGatewayEnv } from '../../shared/config/gateway.ts'
import type { Role } from '../../shared/ipc/contract.ts'
import { makeCertificate } from './certificates.ts'

const dir = mkdtempSync(join(tmpdir(), 'confined-'))
t.teardown(() => rmSync(dir, { recursive: true, force: true }))
const state = join(dir, 'state')
const run = join(dir, 'run')
for (const folder of [state, join(state, 'spool'), join(state, 'policy'), join(state, 'acme'), run])
  mkdirSync(folder)
const acme = join(state, 'acme/key.pem')
const { certChainPath, privateKeyPath } = makeCertificate(dir, 'own')
const secret = join(dir, 'enrolment-secret')
const pins = join(state, 'policy/pins.json')
const snapshot = join(state, 'policy/snapshot-1-0123456789ab.json')
const segment = join(state, 'spool/0-1.open')
for (const path of [secret, pins, snapshot, segment, acme]) writeFileSync(path, 'x'.repeat(20))
const read = parseGatewayEnv({
  AEMBIT_AUTHORIZATION_SERVER: 'https://gw.test',
  AEMBIT_MCP_GATEWAY_URL: 'https://gw.test/mcp',
  AEMBIT_AGENT_CONTROLLER_URL: 'http://127.0.0.1:5000',
  AEMBIT_TLS_CERT_CHAIN_PATH: certChainPath,
  AEMBIT_TLS_PRIVATE_KEY_PATH: privateKeyPath,
  AEMBIT_ENROLMENT_SECRET_PATH: secret,
  AEMBIT_RUNTIME_DIR: run,
  AEMBIT_STATE_DIR: state,
})
if ('problems' in read) throw new Error(JSON.stringify(read.problems))
const config = read.ok

/** What a process with a role's flags can do, from the words it prints. The test runner's preloads stay away from it. */
function tryAll(role: Role): Record<string, boolean> {
  const script = `
    const fs = require('node:fs'); const done = {}
    const attempt = (name, work) => { try { work(); done[name] = true } catch (error) { done[name] = false } }
    for (const [name, path] of Object.entries(${JSON.stringify({ key: privateKeyPath, secret, acme, pins, snapshot, segment, passwd: '/etc/passwd' })})) {
      attempt('read ' + name, () => fs.readFileSync(path))
    }
    attempt('write pins', () => fs.appendFileSync(${JSON.stringify(pins)}, ''))
    attempt('write segment', () => fs.appendFileSync(${JSON.stringify(segment)}, ''))
    attempt('write elsewhere', () => fs.writeFileSync(${JSON.stringify(join(dir, 'made'))}, ''))
    attempt('program', () => { const { error } = require('node:child_process').spawnSync('true'); if (error) throw error })
    attempt('thread', () => new (require('node:worker_threads').Worker)('', { eval: true }).terminate())
    attempt('pollute', () => { Object.prototype.polluted = 1; if (!({}).polluted) throw new Error() })
    attempt('swap prototype', () => { const odd = {}; odd.__proto__ = Array.prototype; if (!(odd instanceof Array)) throw new Error() })
    attempt('eval', () => new Function('return 1')())
    console.log(JSON.stringify(done))`
  const shell = 'unset NODE_OPTIONS; exec "$0" "$@"'
  const args = ['-c', shell, process.execPath, ...confinement(role, config), '-e', script]
  const { stdout, stderr } = spawnSync('/bin/sh', args, { encoding: 'utf8' })
  if (!stdout) throw new Error(stderr)
  return JSON.parse(stdout) as Record<string, boolean>
}

const nothing = {
  'read key': false,
  'read secret': false,
  'read acme': false,
  'read pins': false,
  'read snapshot': false,
  'read segment': false,
  'read passwd': false,
  'write pins': false,
  'write segment': false,
  'write elsewhere': false,
  program: false,
  thread: false,
  pollute: false,
  'swap prototype': false,
  eval: false,
}

t.test('front reads its key, and nothing of the others', async (t) => {
  t.same(tryAll('front'), { ...nothing, 'read key': true, pollute: true })
})

t.test('proxy reads policy and writes events; no TLS key, no enrolment secret', async (t) => {
  const own = {
    'read snapshot': true,
    'read segment': true,
    'write segment': true,
    eval: true,
    pollute: true,
  }
  t.same(tryAll('proxy'), { ...nothing, ...own })
})

t.test('sync has the state folder and its secret; no TLS key', async (t) => {
  const own = { 'read secret': true, 'read pins': true, 'read snapshot': true, 'read segment': true }
  t.same(tryAll('sync'), { ...nothing, ...own, 'write pins': true, 'write segment': true })
})

t.test('code that somebody loads into every process lifts the limits on files, and only these', async (t) => {
  t.notOk(confinement('proxy', config, true).includes('--permission'))
  t.ok(confinement('front', config, true).includes('--disallow-code-generation-from-strings'))
  for (const options of [
    '--import=x',
    '"--import=x y"',
    '--max-old-space-size=100 --require ./a.cjs',
    '-r a',
  ])
    t.ok(isInstrumented({ NODE_OPTIONS: options }), options)
  for (const options of ['', '--max-old-space-size=100', '--cpu-prof'])
    t.notOk(isInstrumented({ NODE_OPTIONS: options }), options)
})

t.test('children inherit how to find time zone, authorities and proxies, and no more', async (t) => {
  const env = { PATH: '/bin', TZ: 'UTC', https_proxy: 'http://p', NODE_EXTRA_CA_CERTS: '/ca' }
  const rest = {
    AEMBIT_VALKEY_URL: 'x',
    CREDENTIALS_DIRECTORY: '/c',
    AWS_SECRET_ACCESS_KEY: 'k',
    LISTEN_FDS: '2',
    HOME: '/h',
  }
  t.same(childEnvironment({ ...env, ...rest }), env)
})
