import { execFileSync } from 'node:child_process'
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import t, { type Test } from 'tap'
import { layouts } from '../../installer/host/layout.ts'
import { register } from '../../installer/host/register.ts'
import { formatSettings } from '../../installer/host/settings.ts'
import { proves } from '../requirements.ts'

const script = readFileSync(fileURLToPath(new URL('../../installer/host/install', import.meta.url)), 'utf8')

t.test('a controller that an earlier install told how to register gets no device code', async (t) => {
  proves(t, 'GW-INSTALL-01')
  const root = t.testdir()
  const envFile = join(root, layouts.aembit_agent_controller.envFile)
  mkdirSync(dirname(envFile), { recursive: true })
  for (const [key, value] of [
    ['AEMBIT_AGENT_CONTROLLER_ID', 'a'],
    ['AEMBIT_DEVICE_CODE', '123456'],
  ] as const) {
    const text = formatSettings('aembit_agent_controller', { [key]: value })
    writeFileSync(envFile, text)
    t.equal(await register({}, root), 0)
    t.equal(readFileSync(envFile, 'utf8'), text)
  }
  writeFileSync(envFile, formatSettings('aembit_agent_controller', {}))
  await t.rejects(register({}, root), /admin-token/, 'another one asks the control plane')
})

/** Runs `lines` with the functions of `install`, its paths below a folder of the test and no systemd. */
function withFunctions(t: Test, lines: string): { dir: string; calls: string } {
  const dir = t.testdir({ stage: { undo: { made: '' }, changed: '' }, host: {} })
  const functions = script.slice(script.indexOf('tls_watches='), script.indexOf('restart_sockets() {'))
  const calls = join(dir, 'calls')
  writeFileSync(calls, '')
  const body = [
    'set -eu',
    `stage=${dir}/stage applications='' wait=1`,
    'say() { :; }',
    `systemctl() { echo "$*" >>${calls}; }`,
    'chown() { :; }',
    functions
      .replaceAll('/run/aembit', `${dir}/run`)
      .replaceAll('/etc/systemd/system', `${dir}/host`)
      .replaceAll('/opt/aembit', `${dir}/opt`),
    lines.replaceAll('@', `${dir}/host/`),
  ].join('\n')
  execFileSync('sh', ['-c', body], { stdio: ['ignore', 'ignore', 'inherit'] })
  return { dir: join(dir, 'host'), calls: readFileSync(calls, 'utf8') }
}

t.test('undo: what was written, appended to or made is as it was before', async (t) => {
  proves(t, 'GW-INSTALL-01')
  const { dir, calls } = withFunctions(
    t,
    `printf old >@kept; printf old >@same; printf new >@source; printf old >@sourceOfSame
    put 0640 root @kept @source
    put 0640 root @same @sourceOfSame
    put 0640 root @sub/made.timer @source
    put 0640 root @made.timer @source
    keep @same; keep @kept
    printf more >>@same; printf more >>@kept; printf half >@made.timer.new
    undo`,
  )
  t.equal(readFileSync(join(dir, 'kept'), 'utf8'), 'old')
  t.equal(readFileSync(join(dir, 'same'), 'utf8'), 'old')
  t.notOk(existsSync(join(dir, 'sub')))
  t.notOk(existsSync(join(dir, 'made.timer')))
  t.notOk(existsSync(join(dir, 'made.timer.new')))
  t.match(calls, /disable --now made\.timer\n/, 'a unit is disabled while its file is there')
  t.notMatch(calls, /sub/)
})

t.test('the units of files go where the certificate is ordered now, and stay where it is not', async (t) => {
  proves(t, 'GW-INSTALL-02')
  const units = ['path', 'timer', 'service'].map((kind) => `aembit_mcp_gateway_tls.${kind}`)
  for (const planned of [true, false]) {
    const line = planned ? `echo "0644 root @${units[2]}"` : 'echo "0644 root @aembit_mcp_gateway.service"'
    const { dir, calls } = withFunctions(
      t,
      `mkdir $stage/plan; ${line} >$stage/plan/list
      ${units.map((unit) => `: >@${unit}`).join('; ')}
      remove_watches`,
    )
    for (const unit of units) {
      t.equal(existsSync(join(dir, unit)), planned, unit)
      t.equal(calls.includes(`disable --now ${unit}\n`), !planned)
    }
  }
})
