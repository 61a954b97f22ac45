import { statSync } from 'node:fs'
import t from 'tap'
import { proves } from '../../requirements.ts'
import { token } from '../edge/fakes.ts'
import { startAsking } from '../mcp/asking-server.ts'
import { type Message, modern, startWorkers, type Worker } from './workers.ts'

const able = { elicitation: { form: {} } }
const go = (more: object = {}) => modern('tools/call', { name: 'a_go', arguments: {}, ...more }, able)
const at = (worker: Worker, { message, headers }: ReturnType<typeof modern>, more: object = {}) =>
  worker.ask(message, { headers, ...more })

async function startTwo(t: { teardown(end: () => Promise<void>): void }) {
  const server = await startAsking({ tools: {}, logging: {} })
  const workers = await startWorkers({ servers: [{ prefix: 'a', url: server.url }] })
  t.teardown(async () => {
    await workers.close()
    await server.close()
  })
  const [first, second] = await Promise.all([workers.start(), workers.start()])
  return { server, workers, first, second }
}

const open = async (worker: Worker, capabilities = {}): Promise<Record<string, string>> => {
  const params = { protocolVersion: '2025-11-25', capabilities, clientInfo: { name: 'c', version: '1' } }
  const { headers } = await worker.ask({ id: 0, method: 'initialize', params })
  return { 'mcp-session-id': String(headers['mcp-session-id']) }
}

t.test('a retry finds its call at the worker that holds it, also while that one drains', async (t) => {
  const { server, workers, first, second } = await startTwo(t)
  t.equal(statSync(first.config.peer.socketPath).mode & 0o777, 0o600)

  const calling = at(first, go())
  await server.call(0)
  server.ask(0, 'name')
  const asked = (await calling).last.result
  t.equal(asked.resultType, 'input_required')
  const retry = (requestState: string, more: object = {}) =>
    go({ requestState, inputResponses: { q1: { action: 'accept', content: { name: 'Ann' } } }, ...more })

  const foreign = await at(second, retry(asked.requestState), {
    token: await token({ sub: 'bob@corp.test' }),
  })
  t.match(foreign.last.error, { code: -32602 }, 'not for another person')

  const messages: Message[] = []
  const resumed = at(second, retry(asked.requestState), {
    onMessage: (message: Message) => messages.push(message),
  })
  t.match((await server.answerTo('name')).result, { content: { name: 'Ann' } })
  server.ask(0, 'more')
  const more = (await resumed).last.result
  t.match(more, { resultType: 'input_required', inputRequests: { q2: { params: { message: 'more' } } } })

  const third = await workers.start()
  const drained = first.drain(30_000)
  const last = at(
    third,
    go({ requestState: more.requestState, inputResponses: { q2: { action: 'decline' } } }),
  )
  await server.answerTo('more')
  server.finish(0, 'through three workers')
  t.match((await last).last.result, { content: [{ text: 'through three workers' }] })
  t.equal(await drained, 0, 'the drained worker ends once its call is answered')

  const late = await at(third, retry(more.requestState))
  t.match(late.last.error, { code: 4080 }, 'its worker is gone: told clearly')
})

t.test('a killed worker: a tool’s call is told as lost, a prompt is asked anew', async (t) => {
  proves(t, 'MCP-PARKED-LOST-01')
  const { server, first, second } = await startTwo(t)
  const prompt = (more: object = {}) => modern('prompts/get', { name: 'a_p', ...more }, able)
  const answers = (requestState: string) => ({
    requestState,
    inputResponses: { q1: { action: 'accept', content: { name: 'Ann' } } },
  })
  const tool = at(first, go())
  await server.call(0)
  server.ask(0, 'name')
  const ofTool = (await tool).last.result
  const getting = at(first, prompt())
  await server.call(1)
  server.ask(1, 'which')
  const ofPrompt = (await getting).last.result
  t.match([ofTool, ofPrompt], [{ resultType: 'input_required' }, { resultType: 'input_required' }])
  await first.kill()

  const lost = await at(second, go(answers(ofTool.requestState)))
  t.match(lost.last.error, {
    code: 4080,
    message: /not known.*Call again without requestState/,
    data: { reason: 'question.lost', retry: true },
  })
  t.equal(server.calls.length, 2, 'a tool that may have done something is not called again')

  const again = at(second, prompt(answers(ofPrompt.requestState)))
  await server.call(2)
  server.ask(2, 'which')
  const asked = (await again).last.result
  t.match(asked, { resultType: 'input_required', inputRequests: { q1: { params: { message: 'which' } } } })
  const done = at(second, prompt(answers(asked.requestState)))
  await server.answerTo('which')
  server.finish(2, 'a prompt')
  t.match((await done).last.result, { resultType: 'complete' })
})

t.test('a client that leaves during a retry cancels the call at its holder', async (t) => {
  const { server, first, second } = await startTwo(t)
  const calling = at(first, go())
  const { id } = await server.call(0)
  server.ask(0, 'name')
  const { requestState } = (await calling).last.result
  const gone = new AbortController()
  const leaving = at(second, go({ requestState, inputResponses: { q1: { action: 'accept' } } }), {
    signal: gone.signal,
  })
  await server.answerTo('name')
  gone.abort()
  await t.rejects(leaving)
  await server.cancelled(id)
})

t.test('progress of a resumed call reaches the client through the other worker', async (t) => {
  const { server, first, second } = await startTwo(t)
  const start = go()
  Object.assign(start.message.params._meta, { progressToken: 'mine' })
  const calling = at(first, start)
  const { id } = await server.call(0)
  server.ask(0, 'name')
  const { requestState } = (await calling).last.result
  const again = go({ requestState, inputResponses: { q1: { action: 'accept' } } })
  Object.assign(again.message.params._meta, { progressToken: 'again' })
  const messages: Message[] = []
  const resumed = at(second, again, {
    onMessage(message: Message) {
      messages.push(message)
      if (message.method) server.finish(0)
    },
  })
  await server.answerTo('name')
  server.tell(0, 'notifications/progress', { progressToken: id, progress: 1 })
  await resumed
  t.match(messages[0], { method: 'notifications/progress', params: { progressToken: 'again', progress: 1 } })
})

t.test('the answer to a live question, POSTed to another worker', async (t) => {
  const { server, first, second } = await startTwo(t)
  const session = await open(first, { elicitation: {} })
  const stranger = await open(first, { elicitation: {} })
  const call = first.ask(
    { id: 5, method: 'tools/call', params: { name: 'a_go' } },
    {
      headers: session,
      async onMessage(message) {
        if (message.method !== 'elicitation/create') return
        await second.ask({ id: message.id, result: { action: 'wrong' } }, { headers: stranger })
        const { status } = await second.ask(
          { id: message.id, result: { action: 'accept' } },
          { headers: session },
        )
        t.equal(status, 202)
      },
    },
  )
  await server.call(0)
  server.ask(0, 'sure')
  t.match((await server.answerTo('sure')).result, { action: 'accept' }, 'of its own session alone')
  server.finish(0)
  t.match((await call).last, { id: 5, result: { content: [{ text: 'done' }] } })
})

t.test('notifications/cancelled, sent to another worker', async (t) => {
  const { server, first, second } = await startTwo(t)
  const session = await open(first)
  const stranger = await open(first)
  const call = first.ask({ id: 9, method: 'tools/call', params: { name: 'a_go' } }, { headers: session })
  const { id } = await server.call(0)
  const cancel = { method: 'notifications/cancelled', params: { requestId: 9 } }
  await second.ask(cancel, { headers: stranger })
  await second.ask(cancel, { headers: session })
  t.equal((await call).last, undefined, 'no answer any more')
  await server.cancelled(id)
  t.equal(server.said.filter(({ method }) => method === 'notifications/cancelled').length, 1)
})

t.test('a session ended at one worker is ended at all, and at those that start later', async (t) => {
  const { workers, first, second } = await startTwo(t)
  const session = await open(first)
  const list = { id: 1, method: 'ping' }
  t.equal((await second.ask(list, { headers: session })).status, 200)
  t.equal((await first.ask(null, { headers: session })).status, 204)
  t.equal((await second.ask(list, { headers: session })).status, 404)
  const third = await workers.start()
  t.equal((await third.ask(list, { headers: session })).status, 404)
})

t.test('a log level set at one worker counts at all, and at those that start later', async (t) => {
  const { server, workers, first, second } = await startTwo(t)
  const session = await open(first)
  await first.ask({ id: 1, method: 'logging/setLevel', params: { level: 'warning' } }, { headers: session })
  const levels = () => server.said.filter(({ method }) => method === 'logging/setLevel')
  for (const [at, worker] of [second, await workers.start()].entries()) {
    const call = worker.ask({ id: 2, method: 'tools/call', params: { name: 'a_go' } }, { headers: session })
    await server.call(at)
    server.finish(at)
    await call
    t.match(levels()[at]?.params, { level: 'warning' })
  }
})
