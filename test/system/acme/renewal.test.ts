import { spawn } from 'node:child_process'
import { X509Certificate } from 'node:crypto'
import { once } from 'node:events'
import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { createServer, get as httpsGet } from 'node:https'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import pino from 'pino'
import t, { type Test } from 'tap'
import { AcmeCertificates } from '../../../services/front/acme/certificates.ts'
import { loadAcme } from '../../../services/front/acme/client.ts'
import { AcmeStore } from '../../../services/front/acme/store.ts'
import { Stapling } from '../../../services/front/certificates/stapling.ts'
import { createRedirectServer } from '../../../services/front/redirect.ts'
import { systemClock } from '../../../shared/clock.ts'
import type { AcmeSettings } from '../../../shared/config/gateway-tls.ts'
import { createLogger, type Logger } from '../../../shared/log.ts'
import { freePort } from '../../rig/free-port.ts'
import { ManualClock } from '../../rig/manual-clock.ts'
import { end, type PebbleOptions, startPebble } from './pebble.ts'

const name = 'gw.example.test'
const day = 86_400_000
/** An order of a busy machine takes seconds. */
const idleMs = 60_000
/** Of five seconds each: a dozen orders that fail and their waits. */
const maxSteps = 1_000

interface Line {
  readonly level: string
  readonly msg: string
  readonly notice?: string
}

/** The source itself, on a clock that the test moves, against a real ACME server. */
async function scene(t: Test, options: Partial<PebbleOptions> = {}) {
  const dir = mkdtempSync(join(tmpdir(), 'acme-'))
  const httpPort = freePort()
  const pebble = await startPebble(dir, { httpPort, tlsPort: 1, ...options })
  const sources: AcmeCertificates[] = []
  const redirect = createRedirectServer('https://gw.example.test', (path) =>
    sources.map((source) => source.challenges.http(path)).find((answer) => answer !== undefined),
  )
  redirect.listen(httpPort, '127.0.0.1')
  await once(redirect, 'listening')
  t.teardown(async () => {
    redirect.close()
    await Promise.all(sources.map((source) => source.close()))
    await pebble.stop()
    rmSync(dir, { recursive: true, force: true })
  })
  const lines: Line[] = []
  const log: Logger = pino(
    { level: 'debug', formatters: { level: (level) => ({ level }) } },
    { write: (line: string) => void lines.push(JSON.parse(line)) },
  )
  const clock = new ManualClock(Date.now())
  const served: X509Certificate[] = []
  const open = async (changes: Partial<AcmeSettings> = {}): Promise<AcmeCertificates> => {
    const source = await AcmeCertificates.open(
      {
        directoryUrl: pebble.directoryUrl,
        domains: [name],
        contact: [],
        challenge: 'http-01',
        eab: null,
        caPath: pebble.caPath,
        dir: join(dir, 'acme'),
        ...changes,
      },
      {
        clock,
        log,
        // No wait comes to the five minutes that an order may take, by which `idle` knows one.
        random: () => 0.37,
        http: true,
        onChange: ({ leaf }) => void served.push(leaf),
      },
    )
    sources.push(source)
    return source
  }
  const state = (): string =>
    `${served.length} served, waits ${clock.waits.join()}, last of the log: ${JSON.stringify(lines.slice(-3))}`
  /** Until the source sleeps again: what it does between is real work of real processes. */
  const idle = async (): Promise<void> => {
    const deadline = Date.now() + idleMs
    do {
      await new Promise((resolve) => setTimeout(resolve, 20))
      if (Date.now() > deadline) throw new Error(`never idle: ${state()}`)
    } while (clock.waits.length < sources.length || clock.waits.some((ms) => ms === 5 * 60_000))
  }
  /** Until so many certificates were served; time moves, so that an order that failed is tried again. */
  const issued = async (count: number): Promise<void> => {
    for (let step = 0; step < maxSteps; step++) {
      const enough = served.length >= count
      await idle()
      if (enough) return
      clock.advance(5_000)
    }
    throw new Error(`not issued: ${state()}`)
  }
  const close = async (source: AcmeCertificates): Promise<void> => {
    sources.splice(sources.indexOf(source), 1)
    await source.close()
  }
  return { dir, pebble, clock, lines, served, open, close, issued, idle }
}

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

t.test('the server’s renewal information moves the renewal (RFC 9773)', async (t) => {
  const { open, pebble, dir, clock, issued, idle, served, lines } = await scene(t)
  const asked: string[] = []
  let window: { start: number; end: number } | null = { start: 20, end: 30 }
  let directories = 0
  const { cert, key } = await certificateOf(dir)
  // Pebble of this package has no such service: its directory, with one added.
  const directory = createServer({ cert, key }, (request, response) => {
    const path = request.url ?? ''
    if (path.startsWith('/renewal-info/') && window) {
      const { start, end } = window
      asked.push(path.slice('/renewal-info/'.length))
      const at = (days: number): string => new Date(clock.now() + days * day).toISOString()
      response.writeHead(200, { 'content-type': 'application/json', 'retry-after': '21600' })
      response.end(
        JSON.stringify({
          suggestedWindow: { start: at(start), end: at(end) },
          explanationURL: 'https://ca.example.test/why',
        }),
      )
      return
    }
    directories++
    httpsGet(pebble.directoryUrl, { ca: cert }, async (answer) => {
      const parts: Buffer[] = []
      for await (const part of answer) parts.push(part as Buffer)
      const body = JSON.parse(Buffer.concat(parts).toString())
      const { port } = directory.address() as { port: number }
      response.writeHead(200, { 'content-type': 'application/json' })
      const renewalInfo = window ? { renewalInfo: `https://127.0.0.1:${port}/renewal-info` } : {}
      response.end(JSON.stringify({ ...body, ...renewalInfo }))
    })
  })
  directory.listen(0, '127.0.0.1')
  await once(directory, 'listening')
  t.teardown(() => directory.close())
  const { port } = directory.address() as { port: number }

  const source = await open({ directoryUrl: `https://127.0.0.1:${port}/dir` })
  await issued(1)
  const [keyId = '', serial = ''] = (asked[0] ?? '').split('.')
  t.equal(
    Buffer.from(serial, 'base64url').toString('hex').replace(/^0+/, ''),
    source.tls.leaf.serialNumber.toLowerCase().replace(/^0+/, ''),
  )
  t.equal(Buffer.from(keyId, 'base64url').length, 20)
  const at = Date.parse(String(source.figures.certificateRenewal)) - clock.now()
  t.ok(at > 19 * day && at < 31 * day, `renewal in ${Math.round(at / day)} days, as the server suggests`)

  window = { start: -2, end: -1 }
  clock.advance(6 * 3_600_000 + 1_000)
  await issued(2)
  t.equal(served.length, 2, 'the server asked for it now, e.g. because it will revoke')
  t.match(
    lines.find(({ msg }) => /asks for a renewal now/.test(msg)),
    { explanation: 'https://ca.example.test/why' },
  )

  window = { start: 20, end: 30 }
  clock.advance(2 * 3_600_000)
  await idle()
  const suggested = source.figures.certificateRenewal
  window = null
  clock.advance(6 * 3_600_000 + 1_000)
  directories = 0
  await idle()
  t.ok(
    directories > 0 && directories < 3,
    `an authority that has no such service any more: asked ${directories} times`,
  )
  t.not(source.figures.certificateRenewal, suggested, 'the usual time counts again')
})

t.test('an OCSP answer is stapled while it is good', async (t) => {
  const port = freePort()
  const { open, pebble, dir, issued } = await scene(t, { ocspResponderUrl: `http://127.0.0.1:${port}` })
  const source = await open()
  await issued(1)
  const { cert, key } = await pebble.intermediate()
  writeFileSync(join(dir, 'int.pem'), cert)
  writeFileSync(join(dir, 'int.key'), key)
  const { leaf } = source.tls
  const stamp = new Date(leaf.validTo).toISOString().replace(/[-:T]/g, '').slice(2, 14)
  const answerWith = async (line: string) => {
    writeFileSync(join(dir, 'index.txt'), line)
    const responder = spawn(
      'openssl',
      [
        'ocsp',
        '-index',
        'index.txt',
        '-port',
        String(port),
        '-rsigner',
        'int.pem',
        '-rkey',
        'int.key',
        '-CA',
        'int.pem',
        '-nmin',
        '60',
      ],
      { cwd: dir, stdio: ['ignore', 'pipe', 'pipe'] },
    )
    await once(responder.stderr, 'data')
    t.teardown(() => end(responder))
    return responder
  }
  const stapling = new Stapling({ clock: systemClock, log: createLogger('front', 'off') })
  t.teardown(() => stapling.close())
  const settled = async (): Promise<void> => {
    while (stapling.response === null && stapling.problem === null)
      await new Promise((resolve) => setTimeout(resolve, 20))
  }

  stapling.follow(source.tls)
  await settled()
  t.match(stapling.problem, /no OCSP answer to staple: .*ECONNREFUSED/)

  const good = await answerWith(`V\t${stamp}Z\t\t${leaf.serialNumber}\tunknown\t/CN=${name}\n`)
  stapling.follow(source.tls)
  await settled()
  t.equal(stapling.problem, null)
  t.ok((stapling.response?.length ?? 0) > 100)
  await end(good)

  await answerWith(
    `R\t${stamp}Z\t${stamp.replace(/^\d\d/, '25')}Z\t${leaf.serialNumber}\tunknown\t/CN=${name}\n`,
  )
  stapling.follow(source.tls)
  await settled()
  t.equal(stapling.response, null)
  t.match(stapling.problem, /REVOKED/)

  const pem = leaf.toString()
  t.ok(new X509Certificate(pem).infoAccess?.includes(`http://127.0.0.1:${port}`))
})

/** Pebble's own certificate, so that one authority file is enough. */
async function certificateOf(dir: string): Promise<{ cert: Buffer; key: Buffer }> {
  const { readFile } = await import('node:fs/promises')
  return { cert: await readFile(join(dir, 'pebble.crt')), key: await readFile(join(dir, 'pebble.key')) }
}
