import { once } from 'node:events'
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import Provider from 'oidc-provider'
import { TokenLedger } from './token-ledger.ts'

/**
 * An MCP server that wants each person's own token, with its own authorization server (oidc-provider): registration,
 * PKCE, refresh tokens that rotate and whose second use ends the grant, as the strictest servers do.
 */
export interface AccountServer {
  readonly url: string
  /** What the server saw of each tool call: whose token came, and whose call it was. */
  readonly calls: { readonly caller: string; readonly account: string | undefined }[]
  /** Accounts of refreshes that succeeded. */
  readonly refreshed: string[]
  /** Every token that was given, and when each was renewed. */
  readonly ledger: TokenLedger
  /** Errors of the token endpoint. */
  readonly failed: string[]
  /** Every access token that lives is over at once, as if its time had come. */
  expire(): Promise<void>
  /** Milliseconds before the token endpoint answers: time for others to ask as well. */
  tokenDelayMs: number
  /** Where set, the token endpoint answers this status. */
  tokenStatus: number | undefined
  /** The person takes the access back at the server. */
  revoke(account: string): Promise<void>
  close(): Promise<void>
}

export async function startAccountServer(accessTokenSecs: number): Promise<AccountServer> {
  const server = createServer()
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const origin = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
  const resource = `${origin}/mcp`
  const grants = new Map<string, string[]>()
  const live = new Set<string>()
  const provider = new Provider(origin, {
    clients: [],
    cookies: { keys: ['k'] },
    scopes: ['openid', 'offline_access'],
    pkce: { required: () => true },
    rotateRefreshToken: true,
    issueRefreshToken: async () => true,
    clientDefaults: {
      grant_types: ['authorization_code', 'refresh_token'],
      token_endpoint_auth_method: 'none',
    },
    features: {
      devInteractions: { enabled: false },
      registration: { enabled: true },
      revocation: { enabled: true },
      resourceIndicators: {
        enabled: true,
        defaultResource: () => resource,
        useGrantedResource: () => true,
        getResourceServerInfo: () => ({
          scope: 'use',
          audience: resource,
          accessTokenFormat: 'opaque',
          accessTokenTTL: accessTokenSecs,
        }),
      },
    },
    interactions: { url: (_ctx, { uid }) => `/login/${uid}` },
    findAccount: (_ctx, id) => ({ accountId: id, claims: () => ({ sub: id }) }),
  })
  const callback = provider.callback()
  const at: AccountServer = {
    url: resource,
    calls: [],
    refreshed: [],
    ledger: new TokenLedger(provider, server, Date.now),
    failed: [],
    tokenDelayMs: 0,
    tokenStatus: undefined,
    expire: async () => {
      for (const id of live) await (await provider.AccessToken.find(id))?.destroy()
      live.clear()
    },
    revoke: async (account) => {
      for (const id of grants.get(account) ?? []) await provider.RefreshToken.revokeByGrantId(id)
    },
    close: async () => {
      server.closeAllConnections()
      await new Promise((resolve) => server.close(resolve))
    },
  }
  provider.on('access_token.saved', ({ jti }) => live.add(jti))
  provider.on('grant.success', (ctx) => {
    if (ctx.oidc.params?.grant_type === 'refresh_token') {
      at.refreshed.push(ctx.oidc.entities.RefreshToken?.accountId ?? 'nobody')
    }
  })
  provider.on('grant.error', (_ctx, error) => at.failed.push(error.message))

  const login = async (request: IncomingMessage, response: ServerResponse): Promise<void> => {
    const { params } = await provider.interactionDetails(request, response)
    const account = new URLSearchParams(await read(request)).get('account')
    if (!account) {
      const form = '<form method="post"><input name="account"><button>Allow</button></form>'
      response.writeHead(200, { 'content-type': 'text/html' }).end(`<title>Sign in</title>${form}`)
      return
    }
    const grant = new provider.Grant({ accountId: account, clientId: String(params.client_id) })
    grant.addOIDCScope('openid offline_access')
    grant.addResourceScope(resource, 'use')
    const grantId = await grant.save()
    grants.set(account, [...(grants.get(account) ?? []), grantId])
    const result = { login: { accountId: account }, consent: { grantId } }
    await provider.interactionFinished(request, response, result, { mergeWithLastSubmission: false })
  }

  const mcp = async (request: IncomingMessage, response: ServerResponse): Promise<void> => {
    const text = await read(request)
    const token = /^Bearer (.+)$/.exec(request.headers.authorization ?? '')?.[1]
    const found = token === undefined ? undefined : await provider.AccessToken.find(token)
    if (!found?.accountId || found.aud !== resource) {
      const metadata = `${origin}/.well-known/oauth-protected-resource/mcp`
      const challenge = `Bearer error="invalid_token", resource_metadata="${metadata}", scope="use"`
      response.writeHead(401, { 'www-authenticate': challenge }).end()
      return
    }
    // No stream of its own: the gateway may ask for one.
    if (request.method !== 'POST') return void response.writeHead(405, { allow: 'POST' }).end()
    const body = JSON.parse(text) as { id?: number; method: string; params?: Record<string, never> }
    const result = answer(body.method, body.params ?? {}, found.accountId)
    if (body.id === undefined) return void response.writeHead(202).end()
    if (!result) return void response.writeHead(400).end()
    response
      .writeHead(200, { 'content-type': 'application/json' })
      .end(JSON.stringify({ jsonrpc: '2.0', id: body.id, result }))
  }

  const answer = (method: string, params: Record<string, unknown>, account: string): object | undefined => {
    switch (method) {
      case 'initialize':
        return {
          protocolVersion: '2025-06-18',
          capabilities: { tools: {} },
          serverInfo: { name: 'accounts', version: '1' },
        }
      case 'tools/list':
        return { tools: [{ name: 'whoami', inputSchema: { type: 'object' } }] }
      case 'tools/call': {
        const { caller } = (params.arguments ?? {}) as { caller?: string }
        at.calls.push({ caller: caller ?? '', account })
        return { content: [{ type: 'text', text: account }] }
      }
      default:
        return undefined
    }
  }

  server.on('request', async (request, response) => {
    const path = request.url?.split('?')[0] ?? ''
    if (path === '/.well-known/oauth-protected-resource/mcp') {
      const document = { resource, authorization_servers: [origin], scopes_supported: ['use'] }
      return response.writeHead(200, { 'content-type': 'application/json' }).end(JSON.stringify(document))
    }
    if (path === '/mcp') return mcp(request, response)
    if (path.startsWith('/login/')) return login(request, response)
    if (path === '/token') {
      if (at.tokenDelayMs > 0) await new Promise((resolve) => setTimeout(resolve, at.tokenDelayMs))
      if (at.tokenStatus !== undefined) return response.writeHead(at.tokenStatus).end()
    }
    return callback(request, response)
  })
  return at
}

async function read(request: IncomingMessage): Promise<string> {
  let text = ''
  for await (const chunk of request) text += String(chunk)
  return text
}
