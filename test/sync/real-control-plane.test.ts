import { once } from 'node:events'
import { existsSync } from 'node:fs'
import { readdir, readFile, rename, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import t from 'tap'
import { z } from 'zod'
import { credentialAnswerSchema, sealingKeysSchema } from '../../shared/wire/credential.ts'
import { snapshotSchema } from '../../shared/wire/snapshot.ts'
import { startControlPlane, startRealPlane, yaml } from './real-plane.ts'
import { startTestSync } from './rig.ts'
import { sampleEvent, tempDir, until } from './support.ts'

t.test('controller and sync work with the control plane of this repository', async (t) => {
  const dir = await tempDir(t)
  const { plane, controller, controllerId, api } = await startRealPlane(t, dir)
  t.equal(controller.registrar.controllerId, controllerId)

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
