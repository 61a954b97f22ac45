import { type ChildProcess, spawn } from 'node:child_process'
import { mkdirSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import { rm } from 'node:fs/promises'
import { createServer, type Server } from 'node:http'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import t, { type Test } from 'tap'
import { anyFreePort } from '../../installer/quickstart/ports.ts'
import { makeStateDir, processesOf } from '../rig/world.ts'

/** `npm start` as a person meets it: the process itself, its words, its exit codes, what it leaves behind. */
const root = fileURLToPath(new URL('../..', import.meta.url))
const stateDir = makeStateDir()
t.teardown(() => rm(stateDir, { recursive: true, force: true }))

interface Start {
  readonly child: ChildProcess
  readonly output: () => string
  readonly ended: Promise<number | null>
}

function start(args: readonly string[], env: Record<string, string> = {}): Start {
  const child = spawn(process.execPath, ['installer/quickstart/main.ts', ...args], {
    cwd: root,
    env: { ...process.env, ...env },
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  let output = ''
  child.stdout.on('data', (chunk: Buffer) => (output += chunk))
  child.stderr.on('data', (chunk: Buffer) => (output += chunk))
  t.teardown(() => child.kill('SIGKILL'))
  return { child, output: () => output, ended: new Promise((resolve) => child.once('close', resolve)) }
}

async function until(what: Start, pattern: RegExp): Promise<void> {
  let over = false
  void what.ended.then(() => (over = true))
  const deadline = Date.now() + 60_000
  while (!pattern.test(what.output())) {
    if (over || Date.now() > deadline) throw new Error(`never said ${pattern}:\n${what.output()}`)
    await new Promise((resolve) => setTimeout(resolve, 50))
  }
}

async function nothingLeft(t: Test, dir: string = stateDir): Promise<void> {
  const deadline = Date.now() + 5000
  while (processesOf(dir).length > 0 && Date.now() < deadline)
    await new Promise((resolve) => setTimeout(resolve, 50))
  t.same(processesOf(dir), [], 'no process is left')
}

const names = ['port', 'redirect-port', 'controller-port', 'controller-metrics-port', 'metrics-port']
const ports = Object.fromEntries(
  await Promise.all(names.map(async (name) => [name, String(await anyFreePort())] as const)),
)
const portArgs = Object.entries(ports).flatMap(([name, port]) => [`--${name}`, port])
const args = ['--state', stateDir, ...portArgs]

await t.test('starts, says what to do next, stops on Ctrl-C', async (t) => {
  const first = start(args)
  await until(first, /^ready: /m)
  const said = first.output()
  t.match(said, new RegExp(`ready: https://localhost:${ports.port}/mcp`))
  t.match(said, /sign in +ann@example\.com +password \S+/)
  t.match(said, /NODE_EXTRA_CA_CERTS=\S+ca\.pem/)
  for (const line of [
    /claude mcp add --transport http gateway https:/,
    /\.cursor\/mcp\.json/,
    /code --add-mcp/,
    /inspector/,
    /npm run try/,
    /logs/,
    /Ctrl-C/,
  ])
    t.match(said, line)
  const config = join(stateDir, 'control-plane.yaml')
  t.equal(statSync(config).mode & 0o777, 0o600, 'the configuration is private')
  const redirected = await fetch(`http://127.0.0.1:${ports['redirect-port']}/mcp`, { redirect: 'manual' })
  t.match(redirected.headers.get('location'), `https://localhost:${ports.port}/mcp`, 'plain HTTP redirects')

  const second = start(['--state', stateDir, '--port', String(await anyFreePort())])
  t.equal(await second.ended, 2, 'a second one on the same state is refused')
  t.match(second.output(), /already running/)

  first.child.kill('SIGINT')
  t.equal(await first.ended, 0, first.output())
  await nothingLeft(t)

  const password = /password (\S+)/.exec(said)?.[1]
  const again = start(args)
  await until(again, /^ready: /m)
  t.match(again.output(), new RegExp(`password ${password}`), 'a second start reuses its state')
  again.child.kill('SIGTERM')
  t.equal(await again.ended, 0)
  await nothingLeft(t)
})

await t.test('plain HTTP on the same state, and a kill -9 of it leaves nothing', async (t) => {
  const before = readFileSync(join(stateDir, 'control-plane.yaml'), 'utf8')
  const plain = start([...args, '--http'])
  await until(plain, /^ready: /m)
  const origin = `http://localhost:${ports.port}`
  t.match(plain.output(), `ready: ${origin}/mcp`)
  t.notMatch(plain.output(), /NODE_EXTRA_CA_CERTS/)
  const metadata = await (await fetch(`${origin}/.well-known/oauth-authorization-server`)).json()
  t.match(metadata, { issuer: origin }, 'the issuer follows')
  t.equal(readFileSync(join(stateDir, 'control-plane.yaml'), 'utf8'), before, 'the file is left alone')
  plain.child.kill('SIGKILL')
  await plain.ended
  await nothingLeft(t)
})

await t.test('a taken port is one message and exit code 2', async (t) => {
  const server: Server = createServer().listen(Number(ports['controller-port']), '127.0.0.1')
  await new Promise((resolve) => server.once('listening', resolve))
  const refused = start(args)
  t.equal(await refused.ended, 2)
  t.match(
    refused.output(),
    new RegExp(`127\\.0\\.0\\.1:${ports['controller-port']} \\(controller\\) is taken.*--controller-port`),
  )
  t.notMatch(refused.output(), /\bat .*\.ts:\d+/, 'no stack')
  await new Promise((resolve) => server.close(resolve))
  await nothingLeft(t)
})

await t.test('a broken configuration is told with its lines, exit code 2', async (t) => {
  const dir = makeStateDir()
  t.teardown(() => rm(dir, { recursive: true, force: true }))
  mkdirSync(dir, { recursive: true })
  const broken = readFileSync(join(stateDir, 'control-plane.yaml'), 'utf8')
    .replace('type: directory', 'type: direktory')
    .replace('prefix', 'prefiks')
    .replace('server: notes, ', 'server: nodes, ')
  writeFileSync(join(dir, 'control-plane.yaml'), broken)
  const refused = start(['--state', dir, ...portArgs])
  t.equal(await refused.ended, 2, refused.output())
  const lines = refused
    .output()
    .split('\n')
    .filter((line) => /control-plane\.yaml:\d+/.test(line))
  t.ok(lines.length >= 2, `every problem has its line: ${lines.join(' | ')}`)
  t.match(refused.output(), /nodes/)
  await nothingLeft(t, dir)
})

await t.test('a process that dies is reported with its last lines, exit code 1', async (t) => {
  const running = start(args)
  await until(running, /^ready: /m)
  const [weather] = processesOf(stateDir).filter((pid) =>
    readFileSync(`/proc/${pid}/cmdline`, 'utf8').includes('weather.ts'),
  )
  t.ok(weather)
  process.kill(weather!, 'SIGKILL')
  t.equal(await running.ended, 1)
  t.match(running.output(), /weather ended unexpectedly \(SIGKILL\)[\s\S]*weather listens on/)
  await nothingLeft(t)
})

await t.test('unknown options tell the usage', async (t) => {
  const refused = start(['--prot', '1'])
  t.equal(await refused.ended, 2)
  t.match(refused.output(), /--port <port>/)
})
