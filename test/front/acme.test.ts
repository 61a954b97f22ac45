import { spawnSync } from 'node:child_process'
import { X509Certificate } from 'node:crypto'
import { once } from 'node:events'
import { mkdirSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { open } from 'node:fs/promises'
import { connect as connectTcp, createServer } from 'node:net'
import { join } from 'node:path'
import { connect as connectTls } from 'node:tls'
import t from 'tap'
import { Challenges } from '../../services/front/acme/challenges.ts'
import { parseClientHello } from '../../services/front/acme/client-hello.ts'
import {
  describeTrouble,
  isUrgent,
  renewalTime,
  retryWaitMs,
  waitUntil,
} from '../../services/front/acme/schedule.ts'
import { AcmeStore, freshState } from '../../services/front/acme/store.ts'
import { proves } from '../requirements.ts'
import { makeCertificate } from '../supervisor/certificates.ts'
import { ask } from './requests.ts'
import { startFakeProxy, startFront } from './rig.ts'

const day = 86_400_000

/** The first bytes that a real TLS client sends. */
async function hello(options: { servername?: string; ALPNProtocols?: string[] }): Promise<Buffer> {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as { port: number }
  const client = connectTls({ host: '127.0.0.1', port, ...options }).on('error', () => {})
  const [socket] = await once(server, 'connection')
  const [bytes] = (await once(socket, 'data')) as [Buffer]
  client.destroy()
  socket.destroy()
  server.close()
  return bytes
}

t.test('what a ClientHello asks for', async (t) => {
  const asked = await hello({ servername: 'GW.example.test', ALPNProtocols: ['acme-tls/1'] })
  t.same(parseClientHello(asked), { protocols: ['acme-tls/1'], serverName: 'gw.example.test' })
  t.same(parseClientHello(await hello({})), { protocols: [], serverName: null })
  t.same(parseClientHello(await hello({ ALPNProtocols: ['h2', 'http/1.1'] }))?.protocols, ['h2', 'http/1.1'])

  const parts = Array.from(asked, (_, length) => parseClientHello(asked.subarray(0, length)))
  t.ok(
    parts.every((part) => part === undefined),
    'a part of one: more bytes are needed',
  )
  t.equal(parseClientHello(Buffer.from('GET / HTTP/1.1\r\n')), null)
  let state = 7
  for (let round = 0; round < 2_000; round++) {
    const broken = Buffer.from(asked)
    for (let change = 0; change < 3; change++) {
      state = (state * 1_103_515_245 + 12_345) % 2 ** 31
      broken[5 + (state % (broken.length - 5))] = state >> 8
    }
    parseClientHello(broken)
  }
  t.pass('broken ones are read without a throw')
})

t.test('answers to validations come from their folder alone', async (t) => {
  const dir = t.testdir({ 'account.json': 'secret' })
  const challenges = new Challenges(dir)
  t.equal(challenges.active, false)
  const attempt = await challenges.begin()
  t.equal(challenges.active, true)
  await attempt.putHttp('tok_en-1', 'tok_en-1.thumbprint')
  const path = '/.well-known/acme-challenge/'
  t.equal(challenges.http(`${path}tok_en-1`), 'tok_en-1.thumbprint')
  const others = [
    '../../account.json',
    '..%2f..%2faccount.json',
    'tok_en-1/',
    'tok_en-1?x',
    '',
    'a'.repeat(300),
  ]
  for (const other of others) t.equal(challenges.http(path + other), undefined, other)
  t.equal(challenges.http('/other'), undefined)
  await t.rejects(attempt.putHttp('../x', 'y'), /not base64url/)
  await t.rejects(attempt.putAlpn('../x', 'y', 'z'), /no DNS name/)
  t.equal(challenges.alpn('../account.json'), undefined)
  await attempt.end()
  t.equal(challenges.active, false)
  t.equal(challenges.http(`${path}tok_en-1`), undefined)
})

t.test('an order that was given up takes back its own answers alone', async (t) => {
  proves(t, 'GW-ACME-01')
  const dir = t.testdir()
  const folder = join(dir, 'challenges')
  const challenges = [new Challenges(dir), new Challenges(dir)]
  const path = '/.well-known/acme-challenge/'
  const left = spawnSync(process.execPath, ['-e', '']).pid
  for (const name of [`${left}-1`, `${process.ppid}-1`, 'http-01.of-an-older-release'])
    mkdirSync(join(folder, name), { recursive: true })
  const late = await challenges[0]!.begin()
  await late.putHttp('late', 'late.thumb')
  t.same(readdirSync(folder).length, 2, 'what dead processes left is gone, what a living one has is not')
  const next = await challenges[0]!.begin()
  await next.putHttp('next', 'next.thumb')
  await late.end()
  for (const each of challenges) {
    t.equal(each.http(`${path}next`), 'next.thumb')
    t.equal(each.http(`${path}late`), undefined)
    t.equal(each.active, true)
  }
  rmSync(join(folder, `${process.ppid}-1`), { recursive: true })
  await next.end()
  t.equal(challenges[1]!.active, false)
})

t.test('a lock that can not be written is no lock', async (t) => {
  proves(t, 'GW-ACME-01')
  const dir = join(t.testdir({}), 'acme')
  const store = new AcmeStore(dir)
  await store.open()
  const handle = await open(join(dir, 'other'), 'w')
  const prototype = Object.getPrototypeOf(handle)
  await handle.close()
  const { writeFile } = prototype
  prototype.writeFile = async () => {
    throw Object.assign(new Error('ENOSPC: no space left'), { code: 'ENOSPC' })
  }
  await t.rejects(store.lock(Date.now()), { code: 'ENOSPC' }).finally(() => {
    prototype.writeFile = writeFile
  })
  const release = await store.lock(Date.now())
  t.type(release, 'function')
  await release?.()
})

t.test('when to renew, and when a failure is an alarm', async (t) => {
  const life = { from: 0, to: 90 * day }
  t.equal(renewalTime(life, 0.5, null), 60 * day)
  t.ok(renewalTime(life, 0, null) >= 58 * day && renewalTime(life, 0.999, null) <= 62 * day, 'with jitter')
  t.equal(renewalTime(life, 0.5, { start: 10 * day, end: 20 * day }), 15 * day, 'as the server suggests')
  t.equal(renewalTime(life, 0.5, { start: 200 * day, end: 210 * day }), 90 * day, 'never after its end')
  t.same(
    [74, 76].map((at) => isUrgent(life, at * day)),
    [false, true],
  )

  const most = () => 0.999_999
  t.ok(retryWaitMs(0, null, () => 0) === 2_000 && retryWaitMs(0, null, most) <= 5_000, 'soon at first')
  t.ok(retryWaitMs(40, null, most) <= 3_600_000, 'an hour at most without a certificate')
  t.ok(retryWaitMs(40, 30 * day, most) <= 6 * 3_600_000)
  t.ok(retryWaitMs(40, 8 * 3_600_000, most) <= 3_600_000, 'denser towards the end')
  t.ok(retryWaitMs(40, 1, () => 0) >= 30_000 && retryWaitMs(40, 1, most) <= 600_000)

  const failed = { ...freshState, failures: 3, lastError: { at: 0, text: 'no route' } }
  t.equal(describeTrouble(freshState, life, true, 0), null)
  t.match(describeTrouble(freshState, null, true, 0), /^a self-signed certificate is served until/)
  t.match(describeTrouble(failed, null, true, 0), /3 attempts failed, last: no route$/)
  t.match(describeTrouble(failed, life, true, 80 * day), /ends in 10 days; 3 attempts failed/)
  t.match(describeTrouble(failed, life, true, 90 * day + 3 * 3_600_000), /ended 3 hours ago/)
  t.equal(describeTrouble(failed, life, false, 30 * day), null, 'what failed when a clock was wrong')

  t.ok(isUrgent(life, 10 * day, { end: 9 * day }), 'the server wanted it renewed by now')
  t.notOk(isUrgent(life, 10 * day, { end: 11 * day }))
  t.equal(waitUntil(5_000, 1_000, day), 5_000)
  t.equal(waitUntil(400 * day, 1_000, day), 1_000, 'the clock was a year ahead when it was written')
})

t.test('a store that was cut off or edited by hand is made anew, not trusted', async (t) => {
  const dir = t.testdir({
    acme: { 'state.json': '{"failures":', 'account.json': '{"url":1}', 'certificate.pem': 'x' },
  })
  const store = new AcmeStore(join(dir, 'acme'))
  await store.open()
  t.same(store.state(), freshState)
  t.equal(store.account('https://ca.example/dir'), undefined)
  t.equal(store.certificate(), undefined)

  const { pem, privateKeyPath } = makeCertificate(dir, 'held')
  const { readFile } = await import('node:fs/promises')
  await store.saveCertificate({ cert: pem, key: await readFile(privateKeyPath, 'utf8') })
  t.equal(store.certificate()?.leaf.fingerprint256, new X509Certificate(pem).fingerprint256)
  await store.saveAccount({ directoryUrl: 'https://ca.example/dir', url: 'https://ca.example/1', key: 'k' })
  t.match(store.account('https://ca.example/dir'), { url: 'https://ca.example/1' })
  t.equal(store.account('https://other.example/dir'), undefined, 'an account belongs to its server')
})

t.test('port 443 during an order', async (t) => {
  const dir = t.testdir()
  const challenge = makeCertificate(dir, 'validation')
  const { readFile } = await import('node:fs/promises')
  const acmeDir = join(dir, 'acme')
  mkdirSync(join(acmeDir, 'challenges'), { recursive: true })
  const proxy = await startFakeProxy(join(dir, 'p.sock'))
  const front = await startFront(
    {
      source: 'acme',
      directoryUrl: 'https://127.0.0.1:1/dir',
      domains: ['gw.example.test'],
      contact: [],
      challenge: 'tls-alpn-01',
      eab: null,
      caPath: null,
      dir: acmeDir,
    },
    [proxy.path],
  )
  t.teardown(() => Promise.all([front.stop(), proxy.close()]))
  // The order of front itself fails at once; this one is of another front on the same folder.
  await front.report('stats', ({ values }) => Number(values.acmeFailures) > 0)
  const attempt = await new Challenges(acmeDir).begin()
  await attempt.putAlpn('gw.example.test', await readFile(challenge.privateKeyPath, 'utf8'), challenge.pem)

  const validation = connectTls({
    host: '127.0.0.1',
    port: front.port,
    servername: 'gw.example.test',
    ALPNProtocols: ['acme-tls/1'],
    rejectUnauthorized: false,
  })
  await once(validation, 'secureConnect')
  t.equal(validation.alpnProtocol, 'acme-tls/1')
  t.equal(validation.getPeerCertificate().subject.CN, 'validation')
  validation.destroy()

  t.equal((await ask({ port: front.port, path: '/mcp' })).status, 200, 'everyone else is served')
  const slow = connectTcp(front.port, '127.0.0.1')
  slow.write(Buffer.of(22))
  const other = connectTls({
    host: '127.0.0.1',
    port: front.port,
    rejectUnauthorized: false,
    servername: 'x.test',
  })
  await once(other, 'secureConnect')
  t.match(other.getPeerCertificate().subject.O, /self-signed until/)
  other.destroy()
  slow.destroy()

  await attempt.putHttp('token1', 'token1.thumb')
  const answered = await fetch(`http://127.0.0.1:${front.httpPort}/.well-known/acme-challenge/token1`)
  t.equal(await answered.text(), 'token1.thumb')
  const foreign = await fetch(
    `http://127.0.0.1:${front.httpPort}/.well-known/acme-challenge/..%2faccount.json`,
    {
      redirect: 'manual',
    },
  )
  t.equal(foreign.status, 308)
})

t.test('a lock has one holder, also in the moment before it bears a name', async (t) => {
  const dir = join(t.testdir({}), 'acme')
  const [one, two] = [new AcmeStore(dir), new AcmeStore(dir)]
  await one.open()
  const now = Date.now()
  writeFileSync(join(dir, 'lock'), '')
  t.equal(await two.lock(now), undefined, 'somebody is about to write their name')
  const broken = await two.lock(now + 60_000)
  t.type(broken, 'function', 'somebody died before they did')
  await broken?.()
  for (let turn = 0; turn < 50; turn++) {
    const held = (await Promise.all([one.lock(now), two.lock(now)])).filter(
      (release) => release !== undefined,
    )
    t.equal(held.length, 1)
    await held[0]?.()
  }
})
