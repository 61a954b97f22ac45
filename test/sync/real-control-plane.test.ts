import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync } from 'node:fs'
import { readdir, readFile, rename, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { z } from 'zod'
import { createHttpClient } from '../../shared/http-client.ts'
import { credentialAnswerSchema, sealingKeysSchema } from '../../shared/wire/credential.ts'
import { snapshotSchema } from '../../shared/wire/snapshot.ts'
import { startTestController } from '../agent-controller/support.ts'
import { startTestSync } from './rig.ts'
import { sampleEvent, tempDir, until } from './support.ts'

const root = join(import.meta.dirname, '../..')

const yaml = (servers: readonly string[]): string => `
tenant: {id: acme}
gateway: {url: https://localhost:8443/mcp}
identityProviders: [{id: local, type: directory}]
clientWorkloads: [{id: agents, identities: [{type: oauthRedirectUri, value: "*"}]}]
trustProviders: [{id: people, identityProvider: local}]
serverWorkloads: [${servers.map((id) => `{id: ${id}, url: https://${id}.example/mcp}`).join(', ')}]
credentialProviders: [{id: key, type: apikey, header: {name: X-Key, value: {value: secret}}}]
accessPolicies:
  - {id: in, client: agents, server: gateway, trustProviders: [people]}
${servers.map((id) => `  - {id: to-${id}, server: ${id}, trustProviders: [people], credentialProvider: key}`).join('\n')}
`

const startControlPlane = async (t: Test, dir: string): Promise<ChildProcess> => {
  const child = spawn(process.execPath, [join(root, 'services/control-plane/main.ts')], {
    env: {
      AEMBIT_CONFIG_PATH: join(dir, 'control-plane.yaml'),
      AEMBIT_STATE_DIR: join(dir, 'plane'),
      AEMBIT_RUNTIME_DIR: dir,
    },
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  t.teardown(() => child.kill('SIGKILL'))
  let output = ''
  child.stdout.on('data', (chunk) => {
    output += chunk
  })
  child.stderr.on('data', (chunk) => {
    output += chunk
  })
  await until(
    () => output.includes('"event":"ready"') || child.exitCode !== null,
    'the control plane',
    15_000,
  )
  if (child.exitCode !== null) throw new Error(output)
  return child
}

t.test('controller and sync work with the control plane of this repository', async (t) => {
  const dir = await tempDir(t)
  await writeFile(join(dir, 'control-plane.yaml'), yaml(['docs']), { mode: 0o600 })
  const plane = await startControlPlane(t, dir)

  const codes = { unreachable: 'control_plane.unreachable', rejected: 'control_plane.rejected' } as const
  const admin = createHttpClient({ base: `unix:${dir}/public.sock`, ...codes })
  t.teardown(() => admin.close())
  const authorization = `Bearer ${(await readFile(join(dir, 'plane/admin-token'), 'utf8')).trim()}`
  const api = <T>(method: 'GET' | 'POST', path: string, schema: z.ZodType<T>, body?: unknown): Promise<T> =>
    admin.json({ method, path, headers: { authorization }, body }, schema)
  const { externalId } = await api(
    'POST',
    '/api/v1/agent-controllers',
    z.object({ externalId: z.string() }),
    { name: 'test' },
  )
  const code = await api(
    'POST',
    `/api/v1/agent-controllers/${externalId}/device-code`,
    z.object({ device_code: z.string() }),
  )

  const { controller } = await startTestController(t, dir, { deviceCode: code.device_code })
  await until(() => controller.registrar.health === 'Healthy', 'a registered controller')
  t.equal(controller.registrar.controllerId, externalId)

  const run = await startTestSync(t, dir, controller.port)
  const first = await until(() => run.snapshots[0], 'a snapshot')
  const servers = async (path: string) =>
    snapshotSchema.parse(JSON.parse(await readFile(path, 'utf8'))).servers.map(({ id }) => id)
  t.same(await servers(first.ref.path), ['docs'])
  t.ok((await run.http.json({ path: '/v1/keys' }, sealingKeysSchema)).keys.length > 0)

  const asked = { issuer: 'https://localhost:8443', subject: 'ann@x.test', clientId: 'c', serverId: 'docs' }
  const answer = await run.http.json(
    { method: 'POST', path: '/v1/credentials', body: asked },
    credentialAnswerSchema,
  )
  t.equal(answer.kind, 'denied', 'nobody of this name ever signed in')

  await until(() => run.stats.control_plane === 'connected', 'the stream')
  await writeFile(join(dir, 'control-plane.yaml'), yaml(['docs', 'crm']), { mode: 0o600 })
  plane.kill('SIGHUP')
  const second = await until(() => run.snapshots[1], 'the pushed change')
  t.ok(second.ref.version > first.ref.version)
  t.same(await servers(second.ref.path), ['docs', 'crm'])

  const events = [sampleEvent(), sampleEvent()]
  const seal = async (name: string): Promise<void> => {
    const path = join(dir, 'state/spool', name)
    await writeFile(`${path}.open`, events.map((event) => `${JSON.stringify(event)}\n`).join(''))
    await rename(`${path}.open`, `${path}.ready`)
  }
  const stored = async () =>
    (
      await api(
        'GET',
        '/api/v1/workload-events?per-page=10',
        z.object({ recordsTotal: z.number(), entities: z.array(z.unknown()) }),
      )
    ).recordsTotal
  await seal('0-1-0')
  await until(async () => (await stored()) === 2, 'the events')

  plane.kill('SIGKILL')
  await once(plane, 'exit')
  await seal('0-1-1')
  await until(() => run.stats.control_plane === 'away', 'the loss')
  t.ok(existsSync(join(dir, 'state/spool/0-1-1.ready')))
  await startControlPlane(t, dir)
  await until(() => run.stats.control_plane === 'connected', 'the stream')
  await until(async () => (await readdir(join(dir, 'state/spool'))).length === 0, 'the spool')
  t.equal(await stored(), 2, 'repeated events are stored once')
  t.equal(run.snapshots.length, 2, 'the same policy is not published again')
})
