import type { ServerResponse } from 'node:http'
import t from 'tap'
import { post, startLegacy } from './legacy-server.ts'
import { type Rig, startRig, startUpstream } from './rig.ts'

const event = (message: object, id?: string): string =>
  `${id === undefined ? '' : `id: ${id}\n`}data: ${JSON.stringify({ jsonrpc: '2.0', ...message })}\n\n`
const stream = (response: ServerResponse): ServerResponse =>
  response.writeHead(200, { 'content-type': 'text/event-stream' })
const text = (value: string) => ({ content: [{ type: 'text', text: value }] })

/** A legacy server whose tools/call and GET are `onCall` and `onGet`. */
async function start(
  onCall: (id: unknown, response: ServerResponse) => void,
  onGet: (lastEventId: string | undefined, response: ServerResponse) => void,
) {
  const legacy = await startLegacy((body, response) => onCall(body.id, response), { session: () => 'one' })
  // GET is not the legacy server's: it stands before it.
  const front = await startUpstream((request, body, response) => {
    if (request.method === 'GET') {
      const last = request.headers['last-event-id']
      return onGet(typeof last === 'string' ? last : undefined, response)
    }
    void fetch(legacy.url, {
      method: request.method ?? 'POST',
      headers: request.headers as Record<string, string>,
      ...(body ? { body } : {}),
    }).then(async (answer) => {
      response.writeHead(answer.status, Object.fromEntries(answer.headers))
      try {
        for await (const chunk of answer.body ?? []) response.write(chunk)
        response.end()
      } catch {
        response.destroy()
      }
    })
  })
  return { url: front.url, close: () => Promise.all([front.close(), legacy.close()]) }
}

const session = async (rig: Rig) => {
  const { headers } = await post(rig, 'initialize', {
    protocolVersion: '2025-11-25',
    capabilities: {},
    clientInfo: { name: 'c', version: '1' },
  })
  return { 'mcp-session-id': headers.get('mcp-session-id')! }
}

t.test(
  'a stream that ends early is resumed from its last event, after the wait that the server asked for',
  async (t) => {
    const rig = await startRig()
    let id: unknown
    const asked: (string | undefined)[] = []
    const server = await start(
      (called, response) => {
        id = called
        stream(response).write('retry: 20\n')
        response.write('id: e1\ndata:\n\n')
        response.end(
          event({ method: 'notifications/progress', params: { progressToken: called, progress: 1 } }, 'e2'),
        )
      },
      (last, response) => {
        asked.push(last)
        stream(response)
        // Twice: a resumed stream can end early too.
        if (asked.length === 1) {
          response.end(
            event({ method: 'notifications/progress', params: { progressToken: id, progress: 2 } }, 'e3'),
          )
        } else response.end(event({ id, result: text('at last') }, 'e4'))
      },
    )
    t.teardown(() => Promise.all([rig.close(), server.close()]))
    rig.setServers([{ prefix: 'a', url: server.url }])
    const answer = await post(
      rig,
      'tools/call',
      { name: 'a_go', _meta: { progressToken: 'p' } },
      await session(rig),
    )
    t.match(answer.last.result, text('at last'))
    t.same(
      answer.messages.slice(0, -1).map(({ params }) => params.progress),
      [1, 2],
      'nothing lost, nothing twice',
    )
    t.same(asked, ['e2', 'e3'])
  },
)

t.test('a connection that breaks in mid-stream is resumed too', async (t) => {
  const rig = await startRig()
  let id: unknown
  const server = await start(
    (called, response) => {
      id = called
      stream(response).write('retry: 10\nid: e1\ndata:\n\n')
      response.flushHeaders()
      setImmediate(() => response.destroy())
    },
    (_last, response) => void stream(response).end(event({ id, result: text('whole') }, 'e2')),
  )
  t.teardown(() => Promise.all([rig.close(), server.close()]))
  rig.setServers([{ prefix: 'a', url: server.url }])
  t.match((await post(rig, 'tools/call', { name: 'a_go' }, await session(rig))).last.result, text('whole'))
})

t.test('without event ids, or where the server does not resume, the call fails at once', async (t) => {
  const rig = await startRig()
  let ids = false
  let gets = 0
  const server = await start(
    (_id, response) => void stream(response).end(ids ? 'retry: 5\nid: e1\ndata:\n\n' : ': nothing\n\n'),
    (_last, response) => {
      gets++
      response.writeHead(405).end()
    },
  )
  t.teardown(() => Promise.all([rig.close(), server.close()]))
  rig.setServers([{ prefix: 'a', url: server.url }])
  const own = await session(rig)
  t.equal((await post(rig, 'tools/call', { name: 'a_go' }, own)).last.error?.code, 5021)
  t.equal(gets, 0)
  ids = true
  t.equal((await post(rig, 'tools/call', { name: 'a_go' }, own)).last.error?.code, 5021)
  t.equal(gets, 1)
})

t.test('a server that resumes and never answers is given up', async (t) => {
  const rig = await startRig()
  let gets = 0
  const server = await start(
    (_id, response) => void stream(response).end('retry: 1\nid: e1\ndata:\n\n'),
    (_last, response) => {
      gets++
      stream(response).end(': still nothing\n\n')
    },
  )
  t.teardown(() => Promise.all([rig.close(), server.close()]))
  rig.setServers([{ prefix: 'a', url: server.url }])
  t.equal((await post(rig, 'tools/call', { name: 'a_go' }, await session(rig))).last.error?.code, 5021)
  t.equal(gets, 5)
})
