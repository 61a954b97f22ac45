import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { closest, formatProblems, optional, type Problem, readEnv, secret } from '../../shared/config/env.ts'
import { type GatewayConfig, parseGatewayEnv } from '../../shared/config/gateway.ts'
import { duration, httpUrl, integer, list, text } from '../../shared/config/parsers.ts'
import { parseTimeouts } from '../../shared/config/timeouts.ts'
import { proves } from '../requirements.ts'
import { makeCertificate } from './certificates.ts'

const dir = t.testdir()
const good = makeCertificate(dir, 'good')
const other = makeCertificate(dir, 'other')
const expired = makeCertificate(dir, 'expired', {
  notBefore: new Date('2020-01-01'),
  notAfter: new Date('2021-01-01'),
})

const base = {
  AEMBIT_AUTHORIZATION_SERVER: 'https://gw.example/',
  AEMBIT_MCP_GATEWAY_URL: 'https://gw.example',
  AEMBIT_AGENT_CONTROLLER_URL: 'http://localhost:5000',
  AEMBIT_TLS_CERT_CHAIN_PATH: good.certChainPath,
  AEMBIT_TLS_PRIVATE_KEY_PATH: good.privateKeyPath,
  PATH: '/usr/bin',
}

const ok = (env: Record<string, string | undefined>): GatewayConfig => {
  const read = parseGatewayEnv(env)
  if ('problems' in read) throw new Error(formatProblems('test', read.problems))
  return read.ok
}
const problems = (env: Record<string, string | undefined>): readonly Problem[] => {
  const read = parseGatewayEnv(env)
  return 'problems' in read ? read.problems : []
}
const only = (env: Record<string, string | undefined>): string => {
  const found = problems(env)
  return found.map(({ key, message }) => `${key} ${message}`).join('\n')
}

t.test('the documented variables with the documented defaults', async (t) => {
  proves(t, 'GW-START-01')
  const config = ok(base)
  t.equal(config.gatewayUrl, 'https://gw.example/mcp')
  t.equal(config.authorizationServer, 'https://gw.example')
  t.equal(config.controlPlaneUrl, 'https://gw.example')
  t.equal(config.publicPort, 443)
  t.same(config.listen, { address: '0.0.0.0', https: 443, http: 80, metrics: 9091 })
  t.equal(config.sessionIdleTtlSecs, 43_200)
  t.equal(config.timeouts.tools_list, 3000)
  t.equal(config.timeouts.tools_call, 60_000)
  t.equal(config.drainMs, 30_000)
  t.equal(ok({ ...base, AEMBIT_MCP_GATEWAY_URL: 'https://gw.example:8443/api/mcp/' }).mcpPath, '/api/mcp')
  t.equal(ok({ ...base, AEMBIT_MCP_GATEWAY_URL: 'https://gw.example:8443/mcp' }).publicPort, 8443)
  const seed = { ...base, AEMBIT_AUTHORIZATION_SERVER: undefined, AEMBIT_TENANT_URL: 'https://t.example' }
  t.equal(ok(seed).authorizationServer, 'https://t.example')
  t.equal(
    ok({ ...base, AEMBIT_CONTROL_PLANE_URL: 'unix:/run/cp/machine.sock' }).controlPlaneUrl,
    'unix:/run/cp/machine.sock',
  )
})

t.test('every problem at once', async (t) => {
  const found = problems({
    AEMBIT_MCP_GATEWAY_URL: 'gw.example',
    AEMBIT_AGENT_CONTROLLER_URL: 'http://controller.example:5000',
    AEMBIT_TLS_CERT_CHAIN_PATH: join(dir, 'absent.pem'),
    AEMBIT_TLS_PRIVATE_KEY_PATH: join(dir, 'absent.key'),
    AEMBIT_MCP_SESSION_IDLE_TTL_SECS: '1209601',
    AEMBIT_MCP_GATEWAY_TIMEOUT: 'tools_list=0s',
    AEMBIT_LOG_LEVL: 'debug',
    AEMBIT_PROXY_WORKERS: '0',
  })
  t.same(found.map(({ key }) => key).sort(), [
    'AEMBIT_AGENT_CONTROLLER_URL',
    'AEMBIT_AUTHORIZATION_SERVER',
    'AEMBIT_LOG_LEVL',
    'AEMBIT_MCP_GATEWAY_TIMEOUT',
    'AEMBIT_MCP_GATEWAY_URL',
    'AEMBIT_MCP_SESSION_IDLE_TTL_SECS',
    'AEMBIT_PROXY_WORKERS',
    'AEMBIT_TLS_CERT_CHAIN_PATH',
    'AEMBIT_TLS_PRIVATE_KEY_PATH',
  ])
  t.match(found.find(({ key }) => key === 'AEMBIT_LOG_LEVL')?.message, /did you mean AEMBIT_LOG_LEVEL\?/)
  t.match(
    formatProblems('aembit_mcp_gateway', found),
    /^aembit_mcp_gateway: the configuration has 9 problems:\n {2}AEMBIT_/,
  )
})

t.test('certificate and key', async (t) => {
  proves(t, 'GW-START-04')
  t.match(
    only({ ...base, AEMBIT_TLS_PRIVATE_KEY_PATH: other.privateKeyPath }),
    /PRIVATE_KEY_PATH .* is not the key of/,
  )
  const ended = {
    ...base,
    AEMBIT_TLS_CERT_CHAIN_PATH: expired.certChainPath,
    AEMBIT_TLS_PRIVATE_KEY_PATH: expired.privateKeyPath,
  }
  t.match(only(ended), /CERT_CHAIN_PATH .* expired on/, 'who asks before a start is told')
  t.ok('ok' in parseGatewayEnv(ended, null), 'a gateway that starts serves it')
  const garbage = join(dir, 'garbage.pem')
  writeFileSync(garbage, 'SECRET-LOOKING')
  t.match(only({ ...base, AEMBIT_TLS_CERT_CHAIN_PATH: garbage }), /does not begin with a PEM certificate/)
  const key = only({ ...base, AEMBIT_TLS_PRIVATE_KEY_PATH: garbage })
  t.match(key, /no unencrypted PEM private key/)
  t.notMatch(key, /SECRET/)
})

t.test('plain http is for loopback alone', async (t) => {
  const plain = {
    ...base,
    AEMBIT_TLS_CERT_CHAIN_PATH: undefined,
    AEMBIT_TLS_PRIVATE_KEY_PATH: undefined,
    AEMBIT_PLAIN_HTTP: 'true',
    AEMBIT_MCP_GATEWAY_URL: 'http://localhost:8080/mcp',
    AEMBIT_LISTEN_ADDRESS: '127.0.0.1',
    AEMBIT_HTTPS_PORT: '8080',
  }
  t.equal(ok(plain).tls, null)
  t.equal(ok(plain).listen.http, 0)
  t.match(only({ ...plain, AEMBIT_LISTEN_ADDRESS: '0.0.0.0' }), /AEMBIT_PLAIN_HTTP needs a loopback/)
  t.match(only({ ...plain, AEMBIT_HTTP_PORT: '8081' }), /AEMBIT_HTTP_PORT has no use/)
  t.match(only({ ...base, AEMBIT_MCP_GATEWAY_URL: 'http://localhost/mcp' }), /must be https/)
  t.match(only({ ...base, AEMBIT_MCP_GATEWAY_URL: 'http://gw.example/mcp' }), /must be https/)
})

t.test('the session store, by user info or parameters, and never printed', async (t) => {
  const store = (url: string) => ok({ ...base, AEMBIT_VALKEY_URL: url })
  const secret = {
    username: 'gw',
    password: 'hunter2',
    host: 'store',
    tls: true,
    shown: 'rediss://store:6390/2',
  }
  t.match(store('rediss://gw:hunter2@store:6390/2').valkey, secret)
  t.match(store('rediss://store:6390/2?user=gw&pass=hunter2').valkey, secret)
  t.match(store('redis://:p%40ss@[::1]').valkey, {
    host: '::1',
    port: 6379,
    db: 0,
    password: 'p@ss',
    tls: false,
  })
  t.notMatch(JSON.stringify(store('redis://gw:hunter2@store').printed), /hunter2/)
  t.equal(ok(base).valkey, null)
  for (const bad of [
    'store',
    'http://store',
    'redis://store/name',
    'redis://gw:hunter2@store?pass=hunter2',
    'redis://gw@store',
    'redis://store?password=hunter2',
    'redis://gw:hunter2%@store',
  ]) {
    const problem = only({ ...base, AEMBIT_VALKEY_URL: bad })
    t.match(problem, /AEMBIT_VALKEY_URL must be redis:/, bad)
    t.notMatch(problem, /hunter2/)
  }
})

t.test('settings that fit no machine, or each other', async (t) => {
  t.match(only({ ...base, AEMBIT_RUNTIME_DIR: `/${'x'.repeat(100)}` }), /too long for unix sockets/)
  t.match(only({ ...base, AEMBIT_TENANT_URL: 'https://other.example' }), /differs from/)
  t.match(only({ ...base, AEMBIT_HTTP_PORT: '443' }), /same as AEMBIT_HTTPS_PORT/)
})

t.test('time-outs by name', async (t) => {
  proves(t, 'GW-START-03')
  t.equal(parseTimeouts('tools_list=1500ms, initialize=2m').tools_list, 1500)
  t.equal(parseTimeouts('reinit/tools/list=7s').reinit_tools_list, 7000)
  t.equal(parseTimeouts('notifications/initialized=7s').notifications_initialized, 7000)
  t.throws(() => parseTimeouts('tools_list=0s'), /tools_list must be more than zero/)
  t.throws(() => parseTimeouts('tools_list=1s,tools/list=2s'), /given twice/)
  t.throws(() => parseTimeouts('tools_lst=1s'), /did you mean tools_list/)
  t.throws(
    () => parseTimeouts('tools_list=1s,,initialize=x,foo'),
    /"" is not name=duration; initialize holds "x".*"foo" is not/,
  )
  t.throws(() => parseTimeouts('initialize=2h'), /longer than 1h/)
})

t.test('the table of another program', async (t) => {
  const table = {
    AEMBIT_SIZE: optional(integer({ min: 1, max: 5 }), 3, 'size'),
    AEMBIT_NAMES: optional(list(text), [], 'names'),
    AEMBIT_URL: secret(optional(httpUrl(), null, 'url')),
  } as const
  const read = readEnv({ AEMBIT_NAMES: 'a, b', AEMBIT_SIZE: '', HOME: '/' }, table)
  t.same(read, { ok: { AEMBIT_SIZE: 3, AEMBIT_NAMES: ['a', 'b'], AEMBIT_URL: null } })
  t.same(readEnv({ AEMBIT_NAMES: 'a,,b' }, table), {
    problems: [{ key: 'AEMBIT_NAMES', message: 'has an empty item' }],
  })
  t.equal(closest('AEMBIT_SIZ', Object.keys(table)), 'AEMBIT_SIZE')
  t.equal(closest('SOMETHING_ELSE', Object.keys(table)), undefined)
  t.throws(() => duration('10'), /not a duration/)
  t.throws(() => httpUrl()('https://user:pw@host'), /must not hold a user name/)
  t.throws(() => httpUrl()('http://127.0.0.1.evil.example'), /must be https/)
})

t.test('--check shows what counts, and one digest for one set of settings', async (t) => {
  const config = ok(base)
  t.same(
    config.printed.find(({ key }) => key === 'AEMBIT_HTTPS_PORT'),
    { key: 'AEMBIT_HTTPS_PORT', value: '443' },
  )
  t.equal(config.digest, ok({ ...base, AEMBIT_HTTPS_PORT: '443' }).digest)
  t.not(config.digest, ok({ ...base, AEMBIT_HTTPS_PORT: '444' }).digest)
})
