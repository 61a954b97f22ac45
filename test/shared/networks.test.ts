import http from 'node:http'
import t from 'tap'
import { Agent, fetch } from 'undici'
import { createNetworkGuard } from '../../shared/networks.ts'
import { proves } from '../requirements.ts'

t.test('what the guard refuses and lets through', async (t) => {
  proves(t, 'NET-01')
  const guard = createNetworkGuard([])
  const refused = [
    '127.0.0.1',
    '10.1.2.3',
    '172.16.0.1',
    '192.168.1.1',
    '169.254.169.254',
    '100.64.0.1',
    '0.0.0.0',
    '224.0.0.1',
    '255.255.255.255',
    '192.0.2.1',
    '198.18.0.1',
    '240.0.0.1',
    '::1',
    '::',
    'fe80::1',
    'fc00::1',
    'fd12::1',
    'ff02::1',
    '::ffff:127.0.0.1',
    '::ffff:10.0.0.1',
    '64:ff9b::7f00:1',
    '2002:7f00:1::',
    '2001:db8::1',
    'not-an-ip',
    '',
  ]
  for (const address of refused) t.throws(() => guard.check(address), { code: 'upstream.blocked' }, address)
  for (const address of ['1.1.1.1', '93.184.216.34', '2606:4700::1111'])
    t.doesNotThrow(() => guard.check(address), address)
})

t.test('an allowed network opens just itself', async (t) => {
  const guard = createNetworkGuard(['127.0.0.0/8', 'fd00::/8'])
  t.doesNotThrow(() => guard.check('127.0.0.1'))
  t.doesNotThrow(() => guard.check('::ffff:127.0.0.1'))
  t.doesNotThrow(() => guard.check('fd12::1'))
  t.throws(() => guard.check('10.0.0.1'), { code: 'upstream.blocked' })
  t.throws(() => guard.check('fc00::1'), { code: 'upstream.blocked' })
})

t.test('the lookup refuses at connect time', async (t) => {
  proves(t, 'NET-02')
  let hits = 0
  const server = http.createServer((_request, response) => {
    hits++
    response.end('reached')
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  t.teardown(() => server.close())
  const { port } = server.address() as { port: number }
  const through = async (allowed: string[]): Promise<string> => {
    const dispatcher = new Agent({ connect: { lookup: createNetworkGuard(allowed).lookup } })
    try {
      return await (await fetch(`http://localhost:${port}/`, { dispatcher })).text()
    } finally {
      await dispatcher.close()
    }
  }
  await t.rejects(through([]))
  t.equal(hits, 0)
  t.equal(await through(['127.0.0.0/8', '::1/128']), 'reached')
})
