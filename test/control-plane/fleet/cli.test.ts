import { type ChildProcess, execFile, fork } from 'node:child_process'
import { once } from 'node:events'
import { chmodSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import { UnsecuredJWT } from 'jose'
import t, { type Test } from 'tap'
import { proves } from '../../requirements.ts'

// Each command is a process of its own.
t.setTimeout(240_000)

const room = join(import.meta.dirname, '../../../services/control-plane')
const yaml = (more = '') => `tenant: {id: acme}
gateway: {url: "https://gw.example/mcp"}
identityProviders:
  - {id: local, type: directory, users: [{email: ann@example.com, password: "first-secret-word"}]}
clientWorkloads: [{id: claude, identities: [{type: oauthRedirectUri, value: "*"}]}]
serverWorkloads: [{id: jira, url: "https://jira.example/mcp"}]
credentialProviders: [{id: open, type: none}]
contentSecurity:
  - {id: readers, type: AembitMcpToolAccessControl, mode: Block, visibility: All, invocation: Specific, invocationEntries: ["delete_*"]}
accessPolicies:
  - {id: in, client: claude, server: gateway}
  - {id: work, server: jira, credentialProvider: open, contentSecurity: [readers]}
${more}`

async function scene(t: Test) {
  const dir = mkdtempSync(join(tmpdir(), 'cli-'))
  const config = join(dir, 'config.yaml')
  writeFileSync(config, yaml())
  const env = {
    PATH: process.env.PATH ?? '',
    AEMBIT_CONFIG_PATH: config,
    AEMBIT_STATE_DIR: join(dir, 'state'),
    AEMBIT_RUNTIME_DIR: join(dir, 'run'),
  }
  let child: ChildProcess | undefined
  t.teardown(() => {
    child?.kill('SIGKILL')
    rmSync(dir, { recursive: true, force: true })
  })
  /** No argument: it runs the control plane, as the unit does. */
  const start = async () => {
    child = fork(join(room, 'cli/main.ts'), [], { silent: true, env })
    child.stdout?.resume()
    const said = text(child.stderr!)
    const refused = await Promise.race([once(child, 'message').then(() => ''), said])
    if (refused) throw new Error(refused)
  }
  const cli = (args: string[], input = ''): Promise<{ code: number; out: string; err: string }> =>
    new Promise((resolve) => {
      const ran = execFile(
        process.execPath,
        [join(room, 'cli/main.ts'), ...args],
        { env },
        (error, out, err) => resolve({ code: error ? Number(error.code) : 0, out, err }),
      )
      ran.stdin?.end(input)
    })
  const stop = async () => {
    child?.kill('SIGTERM')
    if (child) await once(child, 'exit')
  }
  return { config, env, dir, start, stop, cli }
}

t.test('the kill switch, keys, status and explain of a running control plane', async (t) => {
  proves(t, 'OPS-CLI-01')
  const { start, cli } = await scene(t)
  await start()
  const added = await cli([
    'kill-switch',
    'add',
    '--user',
    'ann@example.com',
    '--server',
    'jira',
    '--reason',
    'left',
  ])
  t.equal(added.code, 0, added.err)
  t.match(added.out, /^shut out; every gateway/)
  t.match(added.out, /^user {4}ann@example\.com .* left$/m)

  const token = new UnsecuredJWT({}).setJti('token-1').encode()
  const byToken = await cli(['kill-switch', 'add', '--token', '-', '--json'], `${token}x\n`)
  t.match(JSON.parse(byToken.out), { entities: [{ kind: 'token', value: 'token-1', isActive: true }] })
  t.notMatch(byToken.out, token.split('.')[1] ?? '')

  const listed = await cli(['kill-switch', 'list', '--json'])
  t.match(JSON.parse(listed.out), { recordsTotal: 3 })
  const denied = await cli(
    'explain --user ann@example.com --client claude --tool jira_create --claims {}'.split(' '),
  )
  t.equal(denied.code, 1)
  t.match(denied.out, /^DENIED {2}ann@example\.com by claude may not call create of jira$/m)
  t.match(denied.out, /^why {5}kill_switch: An administrator has blocked this user\.$/m)

  const removed = await cli(['kill-switch', 'remove', '--user', 'ann@example.com', '--server', 'jira'])
  t.equal(removed.code, 0, removed.err)
  t.match(removed.out, 'user ann@example.com is let in again')
  t.match(await cli(['kill-switch', 'remove', '--user', 'ann@example.com', '--server', 'nowhere']), {
    code: 1,
    err: /user ann@example\.com is not shut out.*\n.*server nowhere is not shut out/,
  })
  const byJti = await cli(['kill-switch', 'remove', '--token', '-'], token)
  t.equal(byJti.code, 0, 'a whole token is known by its jti')
  t.match(await cli(['kill-switch', 'list']), { code: 0, out: /^nobody is shut out/ })
  t.match((await cli(['kill-switch', 'list', '--all'])).out, /^until .* user .* left$/m)

  const ask = 'explain --user ann@example.com --client claude --claims {}'.split(' ')
  t.match(await cli([...ask, '--tool', 'jira_create']), {
    code: 0,
    out: /^ALLOWED[\s\S]*^> tool {5}work {4}yes/m,
  })
  t.match(await cli([...ask, '--tool', 'jira_delete_all']), {
    code: 1,
    out: /policy {2}work, version 1, contentSecurity:readers$/m,
  })
  t.match(JSON.parse((await cli([...ask, '--tool', 'jira_create', '--json'])).out), {
    decision: { allow: true, policyId: 'work' },
  })
  t.match(await cli('explain --user bob --client claude'.split(' ')), {
    code: 1,
    err: /never signed in here/,
  })

  const keys = JSON.parse((await cli(['keys', 'list', '--json'])).out)
  const rotated = JSON.parse((await cli(['keys', 'rotate', '--compromised', '--json'])).out)
  const active = ({ entities }: { entities: { kid: string; state: string }[] }) =>
    entities.filter(({ state }) => state === 'active').map(({ kid }) => kid)
  t.notSame(active(rotated), active(keys))
  t.match(await cli(['keys', 'rotate']), { code: 0, out: /^key +algorithm +state/m })

  const controller = await cli(['controller', 'add', 'vm-1'])
  t.match(controller.out, /^AEMBIT_DEVICE_CODE=\d{6}$/m)
  t.match(await cli(['status']), { code: 0, out: /^healthy {2}control plane[\s\S]*^vm-1 +not registered/m })
  t.match(JSON.parse((await cli(['status', '--json'])).out), { status: 'Healthy', killSwitches: 0 })
})

t.test('the configuration: check, what would change, apply', async (t) => {
  proves(t, 'OPS-CLI-02')
  const { config, start, cli } = await scene(t)
  await start()
  t.match(await cli(['apply', '--dry-run']), { code: 0, out: /says what is in force already/ })
  writeFileSync(
    config,
    yaml('  - {id: more, server: jira, credentialProvider: open, active: false}\n')
      .replace('first-secret-word', 'second-secret-word')
      .replace('"delete_*"', '"drop_*"'),
  )
  const dry = await cli(['apply', '--dry-run'])
  t.equal(dry.code, 0, dry.err)
  t.match(dry.out, /^~ identityProviders\[local\]\.users\[ann@example\.com\]\.password: ••• → •••$/m)
  t.match(dry.out, /^~ contentSecurity\[readers\]\.\S+: \["delete_\*"\] → \["drop_\*"\]$/m)
  t.match(dry.out, /^\+ accessPolicies\[more\]$/m)
  t.match(dry.out, /3 changes of .* would come into force; nothing was applied/)
  t.notMatch(dry.out, /secret-word/)
  const ask = 'explain --user a --client claude --claims {} --tool jira_drop_all'.split(' ')
  t.equal((await cli(ask)).code, 0, 'nothing was applied')

  t.match(JSON.parse((await cli(['apply', '--json'])).out), { applied: true, changes: { length: 3 } })
  t.equal((await cli(ask)).code, 1, 'it is in force')
  t.match(await cli(['apply', '--dry-run']), { out: /says what is in force already/ })

  writeFileSync(config, yaml('  - {id: bad, server: nowhere}\n').replace('id: acme', 'id: "a b"'))
  for (const args of [['apply'], ['apply', '--dry-run']]) {
    const refused = await cli(args)
    t.equal(refused.code, 1)
    t.match(refused.err, /config\.yaml:1:\d+ tenant\.id: [\s\S]*config\.yaml:1[0-9]:\d+ accessPolicies/)
  }
  t.match(await cli(['check', config]), { code: 2, out: /tenant\.id[\s\S]*is not valid/ })
  t.match(JSON.parse((await cli(['check', config, '--json'])).out), { valid: false })
  writeFileSync(config, yaml().replace('gw.example/mcp', 'other.example/mcp'))
  t.match(await cli(['check', config]), { code: 0, out: /is valid/ })
  t.match(await cli(['apply', '--dry-run']), { code: 1, err: /issuer can not change while running/ })
})

t.test('what is wrong with a command is told at once, and who can not be reached', async (t) => {
  proves(t, 'OPS-CLI-03')
  const { cli, env, start, stop } = await scene(t)
  t.match(await cli(['status']), { code: 3, err: /admin-token can not be read \(ENOENT\)/ })
  const usage = await cli(['explain', '--tool', 'x', '--arguments', '{', '--foo', '--json=1', 'more'])
  t.equal(usage.code, 2)
  for (const said of [
    '--user is missing',
    '--client is missing',
    '--arguments: is no JSON',
    '--foo is no option',
    '--json takes no value',
    '"more" is not expected',
  ]) {
    t.match(usage.err, said)
  }
  t.match(await cli(['kill-switch', 'add']), { code: 2, err: /nobody is named/ })
  t.match(await cli(['kill-switch', 'drop']), { code: 2, err: /use kill-switch add, kill-switch list/ })
  t.match(JSON.parse((await cli(['nothing', '--json'])).out), { problems: [/there is no command "nothing"/] })
  t.match(await cli(['--help']), { code: 0, out: /Exit codes:/ })
  t.match(await cli(['hash-password'], 'pass word\n'), { code: 0, out: /^\$scrypt\$/ })
  t.match(await cli(['hash-password'], ''), { code: 2 })
  t.match(await cli(['rotate-master-key', '--new-key', 'relative']), {
    code: 2,
    err: /must be an absolute path/,
  })

  await start()
  const wrong = join(env.AEMBIT_STATE_DIR, 'wrong-token')
  writeFileSync(wrong, 'x'.repeat(40))
  t.match(await cli(['status', '--token-path', wrong]), { code: 1, err: /401 Send the administrator token/ })
  t.match(await cli(['status', '--url', 'http://gw.example']), { code: 1, err: /--url: .* must be https/ })
  t.match(await cli(['status', '--url', 'http://127.0.0.1:1']), { code: 3, err: /does not answer/ })
  t.match(await cli(['rotate-master-key']), { code: 1, err: /is in use by another control plane/ })
  if (process.getuid?.() !== 0) {
    chmodSync(wrong, 0)
    t.match(await cli(['status', '--token-path', wrong]), { code: 3, err: /use sudo/ })
  }
  await stop()
  t.match(await cli(['status']), { code: 3, err: /no control plane runs on .*public\.sock/ })
  t.ok(readFileSync(join(env.AEMBIT_STATE_DIR, 'admin-token'), 'utf8'))
})
