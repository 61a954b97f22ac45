import type { ServerResponse } from 'node:http'
import t from 'tap'
import { Outbox } from '../../../services/proxy/mcp/notices/outbox.ts'
import { systemClock } from '../../../shared/clock.ts'
import { proves } from '../../requirements.ts'
import { post } from './legacy-server.ts'
import { until } from './notices-peers.ts'
import { startRig } from './rig.ts'
import { open, startTeller } from './teller.ts'

const toolsChanged = { method: 'notifications/tools/list_changed' }

t.test('what comes while the client of the only call has left waits for its next request', async (t) => {
  proves(t, 'MCP-NOTICE-09', 'MCP-ASK-HELD-01')
  let call: { id: number; response: ServerResponse } | undefined
  const [rig, server] = await Promise.all([
    startRig(),
    startTeller({
      onCall: (body, response) => {
        response.writeHead(200, { 'content-type': 'text/event-stream' })
        const { progressToken } = body.params!._meta as { progressToken: unknown }
        const params = { progressToken, progress: 1 }
        response.write(
          `data: ${JSON.stringify({ jsonrpc: '2.0', method: 'notifications/progress', params })}\n\n`,
        )
        call = { id: body.id!, response }
      },
    }),
  ])
  t.teardown(() => Promise.all([rig.close(), server.close()]))
  rig.setServers([{ prefix: 'a', url: server.url }])
  const session = await open(rig, { elicitation: {} })
  await post(rig, 'tools/list', {}, session)
  await until(() => server.streams.size === 1)

  const left = new AbortController()
  const params = { name: 'a_go', _meta: { progressToken: 'mine' } }
  await fetch(rig.url, {
    method: 'POST',
    headers: session,
    body: JSON.stringify({ jsonrpc: '2.0', id: 9, method: 'tools/call', params }),
    signal: left.signal,
  })
  left.abort()
  // The gateway sees it some moments later; nothing tells a test when.
  await new Promise((resolve) => setTimeout(resolve, 100))
  server.say(toolsChanged)
  server.say({ id: 'sure', method: 'elicitation/create', params: { message: 'Sure?' } })
  await until(() => rig.core.stats().waitingNotices === 1 && rig.core.stats().heldQuestions === 1)
  const result = { content: [] }
  call!.response.end(`data: ${JSON.stringify({ jsonrpc: '2.0', id: call!.id, result })}\n\n`)
  await until(() => rig.core.stats().activeCalls === 0)
  t.equal(rig.core.stats().waitingNotices, 1, 'not taken by the answer that nobody hears')
  t.match((await post(rig, 'ping', {}, session)).messages, [
    { method: 'elicitation/create', params: { message: 'Sure?' } },
    toolsChanged,
    { result: {} },
  ])
})

t.test('what a stream that ends did not take any more waits for the next one', async (t) => {
  proves(t, 'MCP-NOTICE-09')
  const full = Promise.withResolvers<void>()
  let open = true
  const outbox = new Outbox(systemClock, () =>
    open
      ? () => {
          // As a flight that is answered while its stream takes no more.
          open = false
          return full.promise
        }
      : undefined,
  )
  open = false
  for (const method of ['first', 'second', 'third']) outbox.push({ jsonrpc: '2.0', method })
  open = true
  const flushed = outbox.flush()
  t.equal(outbox.size, 2, 'what was sent waits no more')
  full.resolve()
  await flushed
  t.same(
    outbox.take().map(({ method }) => method),
    ['second', 'third'],
  )
})
