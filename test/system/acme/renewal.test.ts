import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { cpSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { loadAcme } from '../../../services/front/acme/client.ts'
import { AcmeStore } from '../../../services/front/acme/store.ts'
import { day, scene } from './scene.ts'

t.test('renews around two thirds of the life, once', async (t) => {
  const { open, clock, served, issued, idle } = await scene(t)
  const source = await open()
  await issued(1)
  const life = Date.parse(source.tls.leaf.validTo) - clock.now()
  clock.advance(life * 0.62)
  await idle()
  t.equal(served.length, 1, 'not before')
  clock.advance(life * 0.1)
  await issued(2)
  t.equal(served.length, 2)
  t.not(served[0]?.serialNumber, served[1]?.serialNumber)
})

t.test('an ACME server that is dead for the whole window is no silence', async (t) => {
  const { open, clock, pebble, lines, issued, idle } = await scene(t, { validitySecs: (6 * day) / 1000 })
  const source = await open()
  await issued(1)
  t.equal(source.notice, null)
  await pebble.kill()
  const { from, to } = {
    from: Date.parse(source.tls.leaf.validFrom),
    to: Date.parse(source.tls.leaf.validTo),
  }
  clock.advance((to - from) * 0.6)
  await idle()
  lines.length = 0
  const notices: (string | null)[] = []
  while (clock.now() < to + day / 2) {
    clock.advance(Math.max(Math.min(...clock.waits), 1_000))
    await idle()
    notices.push(source.notice)
  }
  const said = lines.filter(({ msg }) => msg === 'no certificate could be ordered')
  const alarms = said.filter(({ level }) => level === 'error')
  t.ok(said.length - alarms.length > 10, 'warnings while there is time')
  t.ok(alarms.length > said.length / 2, `${alarms.length} alarms of ${said.length} in the second half`)
  t.ok(said.length < 300, 'attempts are bounded')
  t.match(
    alarms.at(0)?.notice,
    /renewal is due and fails, the certificate ends in 2\d hours; \d+ attempts failed, last: .*ECONNREFUSED/,
  )
  t.match(notices.at(-1), /the certificate ended \d+ (hours|minutes) ago and renewal fails/)

  await pebble.start()
  clock.advance(3_600_000)
  await idle()
  t.match(source.notice, /account/i, 'the server that was restarted does not know the account any more')
  // The server's clock is the real one: what it issues has ended by ours, and is not served, nor ordered again at once.
  clock.advance(1_000)
  await idle()
  t.match(source.notice, /the issued certificate ended on .*: is the clock of this machine right\?/)
})

t.test('a folder that was restored on another machine goes on where it was', async (t) => {
  const { open, close, dir, clock, served, issued, idle } = await scene(t)
  const source = await open()
  await issued(1)
  await close(source)
  const account = (folder: string): unknown =>
    JSON.parse(readFileSync(join(dir, folder, 'account.json'), 'utf8'))
  // As by tar, without what is only there while an order runs.
  cpSync(join(dir, 'acme'), join(dir, 'restored'), { recursive: true })
  const restored = await open({ dir: join(dir, 'restored') })
  t.equal(restored.tls.cert, source.tls.cert, 'the certificate is served at once')
  t.equal(restored.notice, null)
  await idle()
  t.equal(served.length, 1, 'and nothing is ordered')
  clock.advance((Date.parse(source.tls.leaf.validTo) - clock.now()) * 0.7)
  await issued(2)
  t.same(account('restored'), account('acme'), 'renewed with the account that came along')
})

t.test('an account that was deactivated at the server is replaced by a new one', async (t) => {
  const { open, dir, pebble, clock, issued, lines } = await scene(t)
  const source = await open()
  await issued(1)
  const path = join(dir, 'acme', 'account.json')
  const before = JSON.parse(readFileSync(path, 'utf8')) as { key: string; url: string }
  const { acme, close } = await loadAcme(pebble.caPath)
  const client = new acme.Client({
    directoryUrl: pebble.directoryUrl,
    accountKey: before.key,
    accountUrl: before.url,
  })
  await client.updateAccount({ status: 'deactivated' } as Parameters<typeof client.updateAccount>[0])
  close()
  clock.advance((Date.parse(source.tls.leaf.validTo) - clock.now()) * 0.7)
  await issued(2)
  t.not((JSON.parse(readFileSync(path, 'utf8')) as { url: string }).url, before.url)
  t.equal(lines.filter(({ msg }) => msg === 'no certificate could be ordered').length, 1)
})

t.test(
  'a clock that was a year ahead and was set back neither stops renewals nor leaves an alarm',
  async (t) => {
    const { open, clock, pebble, served, issued, idle } = await scene(t)
    const source = await open()
    await issued(1)
    const life = Date.parse(source.tls.leaf.validTo) - clock.now()
    await pebble.kill()
    clock.advance(365 * day + life)
    await idle()
    t.match(source.notice, /the certificate ended \d+ days ago and renewal fails/)
    clock.set(Date.now() + life * 0.3)
    await idle()
    t.equal(source.notice, null, 'it is good for long')
    t.equal(source.figures.acmeFailures, 0)
    await pebble.start()
    clock.set(Date.now() + life * 0.72)
    await issued(2)
    t.equal(served.length, 2)
  },
)

t.test('a front that starts with a certificate that has ended keeps the alarm up', async (t) => {
  const { open, close, clock, pebble, dir, issued, idle } = await scene(t)
  const source = await open()
  await issued(1)
  await close(source)
  await pebble.kill()
  clock.advance(Date.parse(source.tls.leaf.validTo) - clock.now() + day)
  const again = await open({ dir: join(dir, 'acme') })
  t.equal(again.tls.cert, source.tls.cert, 'no stopgap that would look well')
  await idle()
  t.match(again.notice, /the certificate ended .* ago and renewal fails/)
})

t.test('two processes on one folder order one certificate', async (t) => {
  const { open, clock, issued, idle, served } = await scene(t)
  const [one, two] = await Promise.all([open(), open()])
  await issued(1)
  for (let step = 0; step < 10 && one?.tls.cert !== two?.tls.cert; step++) {
    await idle()
    clock.advance(5_000)
  }
  t.equal(one?.tls.cert, two?.tls.cert)
  t.equal(new Set(served.map(({ serialNumber }) => serialNumber)).size, 1)
})

t.test('an order that a dead process left behind does not block', async (t) => {
  const { open, dir, issued } = await scene(t)
  await new AcmeStore(join(dir, 'acme')).open()
  const child = spawn(process.execPath, ['-e', ''])
  await once(child, 'exit')
  writeFileSync(join(dir, 'acme', 'lock'), `${child.pid}\n`)
  await open()
  await issued(1)
  t.pass('issued')
})
