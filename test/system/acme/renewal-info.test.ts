import { spawn } from 'node:child_process'
import { X509Certificate } from 'node:crypto'
import { once } from 'node:events'
import { readFileSync, writeFileSync } from 'node:fs'
import { createServer, get as httpsGet } from 'node:https'
import { join } from 'node:path'
import t from 'tap'
import { Stapling } from '../../../services/front/certificates/stapling.ts'
import { systemClock } from '../../../shared/clock.ts'
import { createLogger } from '../../../shared/log.ts'
import { freePort } from '../../rig/free-port.ts'
import { end } from './pebble.ts'
import { day, name, scene } from './scene.ts'

/** Pebble's own certificate, so that one authority file is enough. */
const certificateOf = (dir: string): { cert: Buffer; key: Buffer } => ({
  cert: readFileSync(join(dir, 'pebble.crt')),
  key: readFileSync(join(dir, 'pebble.key')),
})

t.test('the server’s renewal information moves the renewal (RFC 9773)', async (t) => {
  const { open, pebble, dir, clock, issued, idle, served, lines } = await scene(t)
  const asked: string[] = []
  let window: { start: number; end: number } | null = { start: 20, end: 30 }
  let directories = 0
  const { cert, key } = certificateOf(dir)
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
