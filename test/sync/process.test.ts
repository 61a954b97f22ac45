import { type ChildProcess, fork } from 'node:child_process'
import { once } from 'node:events'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { createHttpClient } from '../../shared/http-client.ts'
import { type Report, reportSchemas } from '../../shared/ipc/contract.ts'
import { sealingKeysSchema } from '../../shared/wire/credential.ts'
import { sampleSnapshot } from './fake-control-plane.ts'
import { type Rig, startRig } from './rig.ts'
import { until } from './support.ts'

const main = join(import.meta.dirname, '../../services/sync/main.ts')

interface Forked {
  readonly child: ChildProcess
  readonly reports: Report<'sync'>[]
  readonly exit: Promise<unknown[]>
  of<T extends Report<'sync'>['type']>(type: T): Extract<Report<'sync'>, { type: T }>[]
}

const forkSync = (t: Test, { dir, controller, spoolDir }: Rig): Forked => {
  const child = fork(main, { stdio: ['ignore', 'pipe', 'pipe', 'ipc'], env: {} })
  t.teardown(() => child.kill('SIGKILL'))
  const reports: Report<'sync'>[] = []
  child.on('message', (raw) => reports.push(reportSchemas.sync.parse(raw)))
  let output = ''
  child.stdout?.on('data', (chunk) => {
    output += chunk
  })
  child.stderr?.on('data', (chunk) => {
    output += chunk
  })
  const exit = once(child, 'exit')
  void exit.then(([code]) => code === 0 || code === null || t.comment(output))
  const config = {
    logLevel: 'info',
    version: '1.2.3',
    gatewayUrl: 'https://localhost:8443/mcp',
    agentControllerUrl: `http://127.0.0.1:${controller.port}`,
    controlPlaneUrl: `unix:${dir}/machine.sock`,
    enrolmentSecretPath: null,
    stateDir: `${dir}/state`,
    socketPath: `${dir}/sync.sock`,
    spoolDir,
    spoolMaxBytes: 1 << 20,
    snapshotMaxAgeMs: 3_600_000,
  }
  child.send({ type: 'configure', epoch: 1, config })
  const of: Forked['of'] = (type) =>
    reports.filter((report): report is Extract<Report<'sync'>, { type: typeof type }> => report.type === type)
  return { child, reports, exit, of }
}

const running = ({ of }: Forked): boolean =>
  ['sync.socket', 'sync.enrolment', 'sync.snapshot'].every(
    (name) => of('check').findLast(({ check }) => check === name)?.status === 'running',
  )

t.test('as the supervisor runs it: hello, configure, checks; kill -9 and again; drain', async (t) => {
  const rig = await startRig(t)
  const first = forkSync(t, rig)
  await until(() => running(first), 'all checks')
  t.match(first.reports[0], { type: 'hello', protocol: 1, role: 'sync' })
  t.match(first.of('applied'), [{ epoch: 1 }])
  t.match(first.of('snapshot'), [{ ref: { version: 1 } }])
  await rig.plane.publish(sampleSnapshot(2))
  await until(() => first.of('snapshot').length === 2, 'the pushed snapshot')

  const http = createHttpClient({
    base: `unix:${rig.dir}/sync.sock`,
    unreachable: 'control_plane.unreachable',
    rejected: 'control_plane.rejected',
  })
  t.teardown(() => http.close())
  const keys = () => http.json({ path: '/v1/keys' }, sealingKeysSchema)
  t.same(await keys(), rig.plane.keys)

  first.child.kill('SIGKILL')
  await first.exit
  await t.rejects(keys(), { code: 'control_plane.unreachable' })
  await writeFile(join(rig.spoolDir, '0-1-0.open'), '')
  const second = forkSync(t, rig)
  await until(() => running(second), 'all checks')
  t.equal(second.of('snapshot')[0]?.ref.version, 2, 'last-good first')
  t.same(await keys(), rig.plane.keys, 'over the socket file that the dead one left')

  second.child.send({ type: 'drain', deadlineMs: 2_000 })
  const [code] = await second.exit
  t.equal(code, 0)
  t.match(second.of('drained'), [{ left: 0 }])
})

t.test('a successor takes the socket over while its predecessor still lives; each ends alone', async (t) => {
  const rig = await startRig(t)
  const old = forkSync(t, rig)
  await until(() => running(old), 'all checks')
  const young = forkSync(t, rig)
  await until(() => running(young), 'all checks')
  old.child.disconnect()
  t.same((await old.exit)[0], 0, 'a lost supervisor ends it')
  const http = createHttpClient({
    base: `unix:${rig.dir}/sync.sock`,
    unreachable: 'control_plane.unreachable',
    rejected: 'control_plane.rejected',
  })
  t.teardown(() => http.close())
  t.same(await http.json({ path: '/v1/keys' }, sealingKeysSchema), rig.plane.keys)
  young.child.kill('SIGTERM')
  t.same((await young.exit)[0], 0)
})
