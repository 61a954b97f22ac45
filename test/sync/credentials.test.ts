import { spawnSync } from 'node:child_process'
import { stat, writeFile } from 'node:fs/promises'
import { request as httpRequest } from 'node:http'
import { connect } from 'node:net'
import t, { type Test } from 'tap'
import {
  type CredentialAnswer,
  type CredentialRequest,
  credentialAnswerSchema,
  sealingKeysSchema,
} from '../../shared/wire/credential.ts'
import { proves } from '../requirements.ts'
import { ManualClock } from '../rig/manual-clock.ts'
import { type SyncRun, startRig } from './rig.ts'
import { until } from './support.ts'

const ann = { issuer: 'https://gw.test', subject: 'ann@x.test', clientId: 'c1', serverId: 's1' }
const token = (value: string, expiresAt: string | null = null): CredentialAnswer => ({
  kind: 'headers',
  headers: [{ name: 'authorization', value: `Bearer ${value}` }],
  expiresAt,
  credentialProviderId: 'p1',
})
const ask = (run: SyncRun, more: Partial<CredentialRequest> = {}): Promise<CredentialAnswer> =>
  run.http.json(
    { method: 'POST', path: '/v1/credentials', body: { ...ann, ...more } },
    credentialAnswerSchema,
  )

/** Reads /v1/invalidations until the test ends. */
const listen = async (t: Test, run: SyncRun): Promise<{ data: string[]; ended: () => boolean }> => {
  const data: string[] = []
  let open = false
  let ended = false
  const abort = new AbortController()
  t.teardown(() => abort.abort())
  const stream = run.http.events({ path: '/v1/invalidations', idleMs: 10_000, signal: abort.signal }, () => {
    open = true
  })
  void (async () => {
    for await (const event of stream) data.push(`${event.event} ${event.data}`)
    ended = true
  })().catch(() => {
    ended = true
  })
  await until(() => open, 'the event stream')
  return { data, ended: () => ended }
}

t.test('50 asks at once are one call; a minute later one more', async (t) => {
  const { plane, sync } = await startRig(t)
  const clock = new ManualClock(Date.now())
  plane.now = () => clock.now()
  const run = await sync({ clock })
  await until(() => plane.streams === 1, 'the stream')
  let release = (): void => {}
  const held = new Promise<void>((resolve) => {
    release = resolve
  })
  plane.credential = async () => {
    await held
    return token('one')
  }
  const asks = Array.from({ length: 50 }, () => ask(run))
  await until(() => plane.credentialRequests.length > 0, 'the call')
  release()
  for (const answer of await Promise.all(asks)) t.same(answer, token('one'))
  t.equal(plane.credentialRequests.length, 1)
  await Promise.all([
    ask(run, { subject: 'bob@x.test' }),
    ask(run, { serverId: 's2' }),
    ask(run, { issuer: 'i' }),
  ])
  t.equal(plane.credentialRequests.length, 4, 'each user, server and issuer has its own')
  clock.advance(59_000)
  await ask(run)
  t.equal(plane.credentialRequests.length, 4)
  clock.advance(2_000)
  await ask(run)
  t.equal(plane.credentialRequests.length, 5)
})

t.test(
  'another agent and other claims are other questions; what is refused or invalidated goes for all',
  async (t) => {
    proves(t, 'CRED-04')
    const { plane, sync } = await startRig(t)
    const run = await sync()
    await until(() => plane.streams === 1, 'the stream')
    let n = 0
    plane.credential = () => token(`v${++n}`)
    const all = async () => {
      const answers: CredentialAnswer[] = []
      for (const more of [
        {},
        { clientId: 'c2' },
        { browserIp: '192.0.2.1' },
        { claims: { sub: 'ann@x.test', groups: ['staff'] } },
        { claims: { sub: 'ann@x.test', groups: [] } },
      ])
        answers.push(await ask(run, more))
      return answers.map((answer) =>
        answer.kind === 'headers' ? answer.headers[0]?.value.slice(7) : answer.kind,
      )
    }
    const { data } = await listen(t, run)
    t.strictSame(await all(), ['v1', 'v2', 'v3', 'v4', 'v5'])
    t.strictSame(await all(), ['v1', 'v2', 'v3', 'v4', 'v5'])
    const key = { issuer: ann.issuer, subject: ann.subject, serverId: ann.serverId }
    plane.push('credential', key)
    await until(() => data.length === 1, 'the event')
    t.strictSame(await all(), ['v6', 'v7', 'v8', 'v9', 'v10'])
    t.same(await ask(run, { rejected: 'digest' }), token('v11'))
    t.strictSame(await all(), ['v11', 'v12', 'v13', 'v14', 'v15'])
    plane.dropStreams()
    await until(() => data.length === 2, 'the event')
    t.same(data[1], `credential ${JSON.stringify(key)}`, 'a gap names each user and server once')
  },
)

t.test('a refused credential is asked for anew, and its answer counts from then on', async (t) => {
  const { plane, sync } = await startRig(t)
  const run = await sync()
  plane.credential = ({ rejected }) => token(rejected ? 'new' : 'old')
  t.same(await ask(run), token('old'))
  t.same(await ask(run, { rejected: 'digest-of-old' }), token('new'))
  t.match(plane.credentialRequests.at(-1), { rejected: 'digest-of-old' })
  t.same(await ask(run), token('new'), 'from the cache')
  t.equal(plane.credentialRequests.length, 2)
})

t.test('a credential is kept no longer than it lives; what needs a person is not kept', async (t) => {
  const { plane, sync } = await startRig(t)
  const clock = new ManualClock(Date.now())
  plane.now = () => clock.now()
  const run = await sync({ clock })
  plane.credential = () => token('short', new Date(clock.now() + 20_000).toISOString())
  await ask(run)
  clock.advance(14_000)
  await ask(run)
  t.equal(plane.credentialRequests.length, 1)
  clock.advance(2_000)
  await ask(run)
  t.equal(plane.credentialRequests.length, 2)
  const link: CredentialAnswer = {
    kind: 'authorization_required',
    url: 'https://gw.test/connections/s2/connect?ticket=x',
    message: 'Connect',
    elicitationId: 'e',
  }
  plane.credential = () => link
  t.same(await ask(run, { serverId: 's2' }), link)
  t.same(await ask(run, { serverId: 's2' }), link)
  t.equal(plane.credentialRequests.length, 4)
})

t.test('control plane away: the last good answers for 15 minutes and not past its end', async (t) => {
  const { plane, sync } = await startRig(t)
  const clock = new ManualClock(Date.now())
  plane.now = () => clock.now()
  plane.gatewayTokenLifeMs = 3_600_000
  const run = await sync({ clock })
  plane.credential = ({ serverId }) =>
    token('t', serverId === 'short' ? new Date(clock.now() + 300_000).toISOString() : null)
  await ask(run)
  await ask(run, { serverId: 'short' })
  await plane.down()
  clock.advance(240_000)
  t.same(await ask(run), token('t'))
  t.match(await ask(run, { serverId: 'short' }), { kind: 'headers' })
  await t.rejects(ask(run, { rejected: 'x', serverId: 'never' }), { code: 'control_plane.unreachable' })
  clock.advance(120_000)
  await t.rejects(ask(run, { serverId: 'short' }), { code: 'control_plane.unreachable' }, 'it has ended')
  t.same(await ask(run), token('t'))
  clock.advance(541_000)
  await t.rejects(ask(run), { code: 'control_plane.unreachable' }, 'after 15 minutes')
  await t.rejects(ask(run, { subject: 'new' }), { code: 'control_plane.unreachable' })
})

t.test(
  'an invalidation drops the cached answer, also one on its way, and reaches every listener',
  async (t) => {
    const { plane, sync } = await startRig(t)
    const run = await sync()
    await until(() => plane.streams === 1, 'the stream')
    const one = await listen(t, run)
    const two = await listen(t, run)
    let value = 'before'
    let release = (): void => {}
    let hold = false
    plane.credential = async () => {
      const answer = token(value)
      if (hold) await new Promise<void>((resolve) => (release = resolve))
      return answer
    }
    await ask(run)
    value = 'after'
    const key = { issuer: ann.issuer, subject: ann.subject, serverId: ann.serverId }
    plane.push('credential', key)
    for (const { data } of [one, two]) {
      await until(() => data.length === 1, 'the event')
      t.same(data, [`credential ${JSON.stringify(key)}`])
    }
    t.same(await ask(run), token('after'))

    plane.push('credential', key)
    await until(() => one.data.length === 2, 'the event')
    hold = true
    const early = ask(run)
    await until(() => plane.credentialRequests.length === 3, 'the call')
    plane.push('credential', key)
    await until(() => one.data.length === 3, 'the event')
    value = 'newest'
    hold = false
    release()
    await early
    t.same(await ask(run), token('newest'), 'the answer from before the invalidation was not kept')
  },
)

t.test('a gap in the stream drops everything: an invalidation may have been missed', async (t) => {
  const { plane, sync } = await startRig(t)
  const run = await sync()
  await until(() => plane.streams === 1, 'the stream')
  plane.credential = () => token('x')
  await ask(run)
  const { data } = await listen(t, run)
  plane.dropStreams()
  await until(() => data.length === 1, 'the event')
  await ask(run)
  t.equal(plane.credentialRequests.length, 2)
})

t.test('keys: asked once, kept in memory while the control plane is away, never on disk', async (t) => {
  const { plane, sync, dir } = await startRig(t)
  const clock = new ManualClock(Date.now())
  plane.now = () => clock.now()
  plane.gatewayTokenLifeMs = 3_600_000
  const run = await sync({ clock })
  const keys = () => run.http.json({ path: '/v1/keys' }, sealingKeysSchema)
  for (const answer of await Promise.all(Array.from({ length: 10 }, keys))) t.same(answer, plane.keys)
  t.equal(plane.count('GET /gateway/v1/keys'), 1)
  await plane.down()
  clock.advance(120_000)
  t.same(await keys(), plane.keys)
  const secrets = [plane.keys.keys[0]?.key ?? '', ...plane.gatewayTokens]
  for (const secret of secrets) {
    t.equal(spawnSync('grep', ['-rqF', '--', secret, `${dir}/state`]).status, 1, 'not on disk')
    t.notMatch(run.text(), secret, 'nor in a log')
  }
})

t.test('a token that the control plane forgot is replaced within the same ask', async (t) => {
  const { plane, sync } = await startRig(t)
  const clock = new ManualClock(Date.now())
  plane.now = () => clock.now()
  const run = await sync({ clock })
  await until(() => plane.streams === 1, 'the stream')
  clock.advance(5_000)
  plane.gatewayTokens.clear()
  plane.credential = () => token('x')
  t.same(await ask(run), token('x'))
  t.equal(plane.count('POST /controller/v1/gateway-enrolments'), 2)
})

t.test(
  'the socket: private, a stale file is replaced, bad requests are answered and it lives on',
  async (t) => {
    const { plane, sync, dir } = await startRig(t)
    await writeFile(`${dir}/sync.sock`, 'left by a dead process')
    const run = await sync()
    t.equal((await stat(run.config.socketPath)).mode & 0o777, 0o600)
    const send = (path: string, method: string, body?: string): Promise<number> =>
      new Promise((resolve, reject) => {
        const outgoing = httpRequest({ socketPath: run.config.socketPath, path, method }, (response) => {
          response.resume()
          resolve(response.statusCode ?? 0)
        })
        outgoing.on('error', reject)
        outgoing.end(body)
      })
    t.equal(await send('/v1/credentials', 'POST', '{'), 400)
    t.equal(await send('/v1/credentials', 'POST', '{"issuer":1}'), 400)
    t.equal(await send('/v1/credentials', 'POST', JSON.stringify({ x: 'y'.repeat(70_000) })), 413)
    t.equal(await send('/v1/credentials', 'GET'), 404)
    const socket = connect(run.config.socketPath)
    socket.end('nonsense\r\n\r\n')
    await new Promise((resolve) => socket.once('close', resolve).resume())
    plane.broken.add('/gateway/v1/credentials')
    await t.rejects(ask(run), { code: 'control_plane.unreachable' })
    plane.broken.clear()
    plane.credential = () => token('x')
    t.same(await ask(run), token('x'))
    const { ended } = await listen(t, run)
    t.equal(await run.child.drain(1_000), 0)
    await until(ended, 'the streams to end')
    await t.rejects(ask(run), { code: 'control_plane.unreachable' })
  },
)
