import { once } from 'node:events'
import { createServer, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { Provider } from 'oidc-provider'
import { TokenLedger } from '../../rig/token-ledger.ts'

/** An MCP server that needs its own authorization server's token: a real oidc-provider and a bare resource. */
export interface Upstream {
  readonly issuer: string
  /** URL of the MCP endpoint. */
  readonly resource: string
  /** Who signs in at the next visit of the login page. */
  person: string
  /** Grants that succeeded, as `<grant type> <account>`. */
  readonly grants: string[]
  /** Every request to the authorization server, as `<method> <path>`. */
  readonly requests: string[]
  /** Where set, the token endpoint answers this status. */
  tokenStatus: number | undefined
  /** Where set, the token endpoint answers so. */
  tokenRefusal: { status: number; headers?: Record<string, string>; body: string } | undefined
  /** Waits before the token endpoint answers, ms. */
  tokenDelayMs: number
  /** Waited for before a request to the authorization server is answered. */
  before: (path: string) => Promise<void> | void
  /** Every token that was given, and when each was renewed. */
  readonly ledger: TokenLedger
  /** Milliseconds since the epoch, for the ledger. */
  now: () => number
  /** The account that a token is of, as the resource sees it; undefined where it refuses it. */
  accountOf(token: string): Promise<string | undefined>
  revokeGrants(account: string): Promise<void>
  /** Every access token that lives is over at once. */
  endTokens(): Promise<void>
  close(): Promise<void>
}

export interface UpstreamOptions {
  readonly clients?: Record<string, unknown>[]
  readonly registration?: boolean
  readonly accessTokenSecs?: number
}

async function listen(): Promise<{ server: Server; origin: string }> {
  const server = createServer()
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  return { server, origin: `http://127.0.0.1:${(server.address() as AddressInfo).port}` }
}

export async function startUpstream(options: UpstreamOptions = {}): Promise<Upstream> {
  const as = await listen()
  const mcp = await listen()
  const resource = `${mcp.origin}/mcp`
  const live = new Set<string>()
  const grantIds = new Map<string, Set<string>>()
  const provider = new Provider(as.origin, {
    clients: (options.clients ?? []) as never,
    cookies: { keys: ['k'] },
    scopes: ['openid', 'offline_access'],
    claims: { openid: ['sub', 'email'] },
    conformIdTokenClaims: false,
    pkce: { required: () => true },
    rotateRefreshToken: true,
    issueRefreshToken: async () => true,
    ttl: { AccessToken: options.accessTokenSecs ?? 300 },
    features: {
      devInteractions: { enabled: false },
      registration: { enabled: options.registration ?? true },
      revocation: { enabled: true },
      introspection: { enabled: true },
      resourceIndicators: {
        enabled: true,
        defaultResource: () => resource,
        useGrantedResource: () => true,
        getResourceServerInfo: (_ctx, indicator) => {
          if (indicator !== resource) throw new Error(`another resource: ${indicator}`)
          return { scope: 'notes', audience: resource, accessTokenFormat: 'opaque' }
        },
      },
    },
    interactions: { url: (_ctx, { uid }) => `/login/${uid}` },
    findAccount: async (_ctx, sub) => ({
      accountId: sub,
      claims: async () => ({ sub, email: `${sub}@notes.example` }),
    }),
    loadExistingGrant: async (ctx) => {
      const grant = new ctx.oidc.provider.Grant({
        accountId: ctx.oidc.session!.accountId!,
        clientId: ctx.oidc.client!.clientId,
      })
      grant.addOIDCScope('openid offline_access')
      grant.addResourceScope(resource, 'notes')
      const id = await grant.save()
      const ids = grantIds.get(ctx.oidc.session!.accountId!) ?? new Set()
      grantIds.set(ctx.oidc.session!.accountId!, ids.add(id))
      return grant
    },
  })
  const upstream: Upstream = {
    issuer: as.origin,
    resource,
    person: 'nobody',
    grants: [],
    requests: [],
    tokenStatus: undefined,
    tokenRefusal: undefined,
    tokenDelayMs: 0,
    before: () => {},
    ledger: new TokenLedger(provider, as.server, () => upstream.now()),
    now: Date.now,
    accountOf: async (token) => {
      const found = await provider.AccessToken.find(token)
      return found?.aud === resource ? found.accountId : undefined
    },
    revokeGrants: async (account) => {
      for (const id of grantIds.get(account) ?? []) await provider.RefreshToken.revokeByGrantId(id)
    },
    endTokens: async () => {
      for (const id of live) await (await provider.AccessToken.find(id))?.destroy()
      live.clear()
    },
    close: async () => {
      for (const { server } of [as, mcp]) {
        server.closeAllConnections()
        await new Promise((resolve) => server.close(resolve))
      }
    },
  }
  provider.on('access_token.saved', ({ jti }) => live.add(jti))
  provider.on('grant.success', (ctx) => {
    upstream.grants.push(
      `${ctx.oidc.params?.grant_type} ${ctx.oidc.account?.accountId ?? ctx.oidc.entities.RefreshToken?.accountId}`,
    )
  })
  as.server.on('request', async (request, response) => {
    const path = request.url?.split('?')[0]
    upstream.requests.push(`${request.method} ${path}`)
    await upstream.before(path ?? '')
    if (path?.startsWith('/login/')) {
      await provider.interactionDetails(request, response)
      const login = { accountId: upstream.person }
      return provider.interactionFinished(request, response, { login, consent: {} })
    }
    if (path === '/token') {
      if (upstream.tokenDelayMs > 0)
        await new Promise((resolve) => setTimeout(resolve, upstream.tokenDelayMs))
      if (upstream.tokenStatus !== undefined) return response.writeHead(upstream.tokenStatus).end()
      const refusal = upstream.tokenRefusal
      if (refusal) return response.writeHead(refusal.status, refusal.headers).end(refusal.body)
    }
    return provider.callback()(request, response)
  })
  mcp.server.on('request', async (request, response) => {
    const metadata = `${mcp.origin}/.well-known/oauth-protected-resource/mcp`
    if (request.url === '/.well-known/oauth-protected-resource/mcp') {
      const document = { resource, authorization_servers: [as.origin], scopes_supported: ['notes'] }
      return response.writeHead(200, { 'content-type': 'application/json' }).end(JSON.stringify(document))
    }
    if (request.url !== '/mcp') return response.writeHead(404).end()
    const token = /^Bearer (.+)$/.exec(request.headers.authorization ?? '')?.[1]
    const account = token === undefined ? undefined : await upstream.accountOf(token)
    if (!account) {
      const challenge = `Bearer error="invalid_token", resource_metadata="${metadata}", scope="notes"`
      return response.writeHead(401, { 'www-authenticate': challenge }).end()
    }
    return response.writeHead(200, { 'content-type': 'application/json' }).end(JSON.stringify({ account }))
  })
  return upstream
}
