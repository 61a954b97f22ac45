import { type ChildProcess, spawn } from 'node:child_process'
import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { Test } from 'tap'
import { z } from 'zod'
import { createHttpClient } from '../../shared/http-client.ts'
import { startTestController } from '../agent-controller/support.ts'
import { until } from './support.ts'

const root = join(import.meta.dirname, '../..')

export const yaml = (servers: readonly string[]): string => `
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

export const startControlPlane = async (t: Test, dir: string): Promise<ChildProcess> => {
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

export interface RealPlane {
  readonly plane: ChildProcess
  readonly controllerId: string
  /** Its registered agent controller. */
  readonly controller: Awaited<ReturnType<typeof startTestController>>['controller']
  api<T>(method: 'GET' | 'POST', path: string, schema: z.ZodType<T>, body?: unknown): Promise<T>
}

/** The control plane of this repository as a process, and an agent controller registered at it. */
export async function startRealPlane(t: Test, dir: string): Promise<RealPlane> {
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
  return { plane, controllerId: externalId, controller, api }
}
