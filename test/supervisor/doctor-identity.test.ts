import { createServer } from 'node:http'
import { createServer as createTlsServer } from 'node:https'
import type { AddressInfo } from 'node:net'
import t from 'tap'
import { examine } from '../../services/supervisor/doctor/doctor.ts'
import type { Finding, Patient } from '../../services/supervisor/doctor/step.ts'
import { parseGatewayEnv } from '../../shared/config/gateway.ts'
import { makeCertificate } from './certificates.ts'

/** What answers an agent, by hand: each answer can be made wrong. */
interface Answer {
  status?: number
  headers?: Record<string, string>
  json?: unknown
}

async function startFake(t: { teardown(end: () => void): void }) {
  const wrong: Record<string, Answer> = {}
  let origin = ''
  const good = (path: string, method: string, body: string, bearer: boolean): Answer => {
    if (path === '/.well-known/oauth-protected-resource/mcp')
      return { json: { resource: `${origin}/mcp`, authorization_servers: [origin] } }
    if (path === '/.well-known/oauth-authorization-server')
      return {
        json: {
          issuer: origin,
          authorization_endpoint: `${origin}/a`,
          token_endpoint: `${origin}/token`,
          jwks_uri: `${origin}/jwks`,
          code_challenge_methods_supported: ['S256'],
        },
      }
    if (path === '/jwks') return { json: { keys: [{ kty: 'EC' }] } }
    if (path === '/token') return { json: { access_token: jwt({}) } }
    if (path === '/health') return { json: { status: 'Healthy' } }
    if (path !== '/mcp') return { status: 404 }
    if (method === 'DELETE') return { status: 204 }
    if (!bearer)
      return { status: 401, headers: { 'www-authenticate': 'Bearer resource_metadata="x"' }, json: {} }
    const { id, method: asked } = JSON.parse(body)
    if (asked === 'initialize')
      return { headers: { 'mcp-session-id': 's' }, json: { id, result: { protocolVersion: '2025-11-25' } } }
    if (asked === 'tools/list')
      return {
        json: {
          id,
          result: { tools: [{}], _meta: { 'io.aembit/servers': [{ server: 'a', outcome: 'ok' }] } },
        },
      }
    return { status: 202 }
  }
  const seen: string[] = []
  const server = createServer((request, response) => {
    let body = ''
    request.on('data', (chunk) => {
      body += chunk
    })
    request.on('end', () => {
      const path = request.url ?? ''
      const bearer = request.headers.authorization?.startsWith('Bearer ') === true
      const key = path === '/mcp' && body !== '' ? `${JSON.parse(body).method}` : path
      seen.push(key)
      const usual = good(path, request.method ?? '', body, bearer)
      const { status = 200, headers = {}, json } = wrong[key] ?? usual
      response.writeHead(status, { 'content-type': 'application/json', ...headers })
      response.end(json === undefined ? '' : JSON.stringify(json))
    })
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  t.teardown(() => {
    server.closeAllConnections()
    server.close()
  })
  origin = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
  const jwt = (claims: object): string => {
    const all = { sub: 'ann', aud: `${origin}/mcp`, exp: Date.now() / 1000 + 600, ...claims }
    return `e30.${Buffer.from(JSON.stringify(all)).toString('base64url')}.x`
  }
  return { wrong, origin, jwt, seen }
}

const patientOf = (origin: string, more: Partial<Patient> = {}): Patient => {
  const read = parseGatewayEnv({
    AEMBIT_MCP_GATEWAY_URL: `${origin}/mcp`,
    AEMBIT_AUTHORIZATION_SERVER: origin,
    AEMBIT_AGENT_CONTROLLER_URL: 'http://127.0.0.1:5000',
    AEMBIT_CONTROL_PLANE_URL: origin.replace('https:', 'http:'),
    AEMBIT_LISTEN_ADDRESS: '127.0.0.1',
    AEMBIT_HTTPS_PORT: new URL(origin).port,
    AEMBIT_PLAIN_HTTP: 'true',
  })
  if ('problems' in read) throw new Error(JSON.stringify(read.problems))
  return {
    config: { ...read.ok, agentControllerUrl: origin },
    url: new URL(`${origin}/mcp`),
    ca: [],
    token: null,
    now: Date.now,
    lookup: async () => ['127.0.0.1'],
    status: async () => ({ ready: true, reasons: [], warnings: [], version: '1', processes: [] }) as never,
    ...more,
  }
}
const firstOf = (findings: readonly Finding[]) => findings.find(({ verdict }) => verdict === 'failed')

t.test('what agents are told: each thing broken in turn', async (t) => {
  const fake = await startFake(t)
  const bearer = { kind: 'bearer', token: fake.jwt({}) } as const
  const fine = await examine(patientOf(fake.origin, { token: bearer }))
  t.same(firstOf(fine), undefined, JSON.stringify(fine))
  t.match(fine.at(-1), { step: 'tools/list', verdict: 'ok', text: '1 tools of 1 servers' })
  t.ok(fake.seen.includes('/mcp'), 'its session is ended')

  const metadata = '/.well-known/oauth-authorization-server'
  const cases: [path: string, answer: Answer, step: string, text: RegExp][] = [
    ['/health', { status: 401, json: { status: 'Unregistered' } }, 'agent controller', /Unregistered/],
    ['ping', { status: 200, json: {} }, 'challenge', /answered 200, not 401/],
    ['ping', { status: 503, json: {} }, 'challenge', /503/],
    ['/.well-known/oauth-protected-resource/mcp', { status: 404 }, 'resource metadata', /404/],
    [
      '/.well-known/oauth-protected-resource/mcp',
      { json: { resource: 'https://other.example/mcp', authorization_servers: [fake.origin] } },
      'resource metadata',
      /resource is https:\/\/other/,
    ],
    [metadata, { status: 502 }, 'authorization server', /502/],
    [metadata, { json: { issuer: 'https://evil.example' } }, 'authorization server', /issuer https:\/\/evil/],
    [metadata, { json: { issuer: fake.origin } }, 'authorization server', /lacks authorization_endpoint/],
    ['/jwks', { json: { keys: [] } }, 'signing keys', /without keys/],
    [
      'initialize',
      { status: 403, json: { error: { data: { reason: 'policy.denied' } } } },
      'initialize',
      /403: policy.denied/,
    ],
    ['tools/list', { status: 200, json: { error: { code: -32603 } } }, 'tools/list', /HTTP 200/],
  ]
  for (const [path, answer, step, text] of cases) {
    fake.wrong[path] = answer
    const first = firstOf(await examine(patientOf(fake.origin, { token: bearer })))
    t.equal(first?.step, step)
    t.match(first?.text, text)
    t.ok(first?.advice, `${step}: what to do`)
    delete fake.wrong[path]
  }
})

t.test('tokens: expired, of another gateway, and fetched by a client', async (t) => {
  const fake = await startFake(t)
  const look = async (token: Patient['token']) => {
    const findings = await examine(patientOf(fake.origin, { token }))
    return findings.find(({ step }) => step === 'token')
  }
  t.match(await look({ kind: 'bearer', token: fake.jwt({ exp: 1 }) }), {
    verdict: 'failed',
    text: /expired on 1970/,
  })
  t.match(await look({ kind: 'bearer', token: fake.jwt({ aud: 'https://b.example' }) }), {
    verdict: 'warning',
    text: /for https:\/\/b.example/,
  })
  const client = { kind: 'client', id: 'c', secret: 'hunter2' } as const
  t.match(await look(client), { verdict: 'ok' })
  fake.wrong['/token'] = { status: 401, json: { error: 'invalid_client' } }
  const refused = await look(client)
  t.match(refused, { verdict: 'failed', text: /invalid_client/ })
  t.notMatch(JSON.stringify(refused), /hunter2/)
})

t.test('a clock that is wrong', async (t) => {
  const fake = await startFake(t)
  const at = async (ms: number) =>
    (await examine(patientOf(fake.origin, { now: () => Date.now() + ms }))).find(
      ({ step }) => step === 'clock',
    )
  t.match(await at(0), { verdict: 'ok' })
  t.match(await at(-20_000), { verdict: 'warning', text: /behind the control plane/ })
  t.match(await at(180_000), { verdict: 'failed', text: /18\d s ahead/, advice: /timedatectl/ })
})

t.test('certificates: expired, not yet valid, of another name, not trusted', async (t) => {
  const dir = t.testdir()
  const { certChainPath, privateKeyPath } = makeCertificate(dir, 'doctor')
  const { readFileSync } = await import('node:fs')
  const cert = readFileSync(certChainPath, 'utf8')
  const server = createTlsServer({ cert, key: readFileSync(privateKeyPath) }, (_request, response) => {
    response.writeHead(401, { 'www-authenticate': 'Bearer resource_metadata="x"' }).end()
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  t.teardown(() => {
    server.closeAllConnections()
    server.close()
  })
  const { port } = server.address() as AddressInfo
  const elsewhere = createTlsServer({ cert, key: readFileSync(privateKeyPath) })
  await new Promise<void>((resolve) => elsewhere.listen(port, '127.0.0.2', resolve))
  t.teardown(() => elsewhere.close())
  const look = async (host: string, more: Partial<Patient>) => {
    const plain = patientOf('http://127.0.0.1:9', more)
    const findings = await examine({ ...plain, url: new URL(`https://${host}:${port}/mcp`), ...more })
    return findings.find(({ step }) => step === 'certificate')
  }
  t.match(await look('localhost', { ca: [cert] }), { verdict: /ok|warning/ })
  t.match(await look('localhost', {}), { verdict: 'failed', text: /not trusted|not complete/ })
  const later = Date.now() + 50 * 365 * 86_400_000
  t.match(await look('localhost', { ca: [cert], now: () => later }), {
    verdict: 'failed',
    text: /expired on/,
  })
  t.match(await look('localhost', { ca: [cert], now: () => 0 }), {
    verdict: 'failed',
    text: /not valid before/,
  })
  t.match(await look('127.0.0.2', { ca: [cert] }), { verdict: 'failed', text: /is not for 127.0.0.2/ })
})
