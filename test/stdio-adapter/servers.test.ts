import { mkdtempSync, readdirSync, realpathSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t from 'tap'
import { stderrLog } from '../../services/stdio-adapter/stderr-log.ts'
import type { Logger } from '../../shared/log.ts'
import { post } from '../proxy/mcp/legacy-server.ts'
import { modernMeta } from '../proxy/mcp/modern-server.ts'
import { type Rig, startRig } from '../proxy/mcp/rig.ts'
import { proves } from '../requirements.ts'
import { everything, filesystem, namespaces, node, scripted, startAdapter, until } from './rig.ts'

t.setTimeout(240_000)
/** A process takes its time to start on a busy machine. */
const timeouts = { initialize: 30_000, tools_list: 30_000, tools_call: 30_000 }
const local = (name: string, more: object = {}) => ({ prefix: name, url: `stdio:${name}`, ...more })
const session = async (rig: Rig, headers: Record<string, string> = {}) => {
  const opened = await post(
    rig,
    'initialize',
    { protocolVersion: '2025-11-25', capabilities: {}, clientInfo: { name: 'c', version: '1' } },
    headers,
  )
  return { ...headers, 'mcp-session-id': opened.headers.get('mcp-session-id')! }
}
const textOf = (answer: Awaited<ReturnType<typeof post>>): unknown => {
  const [content] = (answer.last.result?.content ?? []) as { text: string }[]
  return content && JSON.parse(content.text)
}

t.test('server-everything and server-filesystem over stdio, for clients of both eras', async (t) => {
  proves(t, 'MCP-STDIO-01')
  const folder = realpathSync(mkdtempSync(join(tmpdir(), 'files-')))
  writeFileSync(join(folder, 'note.txt'), 'hello from a file')
  const adapter = await startAdapter({
    everything: node(everything, 'stdio'),
    files: node(filesystem, folder),
  })
  const rig = await startRig({ timeouts, stdioSocketPath: adapter.socketPath })
  t.teardown(async () => {
    await rig.close()
    await adapter.close()
    rmSync(folder, { recursive: true })
  })
  rig.setServers([local('everything'), local('files')])
  const legacy = await session(rig)
  const { tools } = (await post(rig, 'tools/list', {}, legacy)).last.result as { tools: { name: string }[] }
  t.ok(tools.some(({ name }) => name === 'everything_echo'))
  t.ok(tools.some(({ name }) => name === 'files_read_text_file'))
  const echo = { name: 'everything_echo', arguments: { message: 'hi' } }
  t.match((await post(rig, 'tools/call', echo, legacy)).last.result, { content: [{ text: 'Echo: hi' }] })
  const read = { name: 'files_read_text_file', arguments: { path: join(folder, 'note.txt') } }
  const modern = await post(rig, 'tools/call', { ...read, _meta: modernMeta() })
  t.match(modern.last.result, { resultType: 'complete', content: [{ text: 'hello from a file' }] })
  const outside = { name: 'files_read_text_file', arguments: { path: '/etc/hostname' } }
  t.equal((await post(rig, 'tools/call', outside, legacy)).last.result?.isError, true)
})

t.test('a process belongs to one session, and never to two people', async (t) => {
  proves(t, 'MCP-STDIO-02')
  const adapter = await startAdapter({ s: node(scripted) })
  const rig = await startRig({ timeouts, stdioSocketPath: adapter.socketPath })
  t.teardown(async () => {
    await rig.close()
    await adapter.close()
  })
  rig.setServers([local('s')])
  const pidOf = async (headers: Record<string, string>) =>
    textOf(await post(rig, 'tools/call', { name: 's_count' }, headers)) &&
    adapter.log.filter(({ msg }) => msg === 'server started').length
  const ann = await session(rig)
  const bob = await session(rig, { 'x-subject': 'bob@acme.test' })
  t.equal(await pidOf(ann), 1, 'the process that was asked for its era serves the session')
  t.equal(await pidOf(ann), 1)
  t.equal(await pidOf(bob), 2)
  await rig.core.endSession({ id: ann['mcp-session-id'] } as never)
  await until(() => adapter.log.some(({ msg }) => msg === 'server ended'))
})

t.test("the person's credential is a variable of their process; a new one is a new process", async (t) => {
  proves(t, 'MCP-STDIO-03')
  const adapter = await startAdapter({
    s: { ...node(scripted), credential: { env: 'API_TOKEN' }, env: { MODE: 'test' } },
  })
  const rig = await startRig({ timeouts, stdioSocketPath: adapter.socketPath })
  t.teardown(async () => {
    await rig.close()
    await adapter.close()
  })
  let value = 'secret-of-ann-1'
  rig.credentials.answer = () => ({
    kind: 'headers',
    headers: [{ name: 'Authorization', value: `Bearer ${value}` }],
    expiresAt: null,
    credentialProviderId: 'p',
  })
  rig.setServers([local('s', { credential: 'required' })])
  const ann = await session(rig)
  const env = textOf(await post(rig, 'tools/call', { name: 's_env' }, ann)) as Record<string, string>
  t.match(env, { API_TOKEN: 'secret-of-ann-1', MODE: 'test' })
  t.same(
    Object.keys(env)
      // The test runner adds its own to every process that is started below it.
      .filter((key) => !['PWD', 'SHLVL', '_', 'NODE_OPTIONS'].includes(key) && !key.startsWith('_TAPJS_'))
      .sort(),
    ['API_TOKEN', 'HOME', 'LANG', 'MODE', 'PATH'],
    "nothing of the gateway's own environment",
  )
  value = 'secret-of-ann-2'
  t.match(textOf(await post(rig, 'tools/call', { name: 's_env' }, ann)), { API_TOKEN: 'secret-of-ann-2' })
  await until(() => adapter.log.some(({ stderr }) => String(stderr).startsWith('started with')))
  t.notMatch(JSON.stringify(adapter.log), /secret-of-ann/, 'no credential in the log')
})

t.test('a secret of several lines stays out of the log line by line', async (t) => {
  proves(t, 'MCP-STDIO-03')
  const lines: string[] = []
  const log = { info: ({ stderr }: { stderr: string }) => void lines.push(stderr) } as unknown as Logger
  const key = '-----BEGIN KEY-----\nMIIEvQIBADAN\r\nBgkqhkiG9w0B\n-----END KEY-----\n'
  stderrLog(log, [key], () => 0)(Buffer.from(`my key:\n${key}done\n`))
  t.same(lines, ['my key:', '•••', '•••', '•••', '•••', 'done'])
})

t.test('a server that ends is started again by the next call; the one that ran fails at once', async (t) => {
  const adapter = await startAdapter({ s: node(scripted) })
  const rig = await startRig({
    stdioSocketPath: adapter.socketPath,
    timeouts: { ...timeouts, tools_call: 600_000 },
  })
  t.teardown(async () => {
    await rig.close()
    await adapter.close()
  })
  rig.setServers([local('s')])
  const ann = await session(rig)
  t.equal((await post(rig, 'tools/call', { name: 's_exit' }, ann)).last.error?.code, 5020)
  t.equal(textOf(await post(rig, 'tools/call', { name: 's_count' }, ann)), 'counted')
})

t.test('a server that crashes at once is not started in a loop', async (t) => {
  const adapter = await startAdapter({ s: node(scripted, 'crash') })
  const rig = await startRig({ timeouts, stdioSocketPath: adapter.socketPath })
  t.teardown(async () => {
    await rig.close()
    await adapter.close()
  })
  rig.setServers([local('s')])
  const ann = await session(rig)
  for (let call = 0; call < 10; call++) {
    t.ok((await post(rig, 'tools/call', { name: 's_count' }, ann)).last.error)
  }
  const starts = adapter.log.filter(({ msg }) => msg === 'server started').length
  t.ok(starts < 10, `${starts} starts for ten calls`)
  t.ok(adapter.log.some(({ reason }) => /next start in/.test(String(reason))))
})

t.test("progress keeps the caller's token, cancellation reaches the server under its own id", async (t) => {
  const adapter = await startAdapter({ s: node(scripted) })
  const rig = await startRig({ timeouts, stdioSocketPath: adapter.socketPath })
  t.teardown(async () => {
    await rig.close()
    await adapter.close()
  })
  rig.setServers([local('s')])
  const ann = await session(rig)
  const counted = await post(rig, 'tools/call', { name: 's_count', _meta: { progressToken: 'mine' } }, ann)
  t.same(
    counted.messages.slice(0, -1).map(({ params }) => [params.progressToken, params.progress]),
    [
      ['mine', 1],
      ['mine', 2],
    ],
  )
  const hung = post(rig, 'tools/call', { name: 's_hang' }, ann).catch(() => {})
  await until(() => rig.core.stats().activeCalls === 1)
  const cancel = { jsonrpc: '2.0', method: 'notifications/cancelled', params: { requestId: 1 } }
  await fetch(rig.url, { method: 'POST', headers: ann, body: JSON.stringify(cancel) })
  await until(() => adapter.log.some(({ stderr }) => stderr === 'cancelled number'))
  await hung
})

t.test(
  'floods: a message beyond the bound ends the server, stderr is cut, stdout noise is passed over',
  async (t) => {
    proves(t, 'MCP-STDIO-04')
    const adapter = await startAdapter({ s: node(scripted) })
    const rig = await startRig({ timeouts, stdioSocketPath: adapter.socketPath })
    t.teardown(async () => {
      await rig.close()
      await adapter.close()
    })
    rig.setServers([local('s')])
    const ann = await session(rig)
    t.equal(textOf(await post(rig, 'tools/call', { name: 's_noise' }, ann)), 'done')
    t.ok(adapter.log.some(({ msg }) => msg.includes('no JSON-RPC')))
    t.ok(adapter.log.filter(({ stderr }) => stderr !== undefined).length <= 50)
    t.ok((await post(rig, 'tools/call', { name: 's_big' }, ann)).last.error)
    t.equal(textOf(await post(rig, 'tools/call', { name: 's_count' }, ann)), 'counted')
  },
)

t.test("in namespaces a server sees neither the gateway's folders nor its processes", async (t) => {
  if (!namespaces) {
    t.comment('no namespaces to be had here')
    return
  }
  const secret = realpathSync(mkdtempSync(join(tmpdir(), 'run-')))
  writeFileSync(join(secret, 'sync.sock'), '')
  const adapter = await startAdapter(
    { shut: node(scripted), open: { ...node(scripted), sandbox: 'none' } },
    { hidden: [secret, '/nowhere'] },
  )
  const rig = await startRig({ timeouts, stdioSocketPath: adapter.socketPath })
  t.teardown(async () => {
    await rig.close()
    await adapter.close()
    rmSync(secret, { recursive: true })
  })
  rig.setServers([local('shut'), local('open')])
  const ann = await session(rig)
  const ask = async (name: string) =>
    textOf(await post(rig, 'tools/call', { name, arguments: { path: secret } }, ann))
  t.same(await ask('shut_sees'), [])
  t.same(await ask('open_sees'), ['sync.sock'])
  t.ok(Number(await ask('shut_processes')) <= 3)
  t.ok(Number(await ask('open_processes')) > 3)
  t.equal(readdirSync(secret).length, 1, 'only its own view is empty')
})

t.test('names that the machine does not know are refused; without an adapter all are', async (t) => {
  const adapter = await startAdapter({ s: node(scripted) })
  const rig = await startRig({ timeouts, stdioSocketPath: adapter.socketPath })
  const bare = await startRig()
  t.teardown(async () => {
    await Promise.all([rig.close(), bare.close()])
    await adapter.close()
  })
  rig.setServers([local('other')])
  bare.setServers([local('s')])
  t.ok((await post(rig, 'tools/call', { name: 'other_go' }, await session(rig))).last.error)
  const refused = await post(bare, 'tools/call', { name: 's_go' }, await session(bare))
  t.equal(refused.last.error?.code, 5024)
  t.match(bare.events.at(-1)?.reason, /AEMBIT_STDIO_SERVERS_PATH/)
})

t.test('no server outlives its adapter', async (t) => {
  const adapter = await startAdapter({ a: node(scripted), b: { ...node(scripted), sandbox: 'none' } })
  const rig = await startRig({ timeouts, stdioSocketPath: adapter.socketPath })
  t.teardown(async () => {
    await rig.close()
    await adapter.close()
  })
  rig.setServers([local('a'), local('b')])
  const ann = await session(rig)
  await post(rig, 'tools/call', { name: 'a_count' }, ann)
  await post(rig, 'tools/call', { name: 'b_count' }, ann)
  const pids = adapter.log.filter(({ msg }) => msg === 'server started').map(({ child }) => Number(child))
  t.equal(pids.length, 2)
  adapter.child.kill('SIGKILL')
  const alive = (pid: number): boolean => {
    try {
      return process.kill(pid, 0)
    } catch {
      return false
    }
  }
  await until(() => !pids.some(alive))
})
