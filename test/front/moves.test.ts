import { once } from 'node:events'
import { Agent } from 'node:https'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import t from 'tap'
import { makeCertificate } from '../supervisor/certificates.ts'
import { ask } from './requests.ts'
import { type FakeProxy, startFakeProxy, startFront } from './rig.ts'

/** A client that waits for no answer outlives its proxy. */
const dir = t.testdir()
const certificate = makeCertificate(dir, 'moves')
const socket = (name: string): string => join(dir, `${name}.sock`)

const closeIdle = (proxy: FakeProxy): void => {
  for (const each of proxy.sockets) each.end()
}

t.test('a kept connection goes on at the successor, whoever closes first', async (t) => {
  for (const closes of [true, false]) {
    const [old, next] = await Promise.all([
      startFakeProxy(socket(`old-${closes}`)),
      startFakeProxy(socket(`next-${closes}`)),
    ])
    const front = await startFront(certificate, [old.path])
    const agent = new Agent({ keepAlive: true, maxSockets: 1 })
    t.teardown(() => Promise.all([agent.destroy(), front.stop(), old.close(), next.close()]))
    t.match(JSON.parse((await ask({ port: front.port, agent })).body), { proxy: old.path })
    front.send({ type: 'proxies', sockets: [next.path] })
    front.send({ type: 'ping', n: 1 })
    await front.report('pong')
    if (closes) closeIdle(old)
    const answer = JSON.parse((await ask({ port: front.port, agent, path: '/again' })).body)
    t.match(answer, { proxy: next.path, url: '/again' })
    t.equal(answer.info.source.port, old.infos[0]?.source.port, 'the same connection of the client')
    t.equal(next.infos[0]?.front, front.child.pid, 'the header says which front wrote it')
  }
})

t.test('a request that runs is answered by the proxy that has it, and never sent twice', async (t) => {
  const release = Promise.withResolvers<void>()
  const old = await startFakeProxy(socket('busy'), async (_request, response) => {
    await release.promise
    response.end('old')
  })
  const next = await startFakeProxy(socket('successor'))
  const front = await startFront(certificate, [old.path])
  t.teardown(() => Promise.all([front.stop(), old.close(), next.close()]))
  const answer = ask({ port: front.port, method: 'POST', body: 'x' })
  while (old.infos.length === 0) await sleep(5)
  front.send({ type: 'proxies', sockets: [next.path] })
  front.send({ type: 'ping', n: 1 })
  await front.report('pong')
  release.resolve()
  t.equal((await answer).body, 'old')
  t.equal(next.infos.length, 0)
})

t.test(
  'an answer that a proxy never finished ends the connection: the client does not wait for ever',
  async (t) => {
    const old = await startFakeProxy(socket('breaks'), (_request, response) => {
      response.writeHead(200, { 'content-type': 'text/event-stream' })
      response.write('data: begun\n\n')
    })
    const next = await startFakeProxy(socket('after'))
    const front = await startFront(certificate, [old.path])
    t.teardown(() => Promise.all([front.stop(), old.close(), next.close()]))
    const cut = ask({ port: front.port }).then(
      () => 'answered',
      () => 'cut',
    )
    while (old.infos.length === 0) await sleep(5)
    await sleep(50)
    front.send({ type: 'proxies', sockets: [next.path] })
    front.send({ type: 'ping', n: 1 })
    await front.report('pong')
    for (const each of old.sockets) each.destroy()
    front.send({ type: 'broke', socket: old.path })
    t.equal(await cut, 'cut')
  },
)

t.test('without a successor a client stays with the proxy that it has', async (t) => {
  const only = await startFakeProxy(socket('only'))
  const front = await startFront(certificate, [only.path])
  const agent = new Agent({ keepAlive: true, maxSockets: 1 })
  t.teardown(() => Promise.all([agent.destroy(), front.stop(), only.close()]))
  await ask({ port: front.port, agent })
  front.send({ type: 'proxies', sockets: [] })
  front.send({ type: 'ping', n: 1 })
  await front.report('pong')
  t.equal((await ask({ port: front.port, agent })).status, 200)
  const exited = once(front.child, 'exit')
  front.send({ type: 'drain', deadlineMs: 100 })
  await exited
})
