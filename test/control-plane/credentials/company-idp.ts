import { once } from 'node:events'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { exportJWK, generateKeyPair, type JWK, jwtVerify, SignJWT } from 'jose'
import { Provider } from 'oidc-provider'
import type { Test } from 'tap'

export const exchangeGrant = 'urn:ietf:params:oauth:grant-type:token-exchange'
const { publicKey, privateKey } = await generateKeyPair('RS256', { extractable: true })
const jwk = { ...(await exportJWK(privateKey)), kid: 'idp-1', alg: 'RS256', use: 'sig' }

/** A company's identity provider (oidc-provider) that exchanges ID tokens for identity assertions (RFC 8693, ID-JAG). */
export interface CompanyIdp {
  readonly issuer: string
  person: Record<string, unknown>
  /** Parameters of each token request, with the grant type. */
  readonly asked: Record<string, unknown>[]
  /** Which client we are at the authorization server of an MCP server, as its administrator told it. */
  clientAt: string
  /** OAuth error that the exchange answers. */
  refuse: string | undefined
  /** Waited for before an exchange is answered; gives an OAuth error to answer. */
  exchanging: (params: Record<string, string>) => Promise<string | undefined>
  /** No refresh answers an ID token. */
  withoutIdToken: boolean
  tokenStatus: number | undefined
  endSignIns(): Promise<void>
}

export async function companyIdp(t: Test, callback: () => string): Promise<CompanyIdp> {
  const server = createServer()
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const issuer = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
  t.teardown(async () => {
    server.closeAllConnections()
    await new Promise((resolve) => server.close(resolve))
  })
  const grants = new Set<string>()
  const idp: CompanyIdp = {
    issuer,
    person: {},
    asked: [],
    clientAt: 'agent',
    refuse: undefined,
    exchanging: async () => undefined,
    withoutIdToken: false,
    tokenStatus: undefined,
    endSignIns: async () => {
      for (const id of grants) await made().RefreshToken.revokeByGrantId(id)
    },
  }
  const make = (): Provider => {
    const provider = new Provider(issuer, {
      clients: [
        {
          client_id: 'gateway',
          client_secret: 'idp-secret',
          redirect_uris: [callback()],
          grant_types: ['authorization_code', 'refresh_token', exchangeGrant],
          token_endpoint_auth_method: 'client_secret_post',
        },
      ],
      jwks: { keys: [jwk as JWK] } as never,
      cookies: { keys: ['k'] },
      scopes: ['openid', 'offline_access'],
      claims: { openid: ['sub'], email: ['email', 'email_verified'], profile: ['name'] },
      conformIdTokenClaims: false,
      features: { devInteractions: { enabled: false } },
      interactions: { url: (_ctx, { uid }) => `/login/${uid}` },
      rotateRefreshToken: true,
      issueRefreshToken: async () => true,
      findAccount: async (_ctx, sub) => ({ accountId: sub, claims: async () => ({ ...idp.person, sub }) }),
      loadExistingGrant: async (ctx) => {
        const grant = new ctx.oidc.provider.Grant({
          accountId: ctx.oidc.session!.accountId!,
          clientId: ctx.oidc.client!.clientId,
        })
        grant.addOIDCScope('openid profile email offline_access')
        grants.add(await grant.save())
        return grant
      },
    })
    provider.registerGrantType(
      exchangeGrant,
      async (ctx) => {
        const params = ctx.oidc.params as unknown as Record<string, string>
        const error = (await idp.exchanging(params)) ?? idp.refuse
        if (error !== undefined) {
          ctx.status = 400
          ctx.body = { error }
          return
        }
        const { payload } = await jwtVerify(params.subject_token!, publicKey, { issuer, audience: 'gateway' })
        const assertion = await new SignJWT({
          client_id: idp.clientAt,
          resource: params.resource,
          ...(params.scope === undefined ? {} : { scope: params.scope }),
          email: idp.person.email,
          email_verified: true,
        })
          .setProtectedHeader({ alg: 'RS256', kid: 'idp-1', typ: 'oauth-id-jag+jwt' })
          .setIssuer(issuer)
          .setSubject(payload.sub!)
          .setAudience(params.audience!)
          .setIssuedAt()
          .setExpirationTime('5m')
          .setJti(crypto.randomUUID())
          .sign(privateKey)
        ctx.body = {
          issued_token_type: 'urn:ietf:params:oauth:token-type:id-jag',
          access_token: assertion,
          token_type: 'N_A',
          expires_in: 300,
        }
      },
      ['audience', 'resource', 'scope', 'requested_token_type', 'subject_token', 'subject_token_type'],
    )
    provider.use(async (ctx, next) => {
      await next()
      if (ctx.path !== '/token') return
      const { client_secret: _secret, ...rest } = (ctx.oidc?.params ?? {}) as Record<string, unknown>
      idp.asked.push(rest)
      if (idp.withoutIdToken && rest.grant_type === 'refresh_token' && typeof ctx.body === 'object') {
        delete (ctx.body as Record<string, unknown>).id_token
      }
    })
    return provider
  }
  let provider: Provider | undefined
  const made = (): Provider => {
    provider ??= make()
    return provider
  }
  server.on('request', async (request, response) => {
    if (request.url?.startsWith('/login/')) {
      await made().interactionDetails(request, response)
      const login = { accountId: String(idp.person.sub) }
      return made().interactionFinished(request, response, { login })
    }
    if (request.url === '/token' && idp.tokenStatus !== undefined) {
      return response.writeHead(idp.tokenStatus).end()
    }
    return made().callback()(request, response)
  })
  return idp
}
