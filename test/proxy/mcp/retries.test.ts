import t from 'tap'
import { freePort } from '../../rig/free-port.ts'
import { ok, post, startLegacy } from './legacy-server.ts'
import { startRig } from './rig.ts'

t.test(
  'a call to a server that comes up a moment later is answered: nothing of it was sent before',
  async (t) => {
    const rig = await startRig()
    const port = freePort()
    rig.setServers([{ prefix: 'a', url: `http://127.0.0.1:${port}/mcp` }])
    const calling = post(rig, 'tools/call', { name: 'a_go' })
    const server = await startLegacy(ok, { port })
    t.teardown(() => Promise.all([rig.close(), server.close()]))
    t.match((await calling).last.result, { content: [{ text: 'ok' }] })
    t.equal(server.seen.filter(({ method }) => method === 'tools/call').length, 1)
  },
)

t.test('a connection that breaks: reading is asked again, a tool never', async (t) => {
  const rig = await startRig()
  let asked = 0
  const server = await startLegacy(
    (_body, response) => {
      asked++
      response.destroy()
    },
    {
      capabilities: { tools: {}, prompts: {} },
      methods: {
        'prompts/get': (body, response) => {
          if (++read === 1) return response.destroy()
          const result = { messages: [] }
          response
            .writeHead(200, { 'content-type': 'application/json' })
            .end(JSON.stringify({ jsonrpc: '2.0', id: body.id, result }))
        },
      },
    },
  )
  let read = 0
  t.teardown(() => Promise.all([rig.close(), server.close()]))
  rig.setServers([{ prefix: 'a', url: server.url }])
  t.same((await post(rig, 'prompts/get', { name: 'a_p' })).last.result, { messages: [] })
  t.equal(read, 2)
  t.match((await post(rig, 'tools/call', { name: 'a_go' })).last.error, { code: 5020, data: { retry: true } })
  t.equal(asked, 1)
})

t.test('a gateway before the server that says 503: reading is asked again, a tool never', async (t) => {
  const rig = await startRig()
  let asked = 0
  const away = (_body: unknown, response: import('node:http').ServerResponse): void => {
    asked++
    response.writeHead(503).end('no')
  }
  const server = await startLegacy(away, {
    capabilities: { tools: {}, prompts: {} },
    methods: { 'prompts/get': away },
  })
  t.teardown(() => Promise.all([rig.close(), server.close()]))
  rig.setServers([{ prefix: 'a', url: server.url }])
  t.match((await post(rig, 'tools/call', { name: 'a_go' })).last.error, { code: 5020, data: { status: 503 } })
  t.equal(asked, 1)
  t.equal((await post(rig, 'prompts/get', { name: 'a_p' })).last.error?.code, 5020)
  t.equal(asked, 4)
})
