import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { request } from 'node:http'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import t from 'tap'
import { parseGatewayEnv } from '../../shared/config/gateway.ts'
import { startGateway } from './rig.ts'

const folder = mkdtempSync(join(tmpdir(), 'stdio-'))
const path = join(folder, 'servers.yaml')
const write = (content: string, mode = 0o600): void => {
  rmSync(path, { force: true })
  writeFileSync(path, content, { mode: 0o600 })
  if (mode !== 0o600) writeFileSync(path, content, { mode })
}
t.teardown(() => rmSync(folder, { recursive: true }))

const initialize = { jsonrpc: '2.0', id: 1, method: 'initialize', params: {} }
/** Answers the first line that it gets, whatever it is. */
const answerer = `process.stdin.once("data", () => console.log(JSON.stringify({jsonrpc:"2.0",id:1,result:{}})))`
const server = (more = ''): string =>
  `servers:\n  one:\n    command: ${process.execPath}\n    args: [-e, '${answerer}']\n    sandbox: none\n${more}`

async function ask(socketPath: string, name: string): Promise<number> {
  const asking = request({ socketPath, path: `/${name}`, method: 'POST' })
  asking.end(JSON.stringify(initialize))
  const response = await new Promise<import('node:http').IncomingMessage>((resolve, reject) =>
    asking.on('response', resolve).on('error', reject),
  )
  await text(response)
  return response.statusCode ?? 0
}

t.test('the adapter is a process of the fleet: served, restarted, reloaded, stopped', async (t) => {
  write(server())
  const gateway = startGateway({ env: { AEMBIT_STDIO_SERVERS_PATH: path } })
  t.teardown(() => gateway.stop())
  await gateway.ready()
  const socket = join(gateway.dir, 'run', 'stdio.sock')
  t.equal(await ask(socket, 'one'), 200)
  t.equal(await ask(socket, 'two'), 421)

  const first = await gateway.pid('stdio-adapter')
  process.kill(first, 'SIGKILL')
  await gateway.until(
    ({ processes }) =>
      processes.find(({ name }) => name === 'stdio-adapter')?.state === 'running' &&
      processes.find(({ name }) => name === 'stdio-adapter')?.pid !== first,
  )
  t.equal(await ask(socket, 'one'), 200)

  write(
    `${server()}  two:\n    command: ${process.execPath}\n    args: [-e, '${answerer}']\n    sandbox: none\n`,
  )
  t.same((await gateway.operator('/v1/reload')).body, { problems: [] })
  t.equal(await ask(socket, 'two'), 200)

  write('servers: {one: {command: relative}}\n')
  const { problems } = (await gateway.operator('/v1/reload')).body as { problems: string[] }
  t.match(problems, [/servers\.one\.command: is not an absolute path/])
  t.equal(await ask(socket, 'two'), 200, 'what was running goes on')
})

t.test('without the setting there is no adapter', async (t) => {
  const gateway = startGateway()
  t.teardown(() => gateway.stop())
  await gateway.ready()
  t.notOk((await gateway.status()).processes.some(({ name }) => name === 'stdio-adapter'))
})

t.test('a file of local servers is refused with every problem, and where others can write it', async (t) => {
  const problemsOf = (): string[] => {
    const read = parseGatewayEnv({ AEMBIT_STDIO_SERVERS_PATH: path })
    const all = 'problems' in read ? read.problems : []
    return all.filter(({ key }) => key === 'AEMBIT_STDIO_SERVERS_PATH').map(({ message }) => message)
  }
  write(server())
  t.same(problemsOf(), [])
  write(
    [
      'servers:',
      '  one:',
      `    command: ${process.execPath}`,
      '    cwd: /no/such/folder',
      '    env: {TOKEN: x, KEY: {file: missing}}',
      '    credential: {env: TOKEN}',
      '  two: {command: /no/such/program}',
    ].join('\n'),
  )
  const problems = problemsOf()
  t.match(problems.join('\n'), /one\.cwd: \/no\/such\/folder is no folder/)
  t.match(problems.join('\n'), /one\.credential\.env: TOKEN is set in env too/)
  t.match(problems.join('\n'), /one\.env\.KEY: .*missing can not be read \(ENOENT\)/)
  t.match(problems.join('\n'), /two\.command: \/no\/such\/program can not be read/)
  write('servers: {one: {command: /bin/true, shell: true}}')
  t.match(problemsOf(), [/Unrecognized key: "shell"/])
  write('servers: [')
  t.match(problemsOf(), [/is no YAML/])
  write(server())
  const { chmodSync } = await import('node:fs')
  chmodSync(path, 0o622)
  t.match(problemsOf(), [/can be written by others; chmod go-w it/])
})
