import { once } from 'node:events'
import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { Agent, request } from 'node:https'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { connect, type PeerCertificate } from 'node:tls'
import t, { type Test } from 'tap'
import type { ConfigOf } from '../../../shared/ipc/contract.ts'
import { type RunningFront, startFakeProxy, startFront } from '../../front/rig.ts'
import { freePort } from '../../rig/free-port.ts'
import { type Pebble, type PebbleOptions, startPebble } from './pebble.ts'

type Acme = Extract<ConfigOf['front']['tls'], { source: 'acme' }>

const name = 'gw.example.test'

/** Pebble, a proxy behind front, and what front needs to order from it. */
async function scene(t: Test, options: Partial<PebbleOptions> = {}) {
  // Short, because the name of a unix socket has to fit into 107 bytes.
  const dir = mkdtempSync(join(tmpdir(), 'acme-'))
  t.teardown(() => rmSync(dir, { recursive: true, force: true }))
  const ports = { https: freePort(), http: freePort() }
  const pebble = await startPebble(dir, { httpPort: ports.http, tlsPort: ports.https, ...options })
  const proxy = await startFakeProxy(join(dir, 'proxy.sock'))
  const fronts: RunningFront[] = []
  t.teardown(async () => {
    await Promise.all(fronts.map((front) => front.stop()))
    await Promise.all([pebble.stop(), proxy.close()])
  })
  const settings = (changes: Partial<Acme> = {}): Acme => ({
    source: 'acme',
    directoryUrl: pebble.directoryUrl,
    domains: [name],
    contact: ['ops@example.test'],
    challenge: 'auto',
    eab: null,
    caPath: pebble.caPath,
    dir: join(dir, 'acme'),
    ...changes,
  })
  const start = async (changes: Partial<Acme> = {}, config: Partial<ConfigOf['front']> = {}) => {
    const front = await startFront(settings(changes), [proxy.path], config, ports)
    fronts.push(front)
    return front
  }
  return { dir, acmeDir: join(dir, 'acme'), ports, pebble, settings, start }
}

const issued = (front: RunningFront, count = 1) =>
  front.report('stats', ({ values }) => Number(values.acmeIssued) >= count)
const failed = (front: RunningFront) =>
  front.report('stats', ({ values }) => Number(values.acmeFailures) >= 1)

/** What a client that trusts the test authority alone is shown. */
async function shown(port: number, pebble: Pebble, servername = name): Promise<PeerCertificate> {
  const socket = connect({ host: '127.0.0.1', port, servername, ca: await pebble.root() })
  await once(socket, 'secureConnect')
  const certificate = socket.getPeerCertificate()
  socket.destroy()
  return certificate
}

for (const challenge of ['http-01', 'tls-alpn-01', 'auto'] as const) {
  t.test(`a first certificate by ${challenge}`, async (t) => {
    const { start, pebble, ports, acmeDir } = await scene(t)
    const front = await start({ challenge, domains: [name, 'second.example.test'] })
    await issued(front)
    const certificate = await shown(ports.https, pebble)
    t.match(certificate.subjectaltname, /DNS:gw\.example\.test, DNS:second\.example\.test/)
    t.match(certificate, { asn1Curve: 'prime256v1' })

    t.same(readdirSync(acmeDir).sort(), ['README', 'account.json', 'certificate.pem', 'state.json'])
    for (const file of readdirSync(acmeDir)) t.equal(statSync(join(acmeDir, file)).mode & 0o777, 0o600, file)
    t.equal(statSync(acmeDir).mode & 0o777, 0o700)
    t.match(JSON.parse(readFileSync(join(acmeDir, 'account.json'), 'utf8')), {
      directoryUrl: pebble.directoryUrl,
    })
  })
}

t.test('serves a self-signed certificate until there is one, and says so', async (t) => {
  const { start, pebble, ports } = await scene(t)
  await pebble.kill()
  const front = await start()
  await front.report('check', ({ check, status }) => check === 'front.https' && status === 'running')
  const warned = await front.report(
    'check',
    ({ check, fault }) => check === 'front.certificate' && /ECONNREFUSED/.test(fault?.detail ?? ''),
  )
  t.equal(warned.status, 'running', 'front serves')
  t.match(warned.fault?.detail, /self-signed certificate is served .*1 attempt failed, last: .*ECONNREFUSED/)
  const socket = connect({
    host: '127.0.0.1',
    port: ports.https,
    servername: name,
    rejectUnauthorized: false,
  })
  await once(socket, 'secureConnect')
  t.match(socket.getPeerCertificate().subject.O, /self-signed until/)
  socket.destroy()

  await pebble.start()
  await issued(front)
  t.equal((await shown(ports.https, pebble)).subject.CN, name)
  await front.report(
    'check',
    (report) =>
      report.check === 'front.certificate' && report.status === 'running' && report.fault === undefined,
  )
})

t.test('a restart orders nothing; names that are new are ordered at once', async (t) => {
  const { start, pebble, ports } = await scene(t)
  const first = await start()
  await issued(first)
  const before = await shown(ports.https, pebble)
  await first.stop()
  const second = await start()
  const { values } = await second.report('stats')
  t.equal(values.acmeIssued, 1)
  t.equal((await shown(ports.https, pebble)).serialNumber, before.serialNumber)
  await second.stop()

  const third = await start({ domains: [name, 'added.example.test'] })
  await issued(third, 2)
  t.match((await shown(ports.https, pebble)).subjectaltname, /added/)
})

t.test('external account binding', async (t) => {
  const hmac = 'zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W'
  const { start, dir } = await scene(t, { eab: { 'kid-1': hmac } })
  const without = await start()
  const { values } = await failed(without)
  t.match(values.acmeLastError, /externalAccountBinding/)
  await without.stop()

  const hmacKeyPath = join(dir, 'hmac')
  writeFileSync(hmacKeyPath, `${hmac}\n`)
  const front = await start({ eab: { keyId: 'kid-1', hmacKeyPath }, dir: join(dir, 'acme-2') })
  await issued(front)
  const told = JSON.stringify([...without.reports, ...front.reports])
  t.notOk(told.includes(hmac), 'the key is told to nobody')
})

t.test('an account that the server lost is made again', async (t) => {
  const { start, pebble } = await scene(t)
  const first = await start()
  await issued(first)
  await first.stop()
  await pebble.kill()
  await pebble.start()
  const front = await start({ domains: [name, 'added.example.test'] })
  const { values } = await issued(front, 2)
  t.match(values, { acmeIssued: 2, acmeFailures: 0 })
})

t.test('a validation that fails is told with the server’s words', async (t) => {
  const unused = freePort()
  const { start } = await scene(t, { httpPort: unused })
  const front = await start({ challenge: 'http-01' })
  const { values } = await failed(front)
  t.match(values.acmeLastError, /connection refused/i)
})

t.test('renewals while clients come and stay: nobody notices', async (t) => {
  const { start, pebble, ports } = await scene(t, { validitySecs: 8 })
  const front = await start({ challenge: 'tls-alpn-01' })
  await issued(front)
  const ca = await pebble.root()
  const agent = new Agent({ keepAlive: true, maxSockets: 8, ca })
  const ask = (fresh: boolean): Promise<string> =>
    new Promise((resolve, reject) => {
      const options = { host: '127.0.0.1', port: ports.https, servername: name, path: '/x' }
      const call = request({ ...options, ca, agent: fresh ? false : agent }, (response) => {
        const socket = response.socket as import('node:tls').TLSSocket
        const serial = socket.getPeerCertificate().serialNumber
        response.resume()
        response.on('end', () => resolve(serial))
      })
      call.on('error', reject)
      call.end()
    })
  const renewedTwice = issued(front, 3).then(() => true)
  let done = false
  void renewedTwice.then(() => {
    done = true
  })
  const serials = new Set<string>()
  let answered = 0
  const failures: unknown[] = []
  const client = async (fresh: boolean): Promise<void> => {
    while (!done) {
      try {
        serials.add(await ask(fresh))
        answered++
      } catch (error) {
        failures.push(error)
      }
    }
  }
  await Promise.all([client(true), client(true), client(false), client(false)])
  agent.destroy()
  t.same(failures, [])
  t.ok(serials.size >= 3, `${serials.size} certificates were seen`)
  t.comment(`${answered} requests over two renewals, ${failures.length} failed`)
})
