import { X509Certificate } from 'node:crypto'
import { readFileSync, statSync } from 'node:fs'
import { createServer } from 'node:http'
import { join, resolve } from 'node:path'
import { createServer as createTlsServer, connect as tlsConnect } from 'node:tls'
import t from 'tap'
import { createBrowser, parseForms } from '../../installer/quickstart/browser.ts'
import { controlPlaneYaml, withGatewayUrl } from '../../installer/quickstart/config.ts'
import { ensureDevelopmentTls } from '../../installer/quickstart/development-ca.ts'
import { openLogFile } from '../../installer/quickstart/log-file.ts'
import { parseOptions } from '../../installer/quickstart/options.ts'
import { isFree, requireFree } from '../../installer/quickstart/ports.ts'
import { Problem } from '../../installer/quickstart/problem.ts'
import { documentedPorts } from '../../installer/quickstart/scene.ts'
import { lockState, newPassword, openState } from '../../installer/quickstart/state.ts'

const day = 24 * 60 * 60 * 1000

t.test('the development CA', async (t) => {
  const dir = t.testdir()
  const first = await ensureDevelopmentTls(dir)
  const certificate = (path: string): X509Certificate => new X509Certificate(readFileSync(path))
  const ca = certificate(first.caPath)
  const leaf = certificate(first.certChainPath)
  t.ok(leaf.verify(ca.publicKey), 'the leaf is signed by the CA')
  t.ok(
    leaf.checkHost('localhost') && leaf.checkIP('127.0.0.1') && leaf.checkIP('::1'),
    'it names this machine',
  )
  for (const name of ['ca.key', 'localhost.key'])
    t.equal(statSync(join(dir, name)).mode & 0o777, 0o600, `${name} is private`)

  const server = createTlsServer({
    cert: readFileSync(first.certChainPath),
    key: readFileSync(first.privateKeyPath),
  }).listen(0, '127.0.0.1')
  t.teardown(() => server.close())
  await new Promise((done) => server.once('listening', done))
  const port = (server.address() as { port: number }).port
  const authorized = await new Promise<boolean>((done, fail) => {
    const socket = tlsConnect(
      { port, host: '127.0.0.1', servername: 'localhost', ca: readFileSync(first.caPath) },
      () => {
        done(socket.authorized)
        socket.end()
      },
    ).on('error', fail)
  })
  t.ok(authorized, 'a client that trusts the CA accepts the leaf')

  await ensureDevelopmentTls(dir)
  t.equal(
    certificate(first.certChainPath).fingerprint256,
    leaf.fingerprint256,
    'a second start keeps the leaf',
  )
  await ensureDevelopmentTls(dir, Date.now() + 340 * day)
  t.equal(certificate(first.caPath).fingerprint256, ca.fingerprint256, 'a year later the CA is kept')
  t.not(certificate(first.certChainPath).fingerprint256, leaf.fingerprint256, 'and the leaf is new')
})

t.test('log files are bounded', async (t) => {
  const path = join(t.testdir(), 'a.log')
  const log = openLogFile(path, 100)
  for (let line = 0; line < 50; line++) log.write(Buffer.from(`line ${line}\n`))
  t.ok(statSync(path).size <= 100 && statSync(`${path}.1`).size <= 100)
  t.equal(log.tail(1), 'line 49')
  log.close()
})

t.test('the generated configuration', async (t) => {
  const yaml = controlPlaneYaml({
    gatewayUrl: 'https://localhost:8443/mcp',
    users: [{ email: 'ann@example.com', name: 'Ann', password: 'a"b' }],
    ports: { notes: 1, weather: 2, everything: 3 },
    weatherKeyPath: 'key',
  })
  t.equal(withGatewayUrl(yaml, 'https://localhost:8443/mcp'), undefined, 'nothing to change')
  const moved = withGatewayUrl(yaml, 'http://localhost:8080/mcp') ?? ''
  t.match(moved, /gateway: \{ url: "http:\/\/localhost:8080\/mcp" \}/)
  t.equal(moved.split('\n').length, yaml.split('\n').length, 'each line stays where it was')
  t.equal(
    withGatewayUrl(': : nothing\n\t- ', 'http://x/'),
    undefined,
    'what is no YAML is left for the control plane to refuse',
  )
  t.not(newPassword(), newPassword())
  t.match(newPassword(), /^[a-z2-9]{4}-[a-z2-9]{4}-[a-z2-9]{4}$/)
})

t.test('options', async (t) => {
  const parse = (args: string[], env = {}) => parseOptions(args, env, '/checkout', resolve)
  t.match(parse([]), { stateDir: '/checkout/.quickstart', http: false, ports: {}, workers: 1 })
  t.match(parse(['--http', '--port', '9999', '--redirect-port', '0']), {
    http: true,
    ports: { gateway: 9999, redirect: 0 },
  })
  t.equal(parse([], { AEMBIT_QUICKSTART_DIR: '/elsewhere' }).stateDir, '/elsewhere')
  t.throws(() => parse(['--port', '70000']), /--port is a whole number from 1 to 65535/)
  t.throws(() => parse(['--prot', '1']), /npm start -- \[options\]/)
})

t.test('taken ports are told all at once', async (t) => {
  const server = createServer().listen(0, '127.0.0.1')
  t.teardown(() => server.close())
  await new Promise((done) => server.once('listening', done))
  const port = (server.address() as { port: number }).port
  t.notOk(await isFree(port))
  const none = Object.fromEntries(Object.keys(documentedPorts(false)).map((name) => [name, 0]))
  const ports = { ...documentedPorts(false), ...none, gateway: port, controller: port }
  const refused = await requireFree(ports).catch((error: unknown) => error)
  t.ok(refused instanceof Problem)
  t.match(String(refused), new RegExp(`127.0.0.1:${port} \\(gateway\\) is taken: .*--port <port>`))
  t.match(String(refused), /--controller-port <port>/)
})

t.test('one quickstart per state folder', async (t) => {
  const state = await openState(join(t.testdir(), 'state'))
  t.equal(statSync(state.dir).mode & 0o777, 0o700)
  const unlock = await lockState(state)
  await lockState(state)
  await unlock()
})

t.test('forms as a browser sees them', async (t) => {
  const html = `<form method="post" action="/go?a=1&amp;b=2"><input type=hidden name=csrf value="x&quot;y">
    <label>Mail <input type="email" name='email'></label><input type="checkbox" name="keep" checked>
    <input type="checkbox" name="no"><button name="do" value="yes">Sign <b>in</b></button><button name="do" value="no">No</button></form>`
  const [form] = parseForms(html, new URL('https://localhost:1/sign-in'))
  t.equal(form?.action.href, 'https://localhost:1/go?a=1&b=2')
  t.same(form?.fields, [
    ['csrf', 'x"y'],
    ['email', ''],
    ['keep', 'on'],
  ])
  t.same(
    form?.buttons.map(({ text, value }) => [text, value]),
    [
      ['Sign in', 'yes'],
      ['No', 'no'],
    ],
  )

  const sent: { url: string; body: string; cookie: string | null }[] = []
  const browser = createBrowser(async (url, init) => {
    sent.push({
      url: String(url),
      body: String(init?.body ?? ''),
      cookie: new Headers(init?.headers).get('cookie'),
    })
    if (sent.length === 1)
      return new Response(html, { headers: { 'set-cookie': 'sid=1; Path=/; HttpOnly; Secure' } })
    return new Response(null, { status: 303, headers: { location: 'http://127.0.0.1:9/callback?code=1' } })
  })
  const page = await browser.open('https://localhost:1/sign-in')
  const end =
    page instanceof URL
      ? page
      : await browser.submit(page.forms[0]!, { email: 'ann' }, /in/, (url) => url.port === '9')
  t.equal(String(end), 'http://127.0.0.1:9/callback?code=1')
  t.same(sent[1], {
    url: 'https://localhost:1/go?a=1&b=2',
    body: 'csrf=x%22y&email=ann&keep=on&do=yes',
    cookie: 'sid=1',
  })
})
