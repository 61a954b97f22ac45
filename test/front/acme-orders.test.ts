import { once } from 'node:events'
import { writeFileSync } from 'node:fs'
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { AcmeCertificates } from '../../services/front/acme/certificates.ts'
import { AcmeStore } from '../../services/front/acme/store.ts'
import { createLogger } from '../../shared/log.ts'
import { proves } from '../requirements.ts'
import { ManualClock } from '../rig/manual-clock.ts'

const hour = 3_600_000

/** Front's orders at a server of the test's own, on a clock that the test moves. */
async function start(
  t: Test,
  answer: (request: IncomingMessage, response: ServerResponse, url: string) => void,
) {
  const server = createServer((request, response) => answer(request, response, url))
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
  const dir = join(t.testdir({}), 'acme')
  const store = new AcmeStore(dir)
  await store.open()
  const clock = new ManualClock(Date.now())
  const open = async () => {
    const source = await AcmeCertificates.open(
      {
        directoryUrl: `${url}/dir`,
        domains: ['gw.example.test'],
        contact: [],
        challenge: 'http-01',
        eab: null,
        caPath: null,
        dir,
      },
      { clock, log: createLogger('front', 'off'), random: () => 0.5, http: true, onChange: () => {} },
    )
    t.teardown(async () => {
      await source.close()
      server.closeAllConnections()
      server.close()
    })
  }
  /** How long front waits after so many failures, ms. */
  const waits = async (failures: number): Promise<number> => {
    while (store.state().failures < failures) await new Promise((resolve) => setTimeout(resolve, 10))
    return store.state().nextAttemptAt - clock.now()
  }
  return { dir, url, clock, open, waits }
}

t.test('a Retry-After that came too late for its order holds up no other', async (t) => {
  proves(t, 'GW-ACME-01')
  const held: ServerResponse[] = []
  let seen = 0
  const { clock, open, waits } = await start(t, (_request, response) => {
    if (++seen === 1) held.push(response)
    else response.writeHead(500).end()
  })
  await open()
  while (held.length === 0) await new Promise((resolve) => setTimeout(resolve, 10))
  clock.advance(5 * 60_000)
  const first = await waits(1)
  t.ok(first < hour)
  held[0]?.writeHead(503, { 'retry-after': '7200' }).end()
  await new Promise((resolve) => setTimeout(resolve, 200))
  clock.advance(first)
  t.ok((await waits(2)) < hour)
  t.ok(seen > 1)
})

t.test('a server that forgets each account again is not asked every second', async (t) => {
  proves(t, 'GW-ACME-01')
  const { dir, url, clock, open, waits } = await start(t, (request, response, url) => {
    response.setHeader('replay-nonce', 'bm9uY2U')
    const json = (status: number, body: object) =>
      response.writeHead(status, { 'content-type': 'application/json' }).end(JSON.stringify(body))
    if (request.url === '/dir')
      return json(200, { newNonce: `${url}/nonce`, newAccount: `${url}/account`, newOrder: `${url}/order` })
    if (request.url === '/nonce') return response.end()
    if (request.url === '/order')
      return json(400, { type: 'urn:ietf:params:acme:error:accountDoesNotExist', detail: 'no account' })
    response.setHeader('location', `${url}/account/1`)
    return json(201, { status: 'valid' })
  })
  const { privateKey } = (await import('node:crypto')).generateKeyPairSync('ec', { namedCurve: 'P-256' })
  const key = privateKey.export({ type: 'pkcs8', format: 'pem' })
  writeFileSync(
    join(dir, 'account.json'),
    JSON.stringify({ directoryUrl: `${url}/dir`, url: `${url}/account/0`, key }),
  )
  await open()
  t.equal(await waits(1), 1_000, 'the next attempt makes a new account')
  clock.advance(1_000)
  t.ok((await waits(2)) > 1_000, 'which is gone too')
})
