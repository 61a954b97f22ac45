import { strict as assert } from 'node:assert'
import type { webcrypto } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { createServer } from 'node:http'
import { request as httpsRequest } from 'node:https'
import type { AddressInfo } from 'node:net'
import { dirname, join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { getCACertificates, setDefaultCACertificates, connect as tlsConnect } from 'node:tls'
import { importJWK, type JWK, SignJWT } from 'jose'
import { parseDocument } from 'yaml'
import { createSealer } from '../../services/control-plane/credentials/sealer.ts'
import { Browser } from '../control-plane/identity/browser.ts'
import {
  token as askToken,
  authorizeUrl,
  callback,
  type World as OAuthWorld,
  pkce,
  type RegisteredClient,
  register,
  signInAndAllow,
  type Tokens,
} from '../control-plane/identity/world.ts'
import { type HttpsSite, startHttpsSite } from '../rig/https-site.ts'
import { withServers } from '../rig/servers.ts'
import { type Rig, startRig, users } from '../rig/world.ts'

export interface Answer {
  readonly status: number
  readonly headers: NodeJS.Dict<string | string[]>
  readonly body: string
}

export interface Ask {
  readonly method?: string
  readonly path?: string
  readonly headers?: Record<string, string | string[]>
  readonly body?: string
  /** The bearer token; none where null, Ann's where absent. */
  readonly token?: string | null
}

export type AttackRig = Awaited<ReturnType<typeof startAttackRig>>

const rpc = (method: string, params: object = {}, id = 7): string =>
  JSON.stringify({ jsonrpc: '2.0', id, method, params })
export const canaryCall = rpc('tools/call', { name: 'canary_sing', arguments: {} })

/** An MCP server that counts who reached it. */
async function startCanary() {
  const calls: NodeJS.Dict<string | string[]>[] = []
  const server = createServer((request, response) => {
    const chunks: Buffer[] = []
    request.on('data', (chunk: Buffer) => chunks.push(chunk))
    request.on('end', () => {
      const text = Buffer.concat(chunks).toString()
      const message = (text === '' ? {} : JSON.parse(text)) as {
        id?: unknown
        method?: string
        params?: never
      }
      const answer = (result: unknown): void => {
        response.writeHead(200, { 'content-type': 'application/json' })
        response.end(JSON.stringify({ jsonrpc: '2.0', id: message.id, result }))
      }
      if (message.method === 'tools/call') {
        calls.push(request.headers)
        return answer({ content: [{ type: 'text', text: 'tweet' }] })
      }
      const tools = [{ name: 'sing', inputSchema: { type: 'object' } }]
      if (message.method === 'tools/list') return answer({ tools })
      if (message.method === 'initialize') {
        const serverInfo = { name: 'canary', version: '1' }
        return answer({ protocolVersion: '2025-11-25', capabilities: { tools: {} }, serverInfo })
      }
      response.writeHead(message.id === undefined ? 202 : 400).end()
    })
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const { port } = server.address() as AddressInfo
  return {
    url: `http://127.0.0.1:${port}/mcp`,
    calls,
    close: () => new Promise<void>((resolve) => server.close(() => resolve()).closeAllConnections()),
  }
}

/** The whole appliance, two people in it, a canary behind it that only Ann may call, and tools to attack all of it. */
export async function startAttackRig() {
  const canary = await startCanary()
  const site = await startHttpsSite((request, response, origin) => {
    const path = request.url ?? '/'
    if (path.startsWith('/redirect')) {
      response.writeHead(302, { location: `${origin}/landed.json` }).end()
      return
    }
    const id = `${origin}${path}`
    const odd: Record<string, object> = {
      '/other.json': { client_id: `${origin}/client.json` },
      '/secret.json': { client_secret: 'known to everyone' },
      '/script.json': { redirect_uris: ['javascript:alert(1)'] },
      '/large.json': { client_uri: 'x'.repeat(20_000) },
    }
    response.writeHead(200, { 'content-type': path === '/html.json' ? 'text/html' : 'application/json' })
    response.end(
      JSON.stringify({ client_id: id, client_name: 'Agent', redirect_uris: [callback], ...odd[path] }),
    )
  })
  const rig = await startRig({
    logLevel: 'info',
    edit: (yaml) => {
      const text = withServers(yaml, [{ id: 'canary', url: canary.url, onlyFor: [users.ann.email] }])
      const document = parseDocument(text)
      document.set('authorizationServer', {
        clientIdMetadataDocuments: {
          allowedDomains: ['localhost', '*.rebind.test', '169.254.169.254', '10.0.0.1', '127.0.0.1'],
          // Open for the site of this test; its name that changes its address leads elsewhere.
          allowedNetworks: ['127.0.0.1/32'],
        },
        clients: [
          {
            clientId: 'confidential',
            clientSecret: { value: 'a secret of thirty-two characters' },
            redirectUris: ['https://confidential.example/callback'],
          },
        ],
      })
      return document.toString({ lineWidth: 0 })
    },
    adapt: (launch) =>
      launch.name === 'control-plane'
        ? {
            ...launch,
            nodeArgs: ['--import', new URL('rebinding-dns.ts', import.meta.url).href],
            env: { ...launch.env, NODE_EXTRA_CA_CERTS: site.caPath },
          }
        : launch,
  })
  setDefaultCACertificates([...getCACertificates('default'), readFileSync(rig.caPath!, 'utf8')])
  const { origin } = rig
  const url = new URL(rig.url)
  const ca = readFileSync(rig.caPath!)
  const oauth = { origin, issuer: origin, resource: rig.url } as OAuthWorld

  /** From registration to tokens, for a person. */
  const enter = async (name: keyof typeof users, scope = 'mcp') => {
    const browser = new Browser()
    const client = await register(oauth)
    const { verifier, challenge } = pkce()
    const link = authorizeUrl(oauth, client.client_id, challenge, { scope })
    const { email, password } = users[name]
    const code = await codeFor(browser, link, email, password)
    const { body } = await askToken(oauth, {
      grant_type: 'authorization_code',
      code,
      redirect_uri: callback,
      client_id: client.client_id,
      code_verifier: verifier,
    })
    assert.ok(body.access_token, JSON.stringify(body))
    return { browser, client, tokens: body as Tokens, verifier, challenge, code }
  }
  const codeFor = async (
    browser: Browser,
    link: string,
    email: string,
    password: string,
  ): Promise<string> => {
    let at = await browser.follow(await browser.get(link), callback)
    if (at.text.includes('name="password"')) {
      at = await browser.follow(await browser.submit(at, '/password', { email, password }), callback)
    }
    if (at.text.includes('/consent"')) {
      at = await browser.follow(await browser.submit(at, '/consent', { decision: 'allow' }), callback)
    }
    const code = new URL(at.location ?? 'http://none').searchParams.get('code')
    assert.ok(code, `no code: ${at.status} ${at.location} ${at.text.slice(0, 300)}`)
    return code
  }
  const ann = await enter('ann', 'openid email mcp')
  const bob = await enter('bob')

  const send = (ask: Ask = {}): Promise<Answer> =>
    new Promise((resolve, reject) => {
      const bearer = ask.token === undefined ? ann.tokens.access_token : ask.token
      const outgoing = httpsRequest(
        {
          host: '127.0.0.1',
          port: url.port,
          servername: 'localhost',
          ca,
          agent: false,
          method: ask.method ?? 'POST',
          path: ask.path ?? url.pathname,
          headers: {
            host: url.host,
            'content-type': 'application/json',
            accept: 'application/json, text/event-stream',
            ...(bearer === null ? {} : { authorization: `Bearer ${bearer}` }),
            ...ask.headers,
          },
        },
        (response) => {
          const chunks: Buffer[] = []
          response.on('data', (chunk: Buffer) => chunks.push(chunk))
          response.on('error', reject)
          response.on('end', () =>
            resolve({
              status: response.statusCode ?? 0,
              headers: response.headers,
              body: Buffer.concat(chunks).toString(),
            }),
          )
        },
      )
      outgoing.on('error', reject)
      outgoing.end(ask.body ?? (ask.method === 'GET' ? '' : canaryCall))
    })

  /** Bytes as they are, through TLS; all that came back until the gateway closed, or half a second of silence. */
  const raw = (bytes: string): Promise<string> =>
    new Promise((resolve, reject) => {
      let text = ''
      const socket = tlsConnect({ host: '127.0.0.1', port: Number(url.port), servername: 'localhost', ca })
      socket.setTimeout(1_500, () => socket.destroy())
      socket.on('secureConnect', () => socket.write(bytes))
      socket.on('data', (chunk) => {
        text += chunk.toString('latin1')
      })
      socket.on('error', reject)
      socket.on('close', () => resolve(text))
    })

  // The authorization server's own keys, as a thief of its disk and master key would have them: forged tokens then
  // fail on what they say alone, not on their signature.
  const stateDir = dirname(rig.state.adminTokenPath)
  const key = await signingKey(stateDir)
  const forge = (
    claims: Record<string, unknown> = {},
    header: Record<string, unknown> = {},
    signer: { privateKey: webcrypto.CryptoKey } = key,
  ): Promise<string> => {
    const [, payload = ''] = ann.tokens.access_token.split('.')
    const own = JSON.parse(Buffer.from(payload, 'base64url').toString()) as Record<string, unknown>
    return new SignJWT({ ...own, jti: crypto.randomUUID(), ...claims })
      .setProtectedHeader({ alg: 'RS256', kid: key.kid, typ: 'at+jwt', ...header })
      .sign(signer.privateKey, { crit: { x: true } })
  }

  return {
    ...rig,
    oauth,
    canary,
    site: site as HttpsSite,
    key,
    forge,
    send,
    raw,
    enter,
    codeFor,
    ann,
    bob,
    host: url.host,
    /** A new authorization request of a client, up to where a browser would go. */
    link: (
      client: RegisteredClient | string,
      over: Record<string, string | null> = {},
      challenge = pkce().challenge,
    ) => authorizeUrl(oauth, typeof client === 'string' ? client : client.client_id, challenge, over),
    token: (fields: Record<string, string>, headers?: Record<string, string>) =>
      askToken(oauth, fields, headers),
    register: (over?: Record<string, unknown>) => register(oauth, over),
    signInAndAllow,
    end: async () => {
      await rig.end()
      await Promise.all([canary.close(), site.close()])
    },
  } satisfies Rig & Record<string, unknown>
}

async function signingKey(
  stateDir: string,
): Promise<{ privateKey: webcrypto.CryptoKey; publicJwk: JWK; kid: string }> {
  const masterKey = Buffer.from(readFileSync(join(stateDir, 'master-key'), 'utf8').trim(), 'base64')
  const db = new DatabaseSync(join(stateDir, 'control-plane.db'), { readOnly: true })
  const row = db.prepare("SELECT * FROM signing_key WHERE algorithm = 'RS256' AND retired_at IS NULL").get()!
  db.close()
  const kid = String(row.kid)
  const sealed = Buffer.from(row.sealed_jwk as Uint8Array)
  const jwk = JSON.parse(createSealer(masterKey).open(sealed, `signing-key:${kid}`).toString()) as JWK
  const publicJwk = JSON.parse(String(row.public_jwk)) as JWK
  return { privateKey: (await importJWK(jwk, 'RS256')) as webcrypto.CryptoKey, publicJwk, kid }
}

/** Refused at the MCP endpoint: 401 with the way in, and no result. */
export function assertUnauthorized(answer: Answer): void {
  assert.equal(answer.status, 401, answer.body.slice(0, 300))
  assert.match(String(answer.headers['www-authenticate']), /^Bearer .*resource_metadata=/)
  assert.doesNotMatch(answer.body, /tweet/)
}

export function assertRefused(answer: Answer, ...statuses: number[]): void {
  assert.ok(statuses.includes(answer.status), `${answer.status} ${answer.body.slice(0, 300)}`)
  assert.doesNotMatch(answer.body, /tweet/)
}
