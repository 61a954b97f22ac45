import t from 'tap'
import type { JsonObject } from '../../../services/proxy/mcp/protocol/types.ts'
import { post, startLegacy } from './legacy-server.ts'
import { type ModernRequest, modernMeta, startScripted } from './modern-server.ts'
import { type Rig, startRig } from './rig.ts'

const extension = 'io.modelcontextprotocol/tasks'
const able = { extensions: { [extension]: {} } }
const ask = (rig: Rig, method: string, params: JsonObject, headers = {}, capabilities: JsonObject = able) =>
  post(rig, method, { ...params, _meta: modernMeta(capabilities) }, headers)

/** A server that answers each call by a task when it may. */
const startTasking = () =>
  startScripted(({ method, params }: ModernRequest) => {
    const { extensions } = params._meta['io.modelcontextprotocol/clientCapabilities'] as typeof able
    if (method === 'tools/call' && params.name === 'rude')
      return { result: { resultType: 'task', taskId: 'x' } }
    if (method === 'tools/call' && !extensions) return { result: { content: [] } }
    const task = { taskId: 'inner-1', createdAt: 'now', lastUpdatedAt: 'now', ttlMs: null }
    if (method === 'tools/call') return { result: { resultType: 'task', status: 'working', ...task } }
    if (params.taskId !== 'inner-1') return { error: { code: -32602, message: 'no such task' } }
    if (method === 'tasks/get') {
      return { result: { ...task, status: 'input_required', inputRequests: { q: { method: 'roots/list' } } } }
    }
    return { result: {} }
  })

t.test('tasks of modern servers, under ids of the gateway', async (t) => {
  const [server, rig] = await Promise.all([startTasking(), startRig()])
  t.teardown(() => Promise.all([server.close(), rig.close()]))
  rig.setServers([{ prefix: 'a', url: server.url }])
  const discovered = await ask(rig, 'server/discover', {})
  t.match(discovered.last.result, { capabilities: { extensions: { [extension]: {} } } })

  const { last } = await ask(rig, 'tools/call', { name: 'a_slow' })
  t.match(last.result, { resultType: 'task', status: 'working', taskId: String })
  const taskId = last.result?.taskId as string
  t.notMatch(taskId, /inner/)
  const got = await ask(rig, 'tasks/get', { taskId })
  t.match(got.last.result, {
    resultType: 'complete',
    status: 'input_required',
    taskId,
    inputRequests: { q: {} },
  })
  await ask(rig, 'tasks/update', { taskId, inputResponses: { q: { roots: [] } } })
  await ask(rig, 'tasks/cancel', { taskId })
  t.match(
    server.calls().map(({ method, params, headers }) => [method, params.taskId, headers['mcp-name']]),
    [
      ['tools/call', undefined, 'slow'],
      ['tasks/get', 'inner-1', 'inner-1'],
      ['tasks/update', 'inner-1', 'inner-1'],
      ['tasks/cancel', 'inner-1', 'inner-1'],
    ],
  )
  t.match(server.calls().at(2)?.params.inputResponses, { q: { roots: [] } })

  const calls = server.calls().length
  for (const [params, headers] of [
    [{ taskId }, { 'x-subject': 'bob' }],
    [{ taskId: 'inner-1' }, {}],
    [{ taskId: `${taskId.slice(0, -2)}AA` }, {}],
    [{}, {}],
  ] as const) {
    t.match((await ask(rig, 'tasks/get', params, headers)).last.error, { code: -32602 })
  }
  rig.setServers([{ prefix: 'a', url: server.url }], ['a'])
  t.match((await ask(rig, 'tasks/get', { taskId })).last.error, { code: 4030 }, 'policy is asked each time')
  t.equal(server.calls().length, calls, 'none of these reached the server')
})

t.test('a client that did not declare tasks', async (t) => {
  const [server, rig] = await Promise.all([startTasking(), startRig()])
  t.teardown(() => Promise.all([server.close(), rig.close()]))
  rig.setServers([{ prefix: 'a', url: server.url }])
  t.match((await ask(rig, 'tools/call', { name: 'a_slow' }, {}, {})).last.result, { resultType: 'complete' })
  const refused = await ask(rig, 'tasks/get', { taskId: 'x' }, {}, {})
  t.equal(refused.status, 400)
  t.match(refused.last.error, {
    code: -32021,
    data: { requiredCapabilities: { extensions: { [extension]: {} } } },
  })
  t.match((await ask(rig, 'tools/call', { name: 'a_rude' }, {}, {})).last.error, { code: 5022 })
  const legacy = await post(rig, 'tools/call', { name: 'a_rude' })
  t.match(legacy.last.error, { code: 5022 }, 'the same for a legacy client')
  t.match((await post(rig, 'tasks/get', { taskId: 'x' })).last.error, { code: -32601 })
})

t.test(
  'legacy servers are told nothing of tasks, and their tools that need them are not listed',
  async (t) => {
    const rig = await startRig()
    const server = await startLegacy(() => {}, {
      methods: {
        'tools/list': (body, response) =>
          response.writeHead(200, { 'content-type': 'application/json' }).end(
            JSON.stringify({
              jsonrpc: '2.0',
              id: body.id,
              result: {
                tools: ['required', 'optional'].map((taskSupport) => ({
                  name: taskSupport,
                  inputSchema: { type: 'object' },
                  execution: { taskSupport },
                })),
              },
            }),
          ),
      },
    })
    t.teardown(() => Promise.all([server.close(), rig.close()]))
    rig.setServers([{ prefix: 'a', url: server.url }])
    const { last } = await ask(rig, 'tools/list', {})
    t.same(
      (last.result!.tools as { name: string }[]).map(({ name }) => name),
      ['a_optional'],
    )
    const initialize = server.seen.find(({ method }) => method === 'initialize')
    t.same((initialize!.body as { params: { capabilities: object } }).params.capabilities, {})
  },
)
