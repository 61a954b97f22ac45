import { execFile } from 'node:child_process'
import { randomUUID } from 'node:crypto'
import { existsSync } from 'node:fs'
import { readdir, readFile, rename, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { fileURLToPath } from 'node:url'
import t, { type Test } from 'tap'
import { z } from 'zod'
import { chained } from '../../services/proxy/record-chain.ts'
import type { TrailReport } from '../../shared/wire/event-chain.ts'
import { proves } from '../requirements.ts'
import { startRealPlane } from './real-plane.ts'
import { startTestSync } from './rig.ts'
import { sampleEvent, tempDir, until } from './support.ts'

const script = fileURLToPath(new URL('../../services/supervisor/cli.ts', import.meta.url))

/** One worker's life: its events, chained as proxy does it, in a sealed segment. */
async function write(dir: string, name: string, count: number, id = randomUUID()): Promise<string> {
  const lines: string[] = []
  const append = chained(id, (line) => lines.push(line) > 0)
  for (let n = 0; n < count; n++) append(JSON.stringify(sampleEvent()))
  await seal(dir, name, lines)
  return id
}

async function seal(dir: string, name: string, lines: readonly string[]): Promise<void> {
  const path = join(dir, 'state/spool', name)
  await writeFile(`${path}.open`, `${lines.join('\n')}\n`)
  await rename(`${path}.open`, `${path}.ready`)
  await until(() => !existsSync(`${path}.ready`), 'the upload')
}

/** The command as an operator runs it, beside the socket of this sync. */
const auditVerify = (dir: string, ...args: string[]): Promise<{ code: number; out: string; err: string }> =>
  new Promise((resolve) => {
    const all = [script, 'audit', 'verify', '--socket', join(dir, 'operator.sock'), ...args]
    execFile(process.execPath, all, { env: {} }, (error, out, err) =>
      resolve({ code: error ? Number(error.code) : 0, out, err }),
    )
  })

async function start(t: Test) {
  const dir = await tempDir(t)
  const { plane, controller } = await startRealPlane(t, dir)
  const run = await startTestSync(t, dir, controller.port)
  await until(() => run.stats.control_plane === 'connected', 'the stream')
  const name = (await readdir(join(dir, 'plane'))).find((file) => /\.(db|sqlite)$/.test(file))
  const db = new DatabaseSync(join(dir, 'plane', name ?? ''))
  t.teardown(() => db.close())
  const report = (): Promise<TrailReport> => run.http.json({ path: '/v1/audit' }, z.custom<TrailReport>())
  return { dir, plane, run, db, report }
}

t.test('audit verify: a whole trail, and everything that can be done to it', async (t) => {
  proves(t, 'EVENT-09')
  const { dir, db, report, run } = await start(t)
  const long = await write(dir, '0-1-1', 1_203)
  const short = await write(dir, '1-1-1', 3)
  const whole = await auditVerify(dir)
  t.equal(whole.code, 0, whole.err)
  t.match(
    whole.out,
    /^audit trail WHOLE: 1206 events in 2 chains are stored as they were written, none is missing\n$/,
  )

  const body = (seq: number): string =>
    String(
      db.prepare('SELECT body FROM workload_event WHERE chain_id = ? AND chain_seq = ?').get(long, seq)?.body,
    )
  const put = db.prepare('UPDATE workload_event SET body = ? WHERE chain_id = ? AND chain_seq = ?')
  /** Does something to the database, looks, and takes it back. */
  const after = async (harm: () => void): Promise<TrailReport> => {
    db.exec('CREATE TABLE kept AS SELECT * FROM workload_event')
    harm()
    const found = await report()
    db.exec('DELETE FROM workload_event; INSERT INTO workload_event SELECT * FROM kept; DROP TABLE kept')
    return found
  }

  const cut = await after(() =>
    db.prepare('DELETE FROM workload_event WHERE chain_id = ? AND chain_seq BETWEEN 499 AND 501').run(long),
  )
  t.match(cut, {
    complete: false,
    problems: [`chain ${long}: events 499 to 501 are missing`],
    problemCount: 1,
  })

  const changed = await after(() => put.run(body(600).replace('tools/call', 'tools/list'), long, 600))
  t.match(changed.problems, [
    /event 600 \([0-9a-f-]{36} of [^)]+\) is not as it was written, or event 601 .* do not fit/,
  ])

  const swapped = await after(() => {
    const [a, b] = [body(700), body(701)]
    put.run(b, long, 700)
    put.run(a, long, 701)
  })
  t.notOk(swapped.complete)
  t.ok(
    swapped.problems.some((text) => text.includes('the order was changed')),
    swapped.problems.join('\n'),
  )

  const tail = await after(() =>
    db.prepare('DELETE FROM workload_event WHERE chain_id = ? AND chain_seq > 1200').run(long),
  )
  t.same(tail.problems, [`chain ${long}: events 1201 to 1203 are missing`])

  const gone = await after(() => db.prepare('DELETE FROM workload_event WHERE chain_id = ?').run(short))
  t.same(gone.problems, [`chain ${short}: events 1 to 3 are missing`])

  // Whoever rewrites everything that follows can not rewrite what the gateway remembers.
  const rewritten = await after(() => {
    const events = Array.from({ length: 3 }, () => sampleEvent())
    let at = 0
    const append = chained(short, (line) => Boolean(put.run(line, short, ++at)))
    for (const event of events) append(JSON.stringify(event))
  })
  t.match(rewritten.problems, [/event 3 .* is not as this gateway sent it/])
  const foreign = await after(() => put.run(body(1), short, 1))
  t.notOk(foreign.complete)

  const text = await (async () => {
    db.prepare('DELETE FROM workload_event WHERE chain_id = ? AND chain_seq = 2').run(short)
    return auditVerify(dir)
  })()
  t.equal(text.code, 1)
  t.match(
    text.out,
    `audit trail NOT WHOLE: 1 problems; 1205 events in 2 chains were read\n  ! chain ${short}: event 2 is missing`,
  )
  t.match(text.out, /keep a copy of it before anything else/)

  // A segment that goes twice, and heads that are lost with the disk.
  await seal(dir, '2-1-1', [body(1203)])
  t.equal((await report()).problemCount, 1)
  await writeFile(join(dir, 'state/event-heads.json'), '{broken')
  const lost = JSON.parse((await auditVerify(dir, '--json')).out) as TrailReport
  t.match(lost.notes, [/2 chains are not known here.* can not be proven/])
  await run.stop()
  t.match(await auditVerify(dir), { code: 3, err: /no gateway runs on/ })
})

t.test('what retention deleted is not missing; what is gone beyond it is', async (t) => {
  proves(t, 'EVENT-09')
  const { dir, plane, db, report } = await start(t)
  await write(dir, '0-1-1', 1_300)
  const yaml = await readFile(join(dir, 'control-plane.yaml'), 'utf8')
  await writeFile(join(dir, 'control-plane.yaml'), `${yaml}\nevents: {maxEvents: 1000}\n`, { mode: 0o600 })
  plane.kill('SIGHUP')
  const rows = (): number => Number(db.prepare('SELECT count(*) AS n FROM workload_event').get()?.n)
  // A sweep comes with each thousand events.
  await write(dir, '1-1-1', 1_000)
  await until(() => rows() <= 1_000, 'the sweep')
  const whole = await report()
  t.match(whole, { complete: true, problems: [] })
  t.ok(whole.swept >= 1_300)
  db.prepare('DELETE FROM workload_event WHERE chain_seq = 1000').run()
  t.match((await report()).problems, [/event 1000 is missing/])
})
