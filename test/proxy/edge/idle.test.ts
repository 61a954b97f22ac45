import { once } from 'node:events'
import { mkdtemp } from 'node:fs/promises'
import { connect as connectHttp2 } from 'node:http2'
import { connect, type Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { Ingress } from '../../../services/proxy/ingress.ts'
import { createLogger } from '../../../shared/log.ts'
import { encodeProxyHeader } from '../../../shared/proxy-protocol.ts'
import { proves } from '../../requirements.ts'
import { startRig } from './rig.ts'

const keepAliveMs = 300
const peer = { address: '127.0.0.1', port: 1 }

async function serve(t: Test): Promise<() => Socket> {
  const ingress = new Ingress(
    (req, res) => {
      if (req.url === '/hold') res.write('begun')
      else res.end('ok')
    },
    { log: createLogger('proxy', 'off'), keepAliveMs },
  )
  const path = join(await mkdtemp(join(tmpdir(), 'half-')), 'p.sock')
  await ingress.listen(path)
  t.teardown(() => ingress.close())
  return () => {
    const socket = connect(path)
    t.teardown(() => socket.destroy())
    const header = {
      source: peer,
      destination: peer,
      alpn: 'h2',
      authority: null,
      tlsVersion: null,
      front: 1,
    }
    socket.write(encodeProxyHeader(header))
    return socket
  }
}

t.test('an HTTP/2 connection without streams ends, one with streams stays', async (t) => {
  proves(t, 'HTTP-31')
  const dial = await serve(t)
  const session = (socket: Socket) => connectHttp2('http://gw.test', { createConnection: () => socket })

  const idle = session(dial())
  const goaway = once(idle, 'goaway')
  const answered = idle.request({ ':path': '/' })
  answered.resume()
  await once(answered, 'close')
  t.equal((await goaway)[0], 0, 'NO_ERROR')
  await once(idle, 'close')

  const busy = session(dial())
  const held = busy.request({ ':path': '/hold' })
  await once(held, 'data')
  await new Promise((resolve) => setTimeout(resolve, keepAliveMs * 3))
  t.notOk(busy.closed)
  held.close()
  await once(busy, 'close')

  const silent = dial().resume()
  await once(silent, 'end')
  t.pass('also one that never said a word of HTTP/2')
})

t.test('what is not HTTP and never closes its side is let go', async (t) => {
  proves(t, 'GW-TLS-08')
  const rig = await startRig()
  t.teardown(() => rig.close())
  const socket = connect({ path: rig.config.socketPath, allowHalfOpen: true })
  t.teardown(() => socket.destroy())
  socket.write(
    encodeProxyHeader({ source: peer, destination: peer, alpn: null, authority: null, tlsVersion: null }),
  )
  socket.write('no HTTP at all\r\n\r\n')
  socket.resume()
  await once(socket, 'end')
  const open = (): number => Number(rig.edge.stats().connections)
  t.equal(open(), 1)
  const began = performance.now()
  while (open() > 0 && performance.now() - began < 8_000)
    await new Promise((resolve) => setTimeout(resolve, 50))
  t.equal(open(), 0)
})
