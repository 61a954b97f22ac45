import t from 'tap'
import { proves } from '../../requirements.ts'
import { ok, post, startLegacy } from './legacy-server.ts'
import { modernMeta, startScripted } from './modern-server.ts'
import { type Listener, startRig, startUpstream } from './rig.ts'

const hello = { result: { content: [{ type: 'text', text: 'modern' }] } }

t.test('a server that is put back to the older era is found out by the first call', async (t) => {
  proves(t, 'MCP-ERA-01')
  const rig = await startRig()
  const modern = await startScripted(() => hello)
  rig.setServers([{ prefix: 'a', url: modern.url }])
  t.match((await post(rig, 'tools/call', { name: 'a_go' })).last.result, { content: [{ text: 'modern' }] })
  await modern.close()
  const legacy = await startLegacy(ok, { port: modern.port })
  t.teardown(async () => {
    await Promise.all([rig.close(), legacy.close()])
  })
  t.match((await post(rig, 'tools/call', { name: 'a_go' })).last.result, { content: [{ text: 'ok' }] })
})

t.test(
  'a server that moves on to the newer era is found out when it knows the session no more',
  async (t) => {
    proves(t, 'MCP-ERA-02')
    const rig = await startRig()
    const legacy = await startLegacy(ok, { session: () => 'one' })
    rig.setServers([{ prefix: 'a', url: legacy.url }])
    t.match((await post(rig, 'tools/call', { name: 'a_go' })).last.result, { content: [{ text: 'ok' }] })
    await legacy.close()
    const modern = await startScripted(() => hello)
    // The one that is up answers on the old port too.
    const relay = await startUpstream((request, body, response) => {
      void fetch(modern.url, {
        method: 'POST',
        headers: request.headers as Record<string, string>,
        body,
      }).then(async (answer) =>
        response.writeHead(answer.status, { 'content-type': 'application/json' }).end(await answer.text()),
      )
    }, legacy.port)
    t.teardown(async () => {
      await Promise.all([rig.close(), modern.close(), relay.close()])
    })
    t.match((await post(rig, 'tools/call', { name: 'a_go' })).last.result, { content: [{ text: 'modern' }] })
  },
)

t.test('401 is no verdict: the era is asked with the next credential', async (t) => {
  proves(t, 'MCP-ERA-03')
  const rig = await startRig()
  const modern = await startScripted(() => hello)
  let open = false
  const gate: Listener = await startUpstream((request, body, response) => {
    if (!open) return response.writeHead(401).end()
    void fetch(modern.url, { method: 'POST', headers: request.headers as Record<string, string>, body }).then(
      async (answer) =>
        response.writeHead(answer.status, { 'content-type': 'application/json' }).end(await answer.text()),
    )
  })
  t.teardown(async () => {
    await Promise.all([rig.close(), modern.close(), gate.close()])
  })
  rig.setServers([{ prefix: 'a', url: gate.url }])
  t.equal((await post(rig, 'tools/call', { name: 'a_go' })).last.error?.code, 5022)
  open = true
  t.match((await post(rig, 'tools/call', { name: 'a_go' })).last.result, { content: [{ text: 'modern' }] })
})

t.test('an old server that does not answer unknown methods is asked by initialize', async (t) => {
  proves(t, 'MCP-ERA-04')
  const rig = await startRig({ timeouts: { initialize: 400 } })
  const legacy = await startLegacy(ok, { discover: () => {} })
  t.teardown(async () => {
    await Promise.all([rig.close(), legacy.close()])
  })
  rig.setServers([{ prefix: 'a', url: legacy.url }])
  t.match((await post(rig, 'tools/call', { name: 'a_go' })).last.result, { content: [{ text: 'ok' }] })
})

t.test('a server that maps unknown methods to 404 is not taken for modern for long', async (t) => {
  proves(t, 'MCP-ERA-05')
  const rig = await startRig()
  const legacy = await startLegacy(ok, {
    discover: (body, response) =>
      response
        .writeHead(404, { 'content-type': 'application/json' })
        .end(JSON.stringify({ jsonrpc: '2.0', id: body.id, error: { code: -32601, message: 'what?' } })),
    session: () => 'one',
    without: (_body, response) => response.writeHead(400).end(),
  })
  t.teardown(async () => {
    await Promise.all([rig.close(), legacy.close()])
  })
  rig.setServers([{ prefix: 'a', url: legacy.url }])
  t.match((await post(rig, 'tools/call', { name: 'a_go' })).last.result, { content: [{ text: 'ok' }] })
})

t.test('the era is asked once for all who wait, the session opened once', async (t) => {
  proves(t, 'MCP-ERA-06')
  const rig = await startRig()
  const legacy = await startLegacy(ok)
  t.teardown(async () => {
    await Promise.all([rig.close(), legacy.close()])
  })
  rig.setServers([{ prefix: 'a', url: legacy.url }])
  const answers = await Promise.all(
    Array.from({ length: 10 }, () => post(rig, 'tools/call', { name: 'a_go' })),
  )
  for (const { last } of answers) t.match(last.result, { content: [{ text: 'ok' }] })
  for (const method of ['server/discover', 'initialize', 'notifications/initialized']) {
    t.equal(legacy.seen.filter((request) => request.method === method).length, 1, method)
  }
})

t.test('a server that speaks no version of ours is refused, and says so to the operator alone', async (t) => {
  proves(t, 'MCP-ERA-07')
  const rig = await startRig()
  const legacy = await startLegacy(ok, { version: '1999-01-01' })
  t.teardown(async () => {
    await Promise.all([rig.close(), legacy.close()])
  })
  rig.setServers([{ prefix: 'a', url: legacy.url }])
  t.equal((await post(rig, 'tools/call', { name: 'a_go' })).last.error?.code, 5021)
})

t.test(
  'a verdict has an age: a server that learned the newer era is found out behind the requests',
  async (t) => {
    let now = 1_000_000
    const rig = await startRig({ now: () => now })
    let learned = false
    const legacy = await startLegacy(ok, {
      discover: (body, response) => {
        if (!learned) return response.writeHead(400).end()
        const result = {
          resultType: 'complete',
          supportedVersions: ['2026-07-28'],
          capabilities: { tools: {} },
        }
        response
          .writeHead(200, { 'content-type': 'application/json' })
          .end(JSON.stringify({ jsonrpc: '2.0', id: body.id, result }))
      },
    })
    t.teardown(async () => {
      await Promise.all([rig.close(), legacy.close()])
    })
    rig.setServers([{ prefix: 'a', url: legacy.url }])
    const call = () => post(rig, 'tools/call', { name: 'a_go' })
    const asked = () => legacy.seen.filter(({ method }) => method === 'server/discover').length
    await call()
    learned = true
    now += 9 * 60_000
    await call()
    t.equal(asked(), 1, 'not before its time')
    now += 2 * 60_000
    // Answered by the old verdict, while the server is asked for a new one.
    t.ok((await call()).last.result)
    while (asked() < 2) await new Promise((resolve) => setTimeout(resolve, 5))
    const modern = () =>
      legacy.seen.some(
        ({ method, headers }) => method === 'tools/call' && headers['mcp-method'] === 'tools/call',
      )
    while (!modern()) await call()
    t.pass('the calls that follow are of the newer era')
  },
)

t.test('methods of the other era and of nobody are unknown', async (t) => {
  proves(t, 'MCP-OPEN-04')
  const rig = await startRig()
  t.teardown(() => rig.close())
  rig.setServers([])
  t.equal((await post(rig, 'server/discover')).last.error?.code, -32601)
  t.match((await post(rig, 'resources/subscribe', { uri: 'x://y' })).last.error, {
    data: { reason: 'session.missing' },
  })
  for (const method of ['ping', 'initialize', 'logging/setLevel', 'resources/subscribe', 'constructor']) {
    t.equal((await post(rig, method, { _meta: modernMeta() })).last.error?.code, -32601, method)
  }
  t.same((await post(rig, 'ping')).last, { jsonrpc: '2.0', id: 1, result: {} })
})

t.test(
  'one person’s refused credential says nothing of another’s, also where both ask at once',
  async (t) => {
    proves(t, 'MCP-ERA-03')
    const rig = await startRig()
    const modern = await startScripted(() => hello)
    const { promise: both, resolve: reached } = Promise.withResolvers<void>()
    const gate = await startUpstream((request, body, response) => {
      // The first question is answered when the other one waits for it.
      void both.then(async () => {
        if (request.headers.authorization !== 'Bearer bob') return response.writeHead(401).end()
        const headers = request.headers as Record<string, string>
        const answer = await fetch(modern.url, { method: 'POST', headers, body })
        response.writeHead(answer.status, { 'content-type': 'application/json' }).end(await answer.text())
      })
    })
    t.teardown(async () => {
      await Promise.all([rig.close(), gate.close(), modern.close()])
    })
    const rejected: string[] = []
    let asked = 0
    rig.credentials.answer = (_server, refused, { subject }) => {
      if (refused !== undefined) rejected.push(subject)
      if (++asked === 2) setTimeout(reached, 50)
      const headers = [{ name: 'Authorization', value: `Bearer ${subject}` }]
      return refused === undefined
        ? { kind: 'headers', headers, expiresAt: null, credentialProviderId: 'p' }
        : { kind: 'denied', by: 'provider', reason: 'credential_rejected' }
    }
    rig.setServers([{ prefix: 'a', url: gate.url, credential: 'required' }])
    const call = async (who: string) =>
      (await post(rig, 'tools/call', { name: 'a_go' }, { 'x-subject': who })).last
    const [anns, bobs] = await Promise.all([call('ann'), call('bob')])
    t.ok(anns?.error)
    t.match(bobs?.result, { content: [{ text: 'modern' }] })
    t.same(rejected, ['ann'])
  },
)
