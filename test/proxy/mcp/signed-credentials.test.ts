import { createHash, createHmac } from 'node:crypto'
import type { IncomingMessage } from 'node:http'
import t from 'tap'
import { ok, post, startLegacy } from './legacy-server.ts'
import { startRig } from './rig.ts'

t.test('a key in the query goes there and nowhere else', async (t) => {
  const rig = await startRig()
  const urls: (string | undefined)[] = []
  const server = await startLegacy((body, response, request) => {
    urls.push(request.url)
    return ok(body, response)
  })
  t.teardown(async () => {
    await Promise.all([rig.close(), server.close()])
  })
  rig.setServers([{ prefix: 'a', url: `${server.url}?tenant=one`, credential: 'required' }])
  rig.credentials.answer = () => ({
    kind: 'headers',
    headers: [],
    query: [{ name: 'api_key', value: 'k&1=%' }],
    expiresAt: null,
    credentialProviderId: 'cp',
  })
  t.match((await post(rig, 'tools/call', { name: 'a_go' })).last.result, { content: [{ text: 'ok' }] })
  t.ok(urls.length > 0)
  for (const url of urls) t.match(url, /\?tenant=one&api_key=k%261%3D%25$/)
  t.notMatch(JSON.stringify([server.seen, rig.events]), /k&1|k%261/)
})

t.test('each request to a server behind AWS is signed, whole', async (t) => {
  const rig = await startRig()
  const verdicts: (string | undefined)[] = []
  const server = await startLegacy((body, response, request) => {
    verdicts.push(verify(request, JSON.stringify(body)))
    return ok(body, response)
  })
  t.teardown(async () => {
    await Promise.all([rig.close(), server.close()])
  })
  rig.setServers([{ prefix: 'a', url: `${server.url}?b=2&a=1`, credential: 'required' }])
  rig.credentials.answer = () => ({
    kind: 'aws-sigv4',
    ...keys,
    expiresAt: later,
    credentialProviderId: 'cp',
  })
  t.match((await post(rig, 'tools/call', { name: 'a_go' })).last.result, { content: [{ text: 'ok' }] })
  t.ok(verdicts.length > 0)
  t.same([...new Set(verdicts)], ['valid'])
  t.notMatch(JSON.stringify(server.seen), /the-secret-key/)
})

const later = new Date(Date.now() + 3_600_000).toISOString()
const keys = {
  accessKeyId: 'ASIAEXAMPLE',
  secretAccessKey: 'the-secret-key',
  sessionToken: 'the-session-token',
  region: 'eu-central-1',
  service: 'execute-api',
}

/** AWS Signature Version 4 as its documentation derives it, from the request as it arrived. */
function verify(request: IncomingMessage, body: string): string {
  const parts =
    /^AWS4-HMAC-SHA256 Credential=ASIAEXAMPLE\/(\d{8})\/eu-central-1\/execute-api\/aws4_request, ?SignedHeaders=([a-z0-9;-]+), ?Signature=([0-9a-f]{64})$/.exec(
      request.headers.authorization ?? '',
    )
  if (!parts) return `no signature in ${request.headers.authorization}`
  if (request.headers['x-amz-security-token'] !== 'the-session-token') return 'no session token'
  const [, day = '', signed = '', signature] = parts
  const url = new URL(request.url ?? '', `http://${request.headers.host}`)
  const sha = (text: string): string => createHash('sha256').update(text).digest('hex')
  const mac = (key: string | Buffer, text: string): Buffer => createHmac('sha256', key).update(text).digest()
  const query = [...url.searchParams].map(([name, value]) => `${name}=${value}`).sort()
  const headers = signed.split(';').map((name) => `${name}:${String(request.headers[name]).trim()}\n`)
  if (!signed.split(';').includes('host')) return 'host is not signed'
  const canonical = [request.method, url.pathname, query.join('&'), headers.join(''), signed, sha(body)].join(
    '\n',
  )
  const scope = `${day}/eu-central-1/execute-api/aws4_request`
  const text = ['AWS4-HMAC-SHA256', request.headers['x-amz-date'], scope, sha(canonical)].join('\n')
  const key = [day, 'eu-central-1', 'execute-api', 'aws4_request'].reduce<string | Buffer>(
    mac,
    'AWS4the-secret-key',
  )
  return mac(key, text).toString('hex') === signature ? 'valid' : 'another signature'
}
