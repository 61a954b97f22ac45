import { execFile } from 'node:child_process'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import t from 'tap'
import type { Finding } from '../../services/supervisor/doctor/step.ts'
import { proves } from '../requirements.ts'
import { startRig } from '../rig/world.ts'

/** The command against the whole appliance, and against one that something is wrong with. */
const cli = fileURLToPath(new URL('../../services/supervisor/cli.ts', import.meta.url))
const dir = mkdtempSync(join(tmpdir(), 'doctor-'))
let env: Record<string, string> = {}
const rig = await startRig({
  adapt: (launch) => {
    if (launch.name === 'gateway')
      env = Object.fromEntries(Object.entries(launch.env ?? {}).map(([k, v]) => [k, String(v)]))
    return launch
  },
})
t.teardown(async () => {
  await rig.end()
  rmSync(dir, { recursive: true, force: true })
})
const agent = rig.agent('ann', { era: 'legacy' })
await agent.connect()
const tokenFile = join(dir, 'token')
writeFileSync(tokenFile, agent.provider.stored?.access_token ?? '')
const always = ['--ca', rig.caPath ?? '']

const doctor = (
  args: readonly string[],
  change: Record<string, string> = {},
): Promise<{ code: number; out: string }> =>
  new Promise((resolve) => {
    const options = { env: { PATH: process.env.PATH ?? '', ...env, ...change } }
    execFile(process.execPath, [cli, 'doctor', ...args], options, (error, out, err) =>
      resolve({ code: typeof error?.code === 'number' ? error.code : 0, out: out + err }),
    )
  })
const json = async (args: readonly string[], change: Record<string, string> = {}) => {
  const { code, out } = await doctor(['--json', ...args], change)
  const { first, findings } = JSON.parse(out) as { first: Finding | null; findings: Finding[] }
  return { code, first, of: (step: string) => findings.find((each) => each.step === step) }
}

t.test('an appliance that is well, all the way to the tools', async (t) => {
  proves(t, 'OPS-DOCTOR-01')
  const { code, out } = await doctor([...always, '--token-file', tokenFile])
  t.equal(code, 0, out)
  t.match(out, /^ok +tools\/list|^warn +tools\/list/m)
  t.match(out, /Nothing is wrong/)
  t.notMatch(out, agent.provider.stored?.access_token ?? 'x', 'the token is not shown')
  const without = await json(always)
  t.equal(without.code, 0)
  t.match(without.of('token'), { verdict: 'skipped', text: /no token given/ })
  t.match(without.of('tools/list'), { verdict: 'skipped' })
})

t.test(
  'on this machine: what is broken is named first, and the rest is looked at all the same',
  async (t) => {
    proves(t, 'OPS-DOCTOR-01')
    const broken: [change: Record<string, string>, step: string, text: RegExp, advice: RegExp][] = [
      [
        { AEMBIT_HTTPS_PORT: 'x', AEMBIT_PROXY_WORKERS: '0' },
        'settings',
        /AEMBIT_HTTPS_PORT.*AEMBIT_PROXY_WORKERS/s,
        /--check/,
      ],
      [
        { AEMBIT_AGENT_CONTROLLER_URL: 'http://127.0.0.1:1' },
        'agent controller',
        /refused/,
        /aembit_agent_controller/,
      ],
      [
        { AEMBIT_CONTROL_PLANE_URL: `unix:${dir}/no.sock` },
        'control plane',
        /socket does not exist/,
        /aembit_control_plane/,
      ],
      [{ AEMBIT_RUNTIME_DIR: dir }, 'gateway', /no gateway/, /systemctl start/],
      [
        { AEMBIT_MCP_GATEWAY_URL: 'https://gateway.invalid/mcp' },
        'dns',
        /does not resolve|do not answer/,
        /A or AAAA record/,
      ],
      [{ AEMBIT_MCP_GATEWAY_URL: 'https://localhost:1/mcp' }, 'https port', /refused/, /firewall/],
      [{ AEMBIT_MCP_GATEWAY_URL: `${rig.origin}/other` }, 'challenge', /not 401/, /another program|metadata/],
    ]
    for (const [change, step, text, advice] of broken) {
      const { code, first } = await json(always, change)
      t.equal(code, 1, step)
      t.equal(first?.step, step)
      t.match(first?.text, text, `${step}: what`)
      t.match(first?.advice, advice, `${step}: what to do`)
    }
    const untrusted = await json([])
    t.match(untrusted.first, { step: 'certificate', text: /not complete|not trusted/, advice: /--ca/ })
    t.match(untrusted.of('signing keys'), { verdict: 'ok' }, 'public documents are looked at')
    const careful = await json(['--token-file', tokenFile])
    t.match(
      careful.of('initialize'),
      { verdict: 'skipped' },
      'a token is not sent past a certificate that is wrong',
    )
    const garbage = join(dir, 'garbage')
    writeFileSync(garbage, 'abc.def.ghi')
    t.match((await json([...always, '--token-file', garbage])).first, { step: 'initialize', text: /401/ })
  },
)

t.test('a gateway that is down', async (t) => {
  proves(t, 'OPS-DOCTOR-01')
  await rig.processes.get('gateway')?.stop(15_000)
  const { code, out } = await doctor(always)
  t.equal(code, 1)
  t.match(out, /^ok +agent controller/m, 'what is well is seen')
  t.match(out, /The first thing that is wrong: gateway: no gateway answers here.*\n→ systemctl start/)
  t.match(out, /^FAIL +https port/m)
  t.match(out, /^- +certificate +needs: https port/m)
})
