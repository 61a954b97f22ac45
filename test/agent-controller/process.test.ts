import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { parseControllerEnv } from '../../services/agent-controller/settings.ts'
import { proves } from '../requirements.ts'
import { freePort } from '../rig/free-port.ts'
import { FakeControlPlane } from '../sync/fake-control-plane.ts'
import { tempDir, until } from '../sync/support.ts'

const main = join(import.meta.dirname, '../../services/agent-controller/main.ts')

const run = (t: Test, env: Record<string, string>) => {
  const child = spawn(process.execPath, [main], { env, stdio: ['ignore', 'pipe', 'pipe'] })
  t.teardown(() => child.kill('SIGKILL'))
  const seen = { out: '', err: '' }
  child.stdout.on('data', (chunk) => {
    seen.out += chunk
  })
  child.stderr.on('data', (chunk) => {
    seen.err += chunk
  })
  const exit = once(child, 'close').then(([code]) => code as number)
  return { child, seen, exit }
}

t.test('it registers, serves on loopback and stops on SIGTERM with exit code 0', async (t) => {
  proves(t, 'AC-08')
  const dir = await tempDir(t)
  const plane = await FakeControlPlane.start(dir)
  t.teardown(() => plane.down())
  const port = freePort()
  const env = {
    AEMBIT_TENANT_ID: 'acme',
    AEMBIT_DEVICE_CODE: '123456',
    AEMBIT_CONTROL_PLANE_URL: plane.url,
    AEMBIT_STATE_DIR: `${dir}/state`,
    AEMBIT_HTTP_PORT: String(port),
    AEMBIT_METRICS_PORT: String(freePort()),
    AEMBIT_LOG_LEVEL: 'Verbose',
  }
  const { child, seen, exit } = run(t, env)
  const health = async () => (await fetch(`http://127.0.0.1:${port}/health`).catch(() => null))?.status
  await until(async () => (await health()) === 200, 'Healthy')
  t.notMatch(seen.out, '123456')

  const second = run(t, { ...env, AEMBIT_STATE_DIR: `${dir}/other` })
  t.equal(await second.exit, 2)
  t.equal(
    second.seen.err,
    `aembit_agent_controller: 127.0.0.1:${port} is in use by another program; ` +
      'set AEMBIT_HTTP_PORT to another port\n',
  )
  t.equal(plane.count('POST /controller/v1/registrations'), 1, 'no code was spent on a start that failed')

  const metrics = run(t, {
    ...env,
    AEMBIT_STATE_DIR: `${dir}/other`,
    AEMBIT_HTTP_PORT: String(freePort()),
  })
  t.equal(await metrics.exit, 2)
  t.match(metrics.seen.err, /set AEMBIT_METRICS_PORT to another port\n$/)

  child.kill('SIGTERM')
  t.equal(await exit, 0)
})

t.test('every problem of the environment is told at once, with exit code 2', async (t) => {
  const { exit, seen } = run(t, {
    AEMBIT_DEVICE_CODE: '12345',
    AEMBIT_LOG_LEVEL: 'loud',
    AEMBIT_HTTP_PORT: '70000',
    AEMBIT_TENNANT_ID: 'acme',
    AEMBIT_MANAGED_TLS_HOSTNAME: 'host.test',
    TLS_PEM_PATH: '/nonexistent/chain.pem',
    AEMBIT_ATTESTATION: 'magic',
    AEMBIT_KERBEROS_ATTESTATION_ENABLED: 'true',
    AEMBIT_METRICS_ENABLED: 'perhaps',
    AEMBIT_HTTPS_LISTEN_ADDRESS: 'everywhere',
    AEMBIT_CONTROL_PLANE_URL: 'http://cp.example',
    AEMBIT_ENROLMENT_SECRET_PATH: '/nonexistent/secret',
  })
  t.equal(await exit, 2)
  for (const line of [
    'AEMBIT_TENANT_ID: is required',
    'AEMBIT_DEVICE_CODE: must be six digits',
    'AEMBIT_LOG_LEVEL: must be one of',
    'AEMBIT_HTTP_PORT: must be a whole number from 1 to 65535',
    'AEMBIT_TENNANT_ID: is not a setting of this program; did you mean AEMBIT_TENANT_ID?',
    'AEMBIT_MANAGED_TLS_HOSTNAME: is not supported by this version: the control plane issues no certificates; set TLS_PEM_PATH',
    'TLS_KEY_PATH: is needed beside TLS_PEM_PATH',
    'AEMBIT_ATTESTATION: must be one of auto, aws, azure, gcp, oidc, certificate',
    'AEMBIT_HTTPS_LISTEN_ADDRESS: must be an IP address',
    'AEMBIT_KERBEROS_ATTESTATION_ENABLED: is not supported by this version: the control plane belongs to no Kerberos realm; use',
    'AEMBIT_METRICS_ENABLED: must be true or false',
    'AEMBIT_CONTROL_PLANE_URL: must be https',
    'AEMBIT_ENROLMENT_SECRET_PATH: /nonexistent/secret can not be read (ENOENT)',
  ]) {
    t.ok(seen.err.includes(line), line)
  }
  t.notMatch(seen.err, '12345')
})

t.test('the documented log levels, in any case', (t) => {
  for (const level of ['fatal', 'ERROR', 'Warning', 'information', 'debug', 'VERBOSE']) {
    const read = parseControllerEnv({ AEMBIT_TENANT_ID: 'acme', AEMBIT_LOG_LEVEL: level })
    t.match(read, { ok: { logLevel: level.toLowerCase() } }, level)
  }
  t.match(parseControllerEnv({ AEMBIT_TENANT_ID: 'acme', AEMBIT_METRICS_ENABLED: 'FALSE' }), {
    ok: { metrics: null },
  })
  t.end()
})

t.test('defaults and exclusions of the documented names', async (t) => {
  const dir = await tempDir(t)
  const plain = parseControllerEnv({ AEMBIT_TENANT_ID: 'acme', AEMBIT_LOG_LEVEL: 'WARNING' })
  t.same(plain, {
    ok: {
      tenantId: 'acme',
      controllerId: null,
      deviceCode: null,
      attestation: { source: 'auto', oidcToken: null, certificate: null, awsCredentials: null },
      tls: null,
      controlPlaneUrl: 'https://acme.ec.useast2.aembit.io',
      stateDir: '/var/lib/aembit_agent_controller',
      httpPort: 5000,
      metrics: { address: '127.0.0.1', port: 9090 },
      logLevel: 'warning',
      enrolmentSecret: null,
    },
  })
  const both = parseControllerEnv({
    AEMBIT_TENANT_ID: 'acme',
    AEMBIT_DEVICE_CODE: '123456',
    AEMBIT_AGENT_CONTROLLER_ID: '7a3f1c9e-0000-4000-8000-000000000001',
    AEMBIT_HTTP_PORT_DISABLED: 'true',
  })
  t.match(both, {
    problems: [
      { key: 'AEMBIT_DEVICE_CODE', message: /excludes AEMBIT_AGENT_CONTROLLER_ID/ },
      { key: 'AEMBIT_HTTP_PORT_DISABLED', message: /leaves no port at all/ },
    ],
  })
  const path = join(dir, 'secret')
  await writeFile(path, 'short\n')
  t.match(parseControllerEnv({ AEMBIT_TENANT_ID: 'a', AEMBIT_ENROLMENT_SECRET_PATH: path }), {
    problems: [{ message: /less than 16 characters/ }],
  })
  await writeFile(path, '0123456789abcdef\n')
  t.match(parseControllerEnv({ AEMBIT_TENANT_ID: 'a', AEMBIT_ENROLMENT_SECRET_PATH: path }), {
    ok: { enrolmentSecret: '0123456789abcdef' },
  })
})
