import { appendFile, readdir, readFile, rename, stat, truncate, utimes, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import t from 'tap'
import type { WorkloadEvent } from '../../shared/wire/event.ts'
import { proves } from '../requirements.ts'
import { startRig } from './rig.ts'
import { sampleEvent as event, until } from './support.ts'

const lines = (events: readonly unknown[]): string => events.map((one) => `${JSON.stringify(one)}\n`).join('')
const order = (events: readonly WorkloadEvent[]): string[] => events.map(({ meta }) => meta.eventId)

/** Written and sealed as proxy does it. */
const seal = async (dir: string, name: string, content: string): Promise<void> => {
  await writeFile(join(dir, `${name}.open`), content)
  await rename(join(dir, `${name}.open`), join(dir, `${name}.ready`))
}
/** As if it had been written so many seconds ago. */
const age = (dir: string, name: string, secs: number) =>
  utimes(join(dir, name), Date.now() / 1000 - secs, Date.now() / 1000 - secs)

t.test('sealed segments are shipped once, in order, in batches of at most 1,000, and deleted', async (t) => {
  proves(t, 'SYNC-06')
  const { plane, sync, spoolDir } = await startRig(t)
  const big = Array.from({ length: 2_300 }, event)
  await seal(spoolDir, '0-1-9', lines(big.slice(0, 1_150)))
  await age(spoolDir, '0-1-9.ready', 20)
  await seal(spoolDir, '0-1-10', lines(big.slice(1_150)))
  await age(spoolDir, '0-1-10.ready', 20)
  // The folder is looked at once: what is sealed later has to be noticed.
  const run = await sync({ config: { spoolMaxBytes: 64 << 20 }, scanEveryMs: 600_000 })
  await until(() => plane.events.length === big.length, 'the backlog')
  t.same(order(plane.events), order(big))
  t.ok(plane.batches.every((batch) => batch.length <= 1_000))
  await until(async () => (await readdir(spoolDir)).length === 0, 'an empty spool')

  const later = [event(), event()]
  await seal(spoolDir, '0-1-11', lines(later))
  await until(() => plane.events.length === big.length + 2, 'the sealed segment')
  await until(async () => (await readdir(spoolDir)).length === 0, 'an empty spool')
  t.equal(plane.duplicates, 0)
  await until(() => run.stats.events_shipped === big.length + 2, 'the figure')
})

t.test('control plane down and up again: everything arrives, in order', async (t) => {
  proves(t, 'SYNC-07')
  const { plane, sync, spoolDir } = await startRig(t)
  const run = await sync()
  await until(() => plane.streams === 1, 'the stream')
  await plane.down()
  const all: WorkloadEvent[] = []
  for (let seq = 0; seq < 12; seq++) {
    const some = [event(), event(), event()]
    all.push(...some)
    await seal(spoolDir, `0-1-${seq}`, lines(some))
    await age(spoolDir, `0-1-${seq}.ready`, 100 - seq)
  }
  await until(() => Number(run.stats.spool_segments) > 0 && Number(run.stats.spool_lag_secs) >= 88, 'the lag')
  t.equal((await readdir(spoolDir)).length, 12)
  await plane.up()
  await until(() => plane.events.length === all.length, 'all of it')
  t.same(order(plane.events), order(all))
  await until(async () => (await readdir(spoolDir)).length === 0, 'an empty spool')
})

t.test('an upload that hangs does not hold up the end, which tries once more', async (t) => {
  proves(t, 'SYNC-10')
  const { plane, sync, spoolDir } = await startRig(t)
  const run = await sync()
  await until(() => plane.streams === 1, 'the stream')
  const released = Promise.withResolvers<void>()
  t.teardown(() => released.resolve())
  let asked = 0
  plane.before = async (path) => {
    if (path.endsWith('/events') && ++asked === 1) await released.promise
  }
  await seal(spoolDir, '0-1-0', lines([event()]))
  await until(() => asked === 1, 'an upload that hangs')
  const began = performance.now()
  t.equal(await run.stop(), 0, 'nothing is left in the spool')
  t.ok(performance.now() - began < 5_000)
  t.equal(plane.events.length, 1)
})

t.test('a crash between shipping and deleting repeats events, which harms nothing', async (t) => {
  const { plane, sync, spoolDir } = await startRig(t)
  const some = [event(), event()]
  await seal(spoolDir, '0-1-0', lines(some))
  const run = await sync()
  await until(() => plane.events.length === 2, 'the events')
  await run.stop()
  await seal(spoolDir, '0-1-0', lines(some))
  await sync()
  await until(() => plane.duplicates === 2, 'the repetition')
  t.equal(plane.events.length, 2)
  await until(async () => (await readdir(spoolDir)).length === 0, 'an empty spool')
})

t.test(
  'segments of a proxy that was killed are adopted; one that is being written is not touched',
  async (t) => {
    const { plane, sync, spoolDir } = await startRig(t)
    const [whole, living] = [event(), event()]
    const half = JSON.stringify(event()).slice(0, 200)
    await writeFile(join(spoolDir, '0-1-4.open'), `${lines([whole])}${half}`)
    await age(spoolDir, '0-1-4.open', 60)
    await writeFile(join(spoolDir, '0-2-0.open'), lines([living]))
    await writeFile(join(spoolDir, '0-2-1.open'), '')
    await age(spoolDir, '0-2-1.open', 60)
    await writeFile(join(spoolDir, '0-0-1.open'), '')
    await age(spoolDir, '0-0-1.open', 4_000)
    const run = await sync({ adoptAfterMs: 30_000 })
    await until(() => plane.events.length === 1, 'the whole event')
    t.same(order(plane.events), order([whole]))
    await until(async () => (await readdir(spoolDir)).includes('0-1-4.bad'), 'the half line')
    t.equal(await readFile(join(spoolDir, '0-1-4.bad'), 'utf8'), `${half}\n`)
    t.same((await readdir(spoolDir)).sort(), ['0-1-4.bad', '0-2-0.open', '0-2-1.open'])
    await appendFile(join(spoolDir, '0-2-0.open'), lines([event()]))
    await rename(join(spoolDir, '0-2-0.open'), join(spoolDir, '0-2-0.ready'))
    await until(() => plane.events.length === 3, 'the living one, sealed')
    t.ok(run.lines.some(({ msg }) => String(msg).includes('a proxy that died')))
  },
)

t.test('lines that are no events are set aside, told, and hold nothing up', async (t) => {
  const { plane, sync, spoolDir } = await startRig(t)
  const good = [event(), event()]
  const bad = ['not json', '{"version":"1.0.0"}', `"${'x'.repeat(70_000)}"`]
  await seal(spoolDir, '0-1-0', [JSON.stringify(good[0]), ...bad, '', JSON.stringify(good[1]), ''].join('\n'))
  const run = await sync()
  await until(() => plane.events.length === 2, 'the good ones')
  await until(async () => (await readdir(spoolDir)).join() === '0-1-0.bad', 'the rest')
  const kept = (await readFile(join(spoolDir, '0-1-0.bad'), 'utf8')).trim().split('\n')
  t.same(
    kept.map((line) => line.slice(0, 100)),
    bad.map((line) => line.slice(0, 100)),
  )
  t.match(
    run.lines.find(({ segment }) => segment === '0-1-0.ready'),
    { level: 50, lines: 3 },
  )
  await until(() => run.stats.events_quarantined === 3, 'the figure')
  t.equal((await stat(join(spoolDir, '0-1-0.bad'))).mode & 0o777, 0o600)
})

t.test('an event that the control plane refuses is found and set aside, the others arrive', async (t) => {
  const { plane, sync, spoolDir } = await startRig(t)
  const all = Array.from({ length: 40 }, event)
  const poison = all[17]?.meta.eventId
  plane.refuseEvent = ({ meta }) => meta.eventId === poison
  await seal(spoolDir, '0-1-0', lines(all))
  await sync()
  await until(() => plane.events.length === 39, 'the others')
  t.same(order(plane.events), order(all).toSpliced(17, 1))
  await until(async () => (await readdir(spoolDir)).join() === '0-1-0.bad', 'the poison')
  t.equal(JSON.parse(await readFile(join(spoolDir, '0-1-0.bad'), 'utf8')).meta.eventId, poison)
})

t.test('a full spool gives up its oldest, loudly and counted; what is being written stays', async (t) => {
  proves(t, 'SYNC-08')
  const { plane, sync, spoolDir } = await startRig(t)
  await plane.down()
  const segments = Array.from({ length: 6 }, () => Array.from({ length: 10 }, event))
  const size = lines(segments[0] ?? []).length
  for (const [seq, events] of segments.entries()) {
    await seal(spoolDir, `0-1-${seq}`, lines(events))
    await age(spoolDir, `0-1-${seq}.ready`, 100 - seq)
  }
  await writeFile(join(spoolDir, '0-0-0.open'), lines([event()]))
  const run = await sync({ config: { spoolMaxBytes: Math.floor(size * 4.5) }, adoptAfterMs: 60_000 })
  await until(() => run.stats.events_dropped === 20, 'the figure')
  t.same((await readdir(spoolDir)).sort(), ['0-0-0.open', ...[2, 3, 4, 5].map((seq) => `0-1-${seq}.ready`)])
  const line = await until(
    () => run.lines.find(({ msg }) => String(msg).startsWith('EVENTS LOST')),
    'the log',
  )
  t.match(line, { level: 50, files: 2, events: 20 })
  await plane.up()
  await until(() => plane.events.length === 40, 'the rest')
  t.same(order(plane.events), order(segments.slice(2).flat()))
})

t.test('what was sealed just before the stop is shipped by the drain', async (t) => {
  const { plane, sync, spoolDir } = await startRig(t)
  const run = await sync()
  await until(() => plane.streams === 1, 'the stream')
  await seal(spoolDir, '0-1-0', lines([event()]))
  t.equal(await run.stop(), 0)
  t.equal(plane.events.length, 1)
})

t.test('a segment far too large for one of proxy is set aside whole, without reading it', async (t) => {
  const { plane, sync, spoolDir } = await startRig(t)
  await seal(spoolDir, '0-1-0', lines([event()]))
  await truncate(join(spoolDir, '0-1-0.ready'), 17 << 20)
  await age(spoolDir, '0-1-0.ready', 20)
  await seal(spoolDir, '0-1-1', lines([event()]))
  await sync({ config: { spoolMaxBytes: 64 << 20 } })
  await until(() => plane.events.length === 1, 'the one behind it')
  await until(async () => (await readdir(spoolDir)).join() === '0-1-0.bad', 'the large one aside')
})

t.test('other files in the folder are left alone', async (t) => {
  const { sync, spoolDir } = await startRig(t)
  await writeFile(join(spoolDir, 'README'), 'x')
  await writeFile(join(spoolDir, '0-1-0.ready'), lines([event()]))
  await sync()
  await until(async () => !(await readdir(spoolDir)).includes('0-1-0.ready'), 'the segment')
  t.same(await readdir(spoolDir), ['README'])
})
