import { once } from 'node:events'
import { mkdtemp } from 'node:fs/promises'
import { type AddressInfo, connect, type Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import t, { type Test } from 'tap'
import { createRedirectServer } from '../../services/front/redirect.ts'
import { proves } from '../requirements.ts'
import { startFakeProxy, startFront } from './rig.ts'

/** Clients that read the goodbye and never close their side. */
const dial = (t: Test, port: number): Socket => {
  const socket = connect({ port, host: '127.0.0.1', allowHalfOpen: true })
  t.teardown(() => socket.destroy())
  return socket.on('error', () => {}).resume()
}

t.test('port 80 takes its place back from a client that does not close', async (t) => {
  proves(t, 'GW-TLS-08')
  const server = createRedirectServer('https://gw.example', () => undefined)
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.teardown(() => server.close())
  const { port } = server.address() as AddressInfo
  const refused = [dial(t, port), dial(t, port)]
  for (const each of refused) each.write('no HTTP at all\r\n\r\n')
  await Promise.all(refused.map((each) => once(each, 'end')))
  const open = (): Promise<number> =>
    new Promise((resolve, reject) =>
      server.getConnections((error, count) => (error ? reject(error) : resolve(count))),
    )
  t.equal(await open(), 2, 'what they still send is read for a while, so that the answer arrives')
  const began = performance.now()
  while ((await open()) > 0 && performance.now() - began < 4_000) await sleep(50)
  t.equal(await open(), 0)
})

t.test('a client that does not close after the goodbye of proxy is left soon', async (t) => {
  proves(t, 'GW-TLS-08')
  const proxy = await startFakeProxy(
    join(await mkdtemp(join(tmpdir(), 'half-')), 'p.sock'),
    (_request, response) => {
      response.setHeader('connection', 'close')
      response.end('bye')
    },
  )
  const front = await startFront(null, [proxy.path])
  t.teardown(() => Promise.all([front.stop(), proxy.close()]))
  const client = dial(t, front.port)
  client.write('GET / HTTP/1.1\r\nhost: a\r\n\r\n')
  await once(client, 'end')
  await front.report('stats', ({ values }) => values.connections === 1)
  const seen = front.reports.length
  const began = performance.now()
  const left = (): boolean =>
    front.reports.slice(seen).some((report) => report.type === 'stats' && report.values.connections === 0)
  while (!left() && performance.now() - began < 9_000) await sleep(50)
  t.ok(left(), `after ${Math.round(performance.now() - began)} ms`)
})
