import { mkdtempSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { inspect } from 'node:util'
import { test } from 'tap'
import { ConfigFault, loadConfig, parseConfig } from '../../../services/control-plane/config/load.ts'

const bad = join(import.meta.dirname, 'bad')
const example = join(import.meta.dirname, '../../../etc/control-plane.yaml')

function problemsOf(source: string, name: string): readonly string[] {
  try {
    parseConfig(source, name, { env: {} })
  } catch (error) {
    if (error instanceof ConfigFault) return error.problems
    throw error
  }
  return []
}

for (const name of readdirSync(bad).filter((file) => file.endsWith('.bad'))) {
  test(`${name}: every problem at once, with its line`, async (t) => {
    const golden = readFileSync(join(bad, name.replace('.bad', '.expected')), 'utf8').trimEnd()
    const problems = problemsOf(readFileSync(join(bad, name), 'utf8'), name.replace('.bad', '.yaml'))
    t.equal(problems.join('\n').replaceAll(process.cwd(), '<folder>'), golden)
    t.notMatch(golden, /secret-password|top-secret|must-not-be-shown/, 'no secret in a message')
  })
}

test('the commented example loads without a warning and fills its defaults in', async (t) => {
  const warnings: string[] = []
  const config = await loadConfig(example, { warn: (line) => warnings.push(line) })
  t.same(warnings, [])
  t.equal(config.authorizationServer.issuer, 'https://localhost:8443')
  t.equal(config.authorizationServer.accessTokenLifetime, 900)
  t.equal(config.authorizationServer.refreshTokenLifetime, 30 * 86_400)
  t.equal(config.serverWorkloads.find(({ id }) => id === 'docs')?.prefix, 'docs')
  t.equal(config.clientWorkloads.find(({ id }) => id === 'claude')?.name, 'Claude')
  t.equal(config.events.retention, 30 * 86_400)
})

test('secrets come from files, the environment and the file itself, and never print', async (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'config-'))
  writeFileSync(join(folder, 'key'), 'from-file\n')
  const path = join(folder, 'control-plane.yaml')
  writeFileSync(
    path,
    `tenant: {id: t}
gateway: {url: https://gw.example}
identityProviders: [{id: local, type: directory, users: [{email: a@b.example, password: from-text}]}]
credentialProviders:
  - {id: a, type: apikey, header: {name: X-Key, value: {file: key}}}
  - {id: b, type: apikey, header: {name: X-Key, value: {env: KEY}}}
  - {id: c, type: apikey, header: {name: X-Key, value: {value: from-value}}}
`,
  )
  const config = await loadConfig(path, { env: { KEY: 'from-env' } })
  const keys = config.credentialProviders.map((provider) =>
    provider.type === 'apikey' ? provider.header?.value.reveal() : undefined,
  )
  t.same(keys, ['from-file', 'from-env', 'from-value'])
  t.equal(config.gateway.url, 'https://gw.example/mcp', 'an origin alone gets the path')
  const printed = `${JSON.stringify(config)}${inspect(config, { depth: 10 })}${config.credentialProviders}`
  t.notMatch(printed, /from-(file|env|value|text)/)
})

test('a private address without allowedNetworks is a warning, not an error', async (t) => {
  const warnings: string[] = []
  parseConfig(
    `tenant: {id: t}
gateway: {url: https://gw.example/mcp}
identityProviders: [{id: sso, type: oidc, issuer: "http://[::1]:9000", clientId: c}]
serverWorkloads:
  - {id: one, url: http://127.0.0.1:3001/mcp}
  - {id: two, url: http://10.0.0.9/mcp, allowedNetworks: [10.0.0.0/8]}
`,
    'x.yaml',
    { warn: (line) => warnings.push(line) },
  )
  t.match(warnings.join('\n'), /x\.yaml:3:\d+ identityProviders\[0\]\.issuer: is in a private network/)
  t.match(warnings.join('\n'), /x\.yaml:5:\d+ serverWorkloads\[0\]\.url: is in a private network/)
  t.notMatch(warnings.join('\n'), /serverWorkloads\[1\]\.url/)
  t.match(warnings.join('\n'), /let nobody in/)
})

test('what can not be read at all is one clear line', async (t) => {
  await t.rejects(loadConfig('/no/such/file.yaml'), 'rejects')
  await loadConfig('/no/such/file.yaml').catch((error: ConfigFault) => {
    t.match(error.problems, [/does not exist.*AEMBIT_CONFIG_PATH/])
  })
  t.match(problemsOf('a: &a [*a, *a]\nb: [*a, *a]', 'x.yaml').length > 0, true)
  const bomb = `a: &a [x,x,x,x,x,x,x,x,x,x]\n${'bcdefg'
    .split('')
    .map((name, index) => {
      const before = 'abcdef'[index]
      return `${name}: &${name} [${Array(10).fill(`*${before}`).join(',')}]`
    })
    .join('\n')}`
  t.match(problemsOf(bomb, 'x.yaml'), [/alias/i])
})
