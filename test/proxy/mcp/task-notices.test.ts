import type { ServerResponse } from 'node:http'
import { Client, StreamableHTTPClientTransport } from '@modelcontextprotocol/client'
import { createTaskSessionFromClient, resultFromTaskOutcome } from '@modelcontextprotocol/ext-tasks/client'
import t from 'tap'
import type { JsonObject } from '../../../services/proxy/mcp/protocol/types.ts'
import { startFixture } from '../../conformance/fixture/server.ts'
import { proves } from '../../requirements.ts'
import { post } from './legacy-server.ts'
import { modernMeta } from './modern-server.ts'
import { listenRaw, until } from './notices-peers.ts'
import { startRig, startUpstream } from './rig.ts'

const extension = 'io.modelcontextprotocol/tasks'
const able = { extensions: { [extension]: {} } }
const told = 'notifications/tasks'

/** A modern server whose every call is a task, and that says of tasks what the test tells it to. */
async function startTeller() {
  const streams = new Set<ServerResponse>()
  const filters: JsonObject[] = []
  let last = 0
  const server = await startUpstream((_request, text, response) => {
    const { id, method, params } = JSON.parse(text)
    if (method === 'subscriptions/listen') {
      filters.push(params.notifications)
      response.writeHead(200, { 'content-type': 'text/event-stream' })
      streams.add(response)
      response.on('close', () => streams.delete(response))
      return send(response, {
        method: 'notifications/subscriptions/acknowledged',
        params: { notifications: params.notifications },
      })
    }
    const result =
      method === 'server/discover'
        ? { supportedVersions: ['2026-07-28'], capabilities: { tools: {}, extensions: able.extensions } }
        : { resultType: 'task', ...task(`inner-${++last}`) }
    response
      .writeHead(200, { 'content-type': 'application/json' })
      .end(JSON.stringify({ jsonrpc: '2.0', id, result: { resultType: 'complete', ...result } }))
  })
  const send = (response: ServerResponse, message: object): void =>
    void response.write(`data: ${JSON.stringify({ jsonrpc: '2.0', ...message })}\n\n`)
  return {
    ...server,
    filters,
    streams,
    say: (params: JsonObject) => {
      for (const stream of streams) send(stream, { method: told, params })
    },
  }
}

const task = (taskId: string, more: JsonObject = {}): JsonObject => ({
  taskId,
  status: 'working',
  createdAt: '2026-07-28T00:00:00Z',
  lastUpdatedAt: '2026-07-28T00:00:00Z',
  ttlMs: null,
  ...more,
})

t.test('a client that listens is told of its tasks', async (t) => {
  proves(t, 'MCP-TASK-NOTICE-01')
  const [rig, server] = await Promise.all([startRig(), startTeller()])
  t.teardown(() => Promise.all([rig.close(), server.close()]))
  const servers = [{ prefix: 'a', url: server.url }]
  rig.setServers(servers)
  const start = async (): Promise<string> => {
    const { last } = await post(rig, 'tools/call', { name: 'a_slow', _meta: modernMeta(able) })
    return last.result?.taskId as string
  }
  const [first, second] = [await start(), await start()]
  const listen = (taskIds: string[], headers = {}, capabilities: JsonObject = able) =>
    listenRaw(rig, { taskIds }, { headers, capabilities })

  const stream = await listen([first, 'made-up'])
  t.match(await stream.until(() => true), { params: { notifications: { taskIds: [first] } } })
  t.same(server.filters.at(-1), { taskIds: ['inner-1'] })
  server.say(task('inner-2'))
  server.say(task('inner-1', { status: 'completed', result: { content: [] } }))
  const notice = await stream.until(({ method }) => method === told)
  t.match(notice.params, { taskId: first, status: 'completed', result: { content: [] } })
  t.equal(stream.messages.filter(({ method }) => method === told).length, 1, 'of no other task')

  rig.setServers(servers, ['a'])
  await until(() => server.streams.size === 0)
  t.pass('a server that policy closed is left')
  stream.abort()

  rig.setServers(servers)
  const bob = await listen([second], { 'x-subject': 'bob' })
  t.match(await bob.until(() => true), { params: { notifications: {} } })
  await bob.ended
  t.notOk(
    bob.messages.some(({ params }) => (params?.notifications as JsonObject)?.taskIds),
    'the task of another person is none',
  )
  const unable = await listen([second], {}, {})
  await unable.ended
  t.match(unable.messages, [{ error: { code: -32021 } }])
})

t.test('the official client of the extension, through the gateway', async (t) => {
  proves(t, 'MCP-TASK-01')
  const [rig, fixture] = await Promise.all([startRig(), startFixture()])
  t.teardown(() => Promise.all([rig.close(), fixture.close()]))
  rig.setServers([{ prefix: 'a', url: fixture.url }])
  const clientInfo = { name: 'tasks', version: '1' }
  const clientCapabilities = { elicitation: { form: {} }, ...able }
  const client = new Client(clientInfo, {
    versionNegotiation: { mode: { pin: '2026-07-28' } },
    capabilities: clientCapabilities,
  })
  await client.connect(new StreamableHTTPClientTransport(rig.url))
  t.teardown(() => client.close())
  const session = createTaskSessionFromClient(client, {
    endpointId: 'gateway',
    v2RequestFraming: { protocolVersion: '2026-07-28', clientInfo, clientCapabilities },
    rawDispatch: async (request) => {
      const { method, params } = request as { method: string; params: JsonObject }
      const { last } = await post(rig, method, params)
      const { result, error } = last
      return error ? { kind: 'error', error: error as never } : { kind: 'result', result: result as never }
    },
    onInputRequest: async () => ({ action: 'accept', content: { confirm: 'yes' } }) as never,
  })
  t.teardown(() => session.close())
  const call = async (name: string, args: Record<string, string | number>) => {
    const execution = await session.callTool(name, args)
    return { kind: execution.kind, outcome: (await execution.settle()).outcome }
  }
  const slow = await call('a_slow_compute', { seconds: 0.1 })
  t.equal(slow.kind, 'task')
  t.match(resultFromTaskOutcome(slow.outcome), { content: [{ text: 'computed for 0.1 s' }] })
  const asked = await call('a_confirm_delete', { filename: 'x' })
  t.match(resultFromTaskOutcome(asked.outcome), { content: [{ text: 'x is deleted' }] })
  const failed = await call('a_protocol_error_job', {})
  t.equal(failed.outcome.status, 'failed')
  t.equal((await call('a_greet', { name: 'Ann' })).kind, 'immediate')
})
