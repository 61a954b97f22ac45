import t from 'tap'
import { proves } from '../requirements.ts'
import { startBadServer } from '../rig/bad-servers.ts'
import { withServers } from '../rig/servers.ts'
import { startRig, textOf } from '../rig/world.ts'

/** The kill switch through the whole appliance: what runs is ended, what comes is refused, and it can be taken back. */
const hangs = await startBadServer('hangs')
t.teardown(() => hangs.close())
const rig = await startRig({ edit: (yaml) => withServers(yaml, [{ id: 'hangs', url: hangs.url }]) })
t.teardown(() => rig.end())
const ann = rig.agent('ann', { era: 'legacy' })
const client = await ann.connect()
const bob = await rig.agent('bob', { era: 'legacy' }).connect()
const clientId = (ann.provider.client as { client_id: string }).client_id

interface Entry {
  externalId: string
}
const kill = async (kind: string, value: string): Promise<() => Promise<unknown>> => {
  const made = (await rig.admin('POST', '/api/v1/kill-switch', { kind, value, reason: 'a test' })) as Entry
  return () => rig.admin('DELETE', `/api/v1/kill-switch/${made.externalId}`)
}
const echo = async (who: typeof client): Promise<string> =>
  textOf(await who.callTool({ name: 'everything_echo', arguments: { message: 'here' } }))
/** Resolves once the gateway answers as `expected` says; the test's own time-out ends it otherwise. */
const until = async (who: typeof client, expected: (outcome: string) => boolean): Promise<string> => {
  for (;;) {
    const outcome = await echo(who).catch((error: unknown) => String(error))
    if (expected(outcome)) return outcome
    await new Promise((resolve) => setTimeout(resolve, 20))
  }
}
const works = (outcome: string): boolean => outcome === 'Echo: here'

/** A call that its server never answers; resolves with how it ended. */
const hanging = async (): Promise<string> => {
  const before = hangs.seen.filter((method) => method === 'tools/call').length
  const call = client.callTool({ name: 'hangs_work', arguments: {} }).then(
    (result) => `${result.isError ? 'error' : 'result'} ${textOf(result)}`,
    (error: unknown) => String(error),
  )
  while (hangs.seen.filter((method) => method === 'tools/call').length === before) {
    await new Promise((resolve) => setTimeout(resolve, 10))
  }
  return call
}

for (const [kind, value, refusal] of [
  ['user', 'ann@example.com', /No policy lets this client and user/],
  ['client', clientId, /No policy lets this client and user/],
] as const) {
  await t.test(`by ${kind}: ends what runs, refuses what comes, leaves others alone`, async (t) => {
    const running = hanging()
    const started = await Promise.race([running, new Promise((resolve) => setTimeout(resolve, 500))])
    t.equal(started, undefined, 'it runs')
    const revert = await kill(kind, value)
    t.match(await running, refusal, 'the running call ended')
    t.match(await until(client, (outcome) => !works(outcome)), refusal)
    t.equal(await echo(bob), 'Echo: here', 'another person goes on')
    await revert()
    t.equal(await until(client, works), 'Echo: here', 'and it works again, with the same token and session')
  })
}

await t.test('by server: its calls end and its tools are gone, for everyone', async (t) => {
  proves(t, 'KILL-02')
  const running = hanging()
  await Promise.race([running, new Promise((resolve) => setTimeout(resolve, 500))])
  const revert = await kill('server', 'hangs')
  t.match(await running, /Policy does not allow this/)
  const names = async () => (await client.listTools()).tools.map(({ name }) => name)
  while ((await names()).includes('hangs_work')) await new Promise((resolve) => setTimeout(resolve, 20))
  await t.rejects(client.callTool({ name: 'hangs_work', arguments: {} }), /Policy does not allow this/)
  t.equal(await echo(client), 'Echo: here', 'other servers go on')
  await revert()
  while (!(await names()).includes('hangs_work')) await new Promise((resolve) => setTimeout(resolve, 20))
})

await t.test('by token: that one is refused with 401 and a refresh brings another', async (t) => {
  proves(t, 'KILL-03')
  const token = ann.provider.stored!.access_token
  const status = async (): Promise<number> =>
    (
      await ann.fetch(rig.url, {
        method: 'POST',
        headers: {
          authorization: `Bearer ${token}`,
          'content-type': 'application/json',
          accept: 'application/json, text/event-stream',
        },
        body: '{"jsonrpc":"2.0","id":1,"method":"ping"}',
      })
    ).status
  t.not(await status(), 401)
  await kill('token', token)
  while ((await status()) !== 401) await new Promise((resolve) => setTimeout(resolve, 20))
  t.equal(await until(client, works), 'Echo: here', 'the client refreshed by itself')
  t.not(ann.provider.stored!.access_token, token)
})

await t.test('a blocked person can neither refresh nor sign in', async (t) => {
  proves(t, 'KILL-04')
  const revert = await kill('user', 'bob@example.com')
  await t.rejects(rig.agent('bob').connect(), /sign/i)
  await revert()
  t.ok(await rig.agent('bob').connect())
})
