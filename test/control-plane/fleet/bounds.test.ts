import { once } from 'node:events'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { brotliCompressSync, deflateSync, gzipSync } from 'node:zlib'
import { type Test, test } from 'tap'
import { createOutbound } from '../../../services/control-plane/credentials/outbound.ts'
import { createGuardedFetch } from '../../../services/control-plane/identity/guarded-fetch.ts'
import { createJwksFetch } from '../../../services/proxy/auth/issuers.ts'
import { proves } from '../../requirements.ts'

const loopback = ['127.0.0.0/8']
const small = Buffer.from('{"issuer":"https://as.example"}')
const large = Buffer.concat([Buffer.from('{"issuer":"'), Buffer.alloc(64 << 20, 'a'), Buffer.from('"}')])
const encoded: Record<string, [string, Buffer]> = {
  '/gzip': ['gzip', gzipSync(small)],
  '/bomb-gzip': ['gzip', gzipSync(large)],
  '/bomb-br': ['br', brotliCompressSync(large)],
  '/bomb-deflate': ['deflate', deflateSync(large)],
  '/stacked': ['gzip, gzip', gzipSync(gzipSync(small))],
}

async function serve(t: Test): Promise<string> {
  const server = createServer((request, response) => {
    const [encoding, body] = encoded[request.url?.split('?')[0] ?? ''] ?? ['identity', small]
    response.writeHead(200, { 'content-type': 'application/json', 'content-encoding': encoding }).end(body)
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.teardown(() => {
    server.closeAllConnections()
    server.close()
  })
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`
}

const bombs = Object.keys(encoded).filter((path) => path.startsWith('/bomb'))

test('what a server names is bounded by what it decodes to', async (t) => {
  proves(t, 'CRED-102')
  const origin = await serve(t)
  const outbound = createOutbound(loopback)
  t.teardown(() => outbound.close())
  t.strictSame(await outbound.document(`${origin}/gzip`), { issuer: 'https://as.example' })
  t.strictSame(await outbound.document(`${origin}/plain`), { issuer: 'https://as.example' })
  for (const path of bombs) {
    t.ok((encoded[path]?.[1].length ?? 0) < 256 << 10, 'within the bound on the wire')
    await t.rejects(outbound.document(`${origin}${path}`), { code: 'upstream.too_large' }, path)
    const response = await outbound.fetch(`${origin}${path}?code=secret`)
    const error = await response.text().catch((caught: unknown) => caught)
    t.match(error, { code: 'upstream.too_large', detail: `${origin}${path}: over ${256 << 10} bytes` })
  }
  await t.rejects(outbound.document(`${origin}/stacked`), {
    code: 'upstream.garbage',
    detail: /more than once/,
  })
})

test('so are documents of identity providers and key sets', async (t) => {
  proves(t, 'CRED-102')
  const origin = await serve(t)
  const guarded = createGuardedFetch(loopback)
  const keys = createJwksFetch(loopback)
  t.teardown(() => Promise.all([guarded.close(), keys.close()]))
  const fetches = [
    (url: string) => guarded(url),
    (url: string) => keys.fetch(url, { method: 'GET', signal: AbortSignal.timeout(5_000) }),
  ]
  for (const fetch of fetches) {
    t.strictSame(await (await fetch(`${origin}/gzip`)).json(), { issuer: 'https://as.example' })
    const bomb = await fetch(`${origin}/bomb-gzip`)
    await t.rejects(bomb.json(), { code: 'upstream.too_large' })
    await t.rejects(fetch(`${origin}/stacked`), { code: 'upstream.garbage' })
  }
})
