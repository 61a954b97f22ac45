import { readdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import t from 'tap'

import type { WorkloadEvent } from '../../../shared/wire/event.ts'
import { proves } from '../../requirements.ts'
import { startAsking } from '../mcp/asking-server.ts'
import { startWorkers } from '../peers/workers.ts'

const pause = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms))

/** A session-based client of a real proxy process that leaves while its call is at the server. */
async function leave(t: { teardown(work: () => unknown): void }) {
  const server = await startAsking()
  const workers = await startWorkers({
    servers: [{ prefix: 'a', url: server.url }],
    config: { timeouts: { initialize: 10_000, tools_list: 10_000, tools_call: 3_000 } },
  })
  t.teardown(() => Promise.all([workers.close(), server.close()]))
  const worker = await workers.start()
  const { headers } = await worker.ask({
    id: 0,
    method: 'initialize',
    params: {
      protocolVersion: '2025-11-25',
      capabilities: { elicitation: {} },
      clientInfo: { name: 'c', version: '1' },
    },
  })
  const left = new AbortController()
  const calling = worker.ask(
    { id: 1, method: 'tools/call', params: { name: 'a_go', _meta: { progressToken: 'p' } } },
    { headers: { 'mcp-session-id': String(headers['mcp-session-id']) }, signal: left.signal },
  )
  const { progressToken } = await server.call(0)
  left.abort()
  await calling.catch(() => {})
  await pause(100)
  /** What became of the call, once the process has ended. */
  const record = async () => {
    const code = await worker.drain(30_000)
    const { spoolDir } = worker.config
    const names = (await readdir(spoolDir)).filter((name) => name.endsWith('.ready'))
    const texts = await Promise.all(names.map((name) => readFile(join(spoolDir, name), 'utf8')))
    const lines = texts.flatMap((text) => text.trimEnd().split('\n'))
    const events: WorkloadEvent[] = lines.map((line) => JSON.parse(line))
    const answers = events.filter(
      ({ meta, application }) =>
        meta.eventType === 'mcp.response' && application.mcp.mcpMethod === 'tools/call',
    )
    return { code, outcomes: answers.map(({ outcome }) => outcome) }
  }
  return { server, progressToken, record }
}

t.test(
  'what a server says to a client that left before its stream was open ends the call as it ended',
  async (t) => {
    proves(t, 'MCP-CANCEL-02', 'MCP-STREAM-02')
    const { server, progressToken, record } = await leave(t)
    server.tell(0, 'notifications/progress', { progressToken, progress: 1 })
    server.finish(0)
    const { code, outcomes } = await record()
    t.equal(code, 0)
    t.same(outcomes, [{ result: 'Passthrough' }])
    t.notOk(server.said.some(({ method }) => method === 'notifications/cancelled'))
  },
)

t.test('a question to a client that left is answered at once', async (t) => {
  proves(t, 'MCP-CANCEL-02', 'MCP-STREAM-02')
  const { server, record } = await leave(t)
  server.ask(0, 'sure')
  t.match(await server.answerTo('sure'), { error: { code: -32603, message: 'The client went away.' } })
  server.finish(0)
  const { code, outcomes } = await record()
  t.equal(code, 0)
  t.same(outcomes, [{ result: 'Passthrough' }])
})
