import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { writeFile } from 'node:fs/promises'
import { createServer as createHttpServer } from 'node:http'
import { type AddressInfo, connect, type Socket } from 'node:net'
import { join } from 'node:path'
import { createServer as createTlsServer } from 'node:tls'
import t, { type Test } from 'tap'
import { issue, selfSigned } from '../attestation/authority.ts'
import { proves } from '../requirements.ts'
import { freePort } from '../rig/free-port.ts'
import { FakeControlPlane } from '../sync/fake-control-plane.ts'
import { tempDir, until } from '../sync/support.ts'

const main = join(import.meta.dirname, '../../services/agent-controller/main.ts')
const credentials = `Basic ${Buffer.from('gw:hidden').toString('base64')}`

/** The control plane behind TLS under a name that only the proxy knows, and the proxy. */
async function world(t: Test) {
  const dir = await tempDir(t)
  const plane = await FakeControlPlane.start(dir)
  t.teardown(() => plane.down())
  const root = await selfSigned('CN=Root')
  const leaf = await issue(root, 'CN=cp', { dns: 'acme.ec.proxied.test' })
  const der = await crypto.subtle.exportKey('pkcs8', leaf.keys.privateKey as never)
  const key = `-----BEGIN PRIVATE KEY-----\n${Buffer.from(der).toString('base64')}\n-----END PRIVATE KEY-----\n`
  await writeFile(join(dir, 'ca.pem'), root.pem)
  const open = new Set<Socket>()
  const joined = (a: Socket, b: Socket): void => {
    for (const [one, other] of [
      [a, b],
      [b, a],
    ] as const) {
      open.add(one)
      one.pipe(other)
      one.on('error', () => other.destroy()).on('close', () => open.delete(one))
    }
  }
  const tls = createTlsServer({ cert: leaf.pem, key }, (socket) => joined(socket, connect(plane.socketPath)))
  await new Promise<void>((resolve) => tls.listen(0, '127.0.0.1', resolve))

  const asked: string[] = []
  let refuses = false
  const proxy = createHttpServer((request, response) => {
    asked.push(`${request.method} ${request.url}`)
    response.writeHead(400).end()
  })
  proxy.on('connect', (request, socket: Socket) => {
    asked.push(`CONNECT ${request.url} ${request.headers['proxy-authorization']}`)
    if (refuses) return socket.end('HTTP/1.1 407 Proxy Authentication Required\r\ncontent-length: 0\r\n\r\n')
    socket.write('HTTP/1.1 200 OK\r\n\r\n')
    joined(socket, connect((tls.address() as AddressInfo).port, '127.0.0.1'))
  })
  await new Promise<void>((resolve) => proxy.listen(0, '127.0.0.1', resolve))
  t.teardown(() => {
    for (const socket of open) socket.destroy()
    tls.close()
    proxy.close()
  })
  const port = freePort()
  const env = {
    AEMBIT_TENANT_ID: 'acme',
    AEMBIT_STACK_DOMAIN: 'proxied.test',
    AEMBIT_DEVICE_CODE: '123456',
    AEMBIT_STATE_DIR: join(dir, 'state'),
    AEMBIT_HTTP_PORT: String(port),
    AEMBIT_METRICS_ENABLED: 'false',
    NODE_EXTRA_CA_CERTS: join(dir, 'ca.pem'),
    HTTPS_PROXY: `http://gw:hidden@127.0.0.1:${(proxy.address() as AddressInfo).port}`,
  }
  return { env, port, asked, plane, refuse: (yes: boolean) => (refuses = yes) }
}

function run(t: Test, env: Record<string, string>) {
  const child = spawn(process.execPath, [main], { env, stdio: ['ignore', 'pipe', 'pipe'] })
  t.teardown(() => child.kill('SIGKILL'))
  const seen = { text: '' }
  for (const stream of [child.stdout, child.stderr]) {
    stream.on('data', (chunk) => {
      seen.text += chunk
    })
  }
  return { seen, exit: once(child, 'close').then(([code]) => code as number) }
}

t.test('everything it says to the control plane goes through HTTPS_PROXY, in a tunnel', async (t) => {
  proves(t, 'AC-PROXY-01')
  const { env, port, asked, plane, refuse } = await world(t)
  refuse(true)
  const { seen } = run(t, env)
  const status = async (): Promise<number | undefined> =>
    (await fetch(`http://127.0.0.1:${port}/health`).catch(() => null))?.status
  await until(
    () => /through the proxy 127\.0\.0\.1:\d+: Proxy response \(407\)/.test(seen.text),
    'a log line',
  )
  t.notMatch(seen.text, 'hidden', 'the password of the proxy is in no log')
  t.equal(await status(), 401, 'not registered yet, and it keeps trying')
  refuse(false)
  await until(async () => (await status()) === 200, 'Healthy')
  await until(() => plane.healthReports.length > 0, 'a health report')
  t.strictSame([...new Set(asked)], [`CONNECT acme.ec.proxied.test:443 ${credentials}`])
})

t.test('NO_PROXY is respected, and a proxy that is none stops the start', async (t) => {
  const { env, asked } = await world(t)
  const direct = run(t, { ...env, NO_PROXY: '.proxied.test' })
  // A name of the domain that never resolves (RFC 6761, 6.2): asked for directly, it is not found.
  await until(() => /getaddrinfo/.test(direct.seen.text), 'a log line')
  t.notMatch(direct.seen.text, 'through the proxy')
  t.strictSame(asked, [])
  const wrong = run(t, { ...env, HTTPS_PROXY: 'socks5://gw:hidden@proxy:1080' })
  t.equal(await wrong.exit, 2)
  t.match(wrong.seen.text, /^aembit_agent_controller: HTTPS_PROXY must be http:\/\/host:port/m)
})
