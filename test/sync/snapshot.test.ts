import { createHash } from 'node:crypto'
import { readdir, readFile, stat, writeFile } from 'node:fs/promises'
import t from 'tap'
import { proves } from '../requirements.ts'
import { ManualClock } from '../rig/manual-clock.ts'
import { makeSigner, sampleSnapshot, sign } from './fake-control-plane.ts'
import { startRig } from './rig.ts'
import { until } from './support.ts'

const fetches = 'GET /gateway/v1/snapshot'

t.test(
  'a verified snapshot becomes a pointer to a private file; a change follows within a moment',
  async (t) => {
    proves(t, 'SYNC-01')
    const { plane, sync } = await startRig(t)
    const run = await sync()
    const first = await until(() => run.snapshots[0], 'the first snapshot')
    const bytes = await readFile(first.ref.path)
    t.equal(createHash('sha256').update(bytes).digest('hex'), first.ref.sha256)
    t.same(JSON.parse(bytes.toString()), sampleSnapshot(1))
    t.equal((await stat(first.ref.path)).mode & 0o777, 0o600)
    t.ok(Math.abs(first.confirmedAt - Date.now()) < 5_000)

    await until(() => plane.streams === 1, 'the stream')
    await plane.publish(sampleSnapshot(2))
    const second = await until(() => run.snapshots[1], 'the pushed snapshot')
    t.equal(second.ref.version, 2)
    t.same(await readFile(first.ref.path), bytes, 'the file of the former pointer is still as it was')
    for (const version of [3, 4]) {
      await plane.publish(sampleSnapshot(version))
      await until(() => run.snapshots.some(({ ref }) => ref.version === version), `version ${version}`)
    }
    const files = (await readdir(run.config.stateDir)).filter((name) => /^snapshot-\d/.test(name))
    t.equal(files.length, 2, 'older ones are cleared away')
    for (const name of ['sync.socket', 'sync.enrolment', 'sync.snapshot']) {
      t.equal(run.checks.get(name)?.status, 'running', name)
    }
  },
)

t.test('ETag: an unchanged snapshot is confirmed, not fetched, and nothing is published again', async (t) => {
  proves(t, 'SYNC-02')
  const { plane, sync } = await startRig(t)
  const run = await sync()
  await until(() => plane.streams === 1, 'the stream')
  t.equal(plane.notModified, 0)
  plane.dropStreams()
  await until(() => plane.notModified === 1, 'a 304')
  t.equal(run.snapshots.length, 1)
  await run.stop()
  const second = await sync()
  await until(() => plane.notModified === 2, 'a 304 after the restart')
  await until(() => second.confirmed.length > 0, 'its confirmation')
  t.equal(second.snapshots.length, 1, 'the last-good one alone')
})

t.test('heartbeats of our version confirm; those of another have it fetched', async (t) => {
  const { plane, sync } = await startRig(t)
  const clock = new ManualClock(Date.now())
  plane.now = () => clock.now()
  const run = await sync({ clock })
  await until(() => plane.streams === 1, 'the stream')
  clock.advance(10_000)
  plane.heartbeat()
  const told = await until(() => run.confirmed.at(-1), 'a confirmation')
  t.same({ version: told.version, confirmedAt: told.confirmedAt }, { version: 1, confirmedAt: clock.now() })
  plane.heartbeat()
  plane.heartbeat()
  await plane.publish(sampleSnapshot(2))
  await until(() => run.snapshots.length === 2, 'the second version')
  t.equal(run.confirmed.length, 1, 'not at every heartbeat')

  const asked = plane.count(fetches)
  const late = new Date(clock.now() - 120_000).toISOString()
  plane.push('heartbeat', { version: 2, time: late })
  await until(() => plane.count(fetches) === asked + 1, 'a fetch because the heartbeat was late')
})

t.test('control plane away: last-good is served, and is not confirmed meanwhile', async (t) => {
  proves(t, 'SYNC-05')
  const { plane, sync } = await startRig(t)
  const first = await sync()
  await until(() => plane.streams === 1, 'the stream')
  await first.stop()
  const confirmedAt = Math.max(...first.snapshots.map((seen) => seen.confirmedAt))
  await plane.down()

  const clock = new ManualClock(Date.now() + 60_000)
  const second = await sync({ clock, config: { snapshotMaxAgeMs: 600_000 } })
  t.match(second.snapshots, [{ ref: { version: 1 }, confirmedAt }], 'with the time of then')
  await until(() => second.checks.get('sync.enrolment')?.fault, 'the failed enrolment')
  t.equal(second.checks.get('sync.enrolment')?.status, 'running', 'ready on last-good policy')
  t.equal(second.checks.get('sync.snapshot')?.status, 'running')
  clock.advance(600_000)
  await until(() => second.checks.get('sync.snapshot')?.status === 'failing', 'the age limit')
  t.match(second.checks.get('sync.snapshot')?.fault, { code: 'snapshot.stale' })
  t.equal(second.checks.get('sync.enrolment')?.status, 'failing')
  t.same(second.confirmed, [])

  await plane.up()
  await until(() => {
    clock.advance(1_000)
    return second.confirmed.length > 0
  }, 'confirmation once it is back')
  t.equal(second.checks.get('sync.snapshot')?.status, 'running')
})

t.test('what is not signed by the pinned key is refused and the old one stays', async (t) => {
  proves(t, 'SYNC-03')
  const { plane, sync } = await startRig(t)
  const run = await sync()
  await until(() => plane.streams === 1, 'the stream')
  const signer = plane.signers[0]
  if (!signer) throw new Error('no signer')
  const good = await sign(signer, sampleSnapshot(2))
  const [header, payload, signature] = good.split('.')
  const forged = Buffer.from(JSON.stringify(sampleSnapshot(2, { resourceSetId: 'x' }))).toString('base64url')
  const none = Buffer.from(JSON.stringify({ alg: 'none', kid: 's1' })).toString('base64url')
  const cases: Record<string, string> = {
    'changed payload': `${header}.${forged}.${signature}`,
    'alg none': `${none}.${payload}.`,
    'unknown kid': await sign(await makeSigner('s2'), sampleSnapshot(2)),
    'pinned kid, another key': await sign(await makeSigner('s1'), sampleSnapshot(2)),
    'pinned key, another kid': await sign({ ...signer, kid: 's7' }, sampleSnapshot(2)),
    'another tenant': await sign(signer, sampleSnapshot(2, { tenantId: 'other' })),
    'another format': await sign(signer, { ...sampleSnapshot(2), format: 2 }),
    garbage: 'garbage',
  }
  for (const [name, jws] of Object.entries(cases)) {
    const seen = run.lines.filter(({ code }) => code === 'snapshot.refused').length
    plane.serve(jws, 2)
    await until(() => run.lines.filter(({ code }) => code === 'snapshot.refused').length > seen, name)
    t.equal(run.snapshots.length, 1, name)
  }
  await until(
    () => run.checks.get('sync.snapshot')?.fault?.code === 'snapshot.refused',
    'told to the operator',
  )
  t.equal(run.checks.get('sync.snapshot')?.status, 'running', 'serving goes on')
  plane.serve(good, 2)
  await until(() => run.snapshots.length === 2, 'the good one')
  await until(() => run.checks.get('sync.snapshot')?.fault === undefined, 'all is well')
})

t.test('an older version is refused, also after a restart', async (t) => {
  proves(t, 'SYNC-04')
  const { plane, sync } = await startRig(t)
  await plane.publish(sampleSnapshot(5))
  const run = await sync()
  await until(() => plane.streams === 1, 'the stream')
  await plane.publish(sampleSnapshot(4))
  const line = await until(() => run.lines.find(({ code }) => code === 'snapshot.refused'), 'the refusal')
  t.match(line.detail, /version 4 is older than 5/)
  await run.stop()
  const again = await sync()
  await until(() => again.lines.some(({ code }) => code === 'snapshot.refused'), 'the refusal')
  t.same(
    again.snapshots.map(({ ref }) => ref.version),
    [5],
  )
  t.same(again.confirmed, [], 'and nothing confirms the old one')
})

t.test(
  'a rotated key is followed, without a way back; a control plane set up anew starts again',
  async (t) => {
    const { plane, sync } = await startRig(t)
    await plane.publish(sampleSnapshot(5))
    const first = await sync()
    await until(() => first.snapshots.length === 1, 'version 5')
    await first.stop()

    const old = plane.signers[0]
    const next = await makeSigner('s2')
    if (!old) throw new Error('no signer')
    plane.signers = [next, old]
    await plane.publish(sampleSnapshot(4))
    const second = await sync()
    await until(
      () => second.lines.some(({ code }) => code === 'snapshot.refused'),
      'no way back in a rotation',
    )
    await plane.publish(sampleSnapshot(6))
    await until(() => second.snapshots.at(-1)?.ref.version === 6, 'version 6 under the new key')
    await second.stop()

    plane.signers = [await makeSigner('s9')]
    await plane.publish(sampleSnapshot(1))
    const third = await sync()
    await until(() => third.snapshots.at(-1)?.ref.version === 1, 'version 1 of the new control plane')
  },
)

t.test('a last-good snapshot that was tampered with on disk is not served', async (t) => {
  const { plane, sync } = await startRig(t)
  const first = await sync()
  await until(() => first.snapshots.length === 1, 'a snapshot')
  await first.stop()
  await plane.down()
  const path = `${first.config.stateDir}/snapshot.jws`
  const [header, , signature] = (await readFile(path, 'utf8')).split('.')
  const forged = Buffer.from(JSON.stringify(sampleSnapshot(9))).toString('base64url')
  await writeFile(path, `${header}.${forged}.${signature}`)
  const second = await sync()
  t.same(second.snapshots, [])
  await until(() => second.checks.get('sync.snapshot')?.status === 'failing', 'no policy')
})

t.test('without the stream, fetching goes on', async (t) => {
  const { plane, sync } = await startRig(t)
  plane.broken.add('/gateway/v1/stream')
  const run = await sync()
  await until(() => run.snapshots.length === 1, 'a snapshot')
  await plane.publish(sampleSnapshot(2))
  await until(() => run.snapshots.length === 2, 'the next one by polling')
})
