import t from 'tap'
import type { WorkloadEvent } from '../../shared/wire/event.ts'
import { isAlive, type Role, startRig, textOf } from '../rig/world.ts'

/** `kill -9` of any process of the gateway: the next request works with the same token and the same session. */
const rig = await startRig()
t.teardown(() => rig.end())

const agent = rig.agent('ann', { era: 'legacy' })
await agent.connect()
const token = agent.provider.stored?.access_token ?? ''
const headers: Record<string, string> = {
  authorization: `Bearer ${token}`,
  'content-type': 'application/json',
  accept: 'application/json, text/event-stream',
}

const post = async (
  message: object,
): Promise<{ status: number; session: string | null; result: unknown }> => {
  const answer = await agent.fetch(rig.url, {
    method: 'POST',
    headers,
    body: JSON.stringify({ jsonrpc: '2.0', ...message }),
    signal: AbortSignal.timeout(20_000),
  })
  const text = await answer.text()
  const data = /^data: (.*)$/m.exec(text)?.[1] ?? text
  const result = data === '' ? undefined : (JSON.parse(data) as { result: unknown }).result
  return { status: answer.status, session: answer.headers.get('mcp-session-id'), result }
}

const opened = await post({
  id: 1,
  method: 'initialize',
  params: { protocolVersion: '2025-11-25', capabilities: {}, clientInfo: { name: 'test', version: '1' } },
})
headers['mcp-session-id'] = opened.session ?? ''
headers['mcp-protocol-version'] = '2025-11-25'
await post({ method: 'notifications/initialized' })

let id = 1
const echo = async (message: string): Promise<string> => {
  const params = { name: 'everything_echo', arguments: { message } }
  const { status, result } = await post({ id: ++id, method: 'tools/call', params })
  return status === 200 ? textOf(result) : `status ${status}`
}
const weather = async (): Promise<string> => {
  const params = { name: 'weather_get_weather', arguments: { city: 'Bern' } }
  return textOf((await post({ id: ++id, method: 'tools/call', params })).result)
}

await t.test('before', async (t) => {
  t.ok(opened.session, 'there is a session')
  t.equal(await echo('before'), 'Echo: before')
})

/** A request on a connection that died is the client's to send again: it can not be known how far it came. */
const untilAnswered = async (work: () => Promise<string>): Promise<string> => {
  const deadline = Date.now() + 15_000
  for (;;) {
    try {
      return await work()
    } catch (error) {
      if (Date.now() > deadline) throw error
      await new Promise((resolve) => setTimeout(resolve, 50))
    }
  }
}

/** What a killed proxy had not written yet is lost, some 25 ms: so each call's events are awaited before the next kill. */
let calls = 1
const recorded = async (): Promise<number> => {
  const echoes = (all: WorkloadEvent[]): number =>
    all.filter(
      ({ meta, application }) => application.mcp.mcpToolName === 'echo' && meta.eventType === 'mcp.response',
    ).length
  return echoes(await rig.events(agent.provider.client?.client_id ?? '', (all) => echoes(all) >= calls))
}

for (const role of ['front', 'proxy', 'sync'] as const satisfies Role[]) {
  await t.test(`kill -9 ${role}`, async (t) => {
    const others = (['front', 'proxy', 'sync'] as const).filter((other) => other !== role)
    const before = Object.fromEntries(others.map((other) => [other, rig.pids(other)]))
    t.equal(await recorded(), calls++, 'the events of all calls so far have arrived, once')
    const killed = rig.kill(role)
    t.ok(killed.length > 0, 'something was killed')
    t.equal(
      await untilAnswered(() => echo(`after ${role}`)),
      `Echo: after ${role}`,
      'same token, same session',
    )
    t.match(await untilAnswered(weather), /^Bern: /, 'credentials are there too')
    const deadline = Date.now() + 10_000
    while (rig.pids(role).length === 0 && Date.now() < deadline)
      await new Promise((resolve) => setTimeout(resolve, 50))
    const now = rig.pids(role)
    t.ok(now.length > 0 && now.every((pid) => !killed.includes(pid)), 'a successor runs')
    t.notOk(killed.some(isAlive))
    for (const other of others) t.same(rig.pids(other), before[other], `${other} was left alone`)
  })
}

await t.test('all three at once', async (t) => {
  t.equal(await recorded(), calls, 'the events of all calls so far have arrived')
  for (const role of ['front', 'proxy', 'sync'] as const) rig.kill(role)
  t.equal(await untilAnswered(() => echo('after all')), 'Echo: after all')
  calls++
  t.equal(await recorded(), calls, 'no event was lost on the way')
})
