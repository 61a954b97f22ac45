import { once } from 'node:events'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import type { Test } from 'tap'
import { freePort } from '../../rig/free-port.ts'
import { startPlane } from '../fleet/credential-rig.ts'
import { Browser } from '../identity/browser.ts'
import { startWorld } from '../identity/world.ts'
import { companyIdp } from './company-idp.ts'

export const loopback = ['127.0.0.0/8']
export const jwtBearer = 'urn:ietf:params:oauth:grant-type:jwt-bearer'
export const secret = 'a long enough secret'
export const type = 'mcp-enterprise-managed-access-token'

/** An MCP server that says who guards it; `documents` by path. */
export async function mcpServer(t: Test, documents: (origin: string) => Record<string, unknown>) {
  const server = createServer((request, response) => {
    const body = documents(origin)[request.url ?? '']
    if (request.url === '/mcp') return response.writeHead(401, { 'www-authenticate': 'Bearer' }).end()
    response
      .writeHead(body ? 200 : 404, { 'content-type': 'application/json' })
      .end(JSON.stringify(body ?? {}))
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.teardown(async () => {
    server.closeAllConnections()
    await new Promise((resolve) => server.close(resolve))
  })
  const origin = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
  return `${origin}/mcp`
}

/** A gateway's control plane, the company's identity provider, an MCP server, and our own product as its authorization server. */
export async function scene(t: Test, over: Record<string, unknown> = {}, names = ['tracker']) {
  let planeOrigin = ''
  const idp = await companyIdp(t, () => `${planeOrigin}/idp/corp/callback`)
  idp.person = { sub: 'u-1', email: 'ann@example.com', email_verified: true, name: 'Ann' }
  let asOrigin = ''
  const resource = await mcpServer(t, (origin) => ({
    '/.well-known/oauth-protected-resource/mcp': {
      resource: `${origin}/mcp`,
      authorization_servers: [asOrigin],
      scopes_supported: ['mcp'],
    },
  }))
  const corp = {
    id: 'corp',
    name: 'Corp SSO',
    type: 'oidc',
    issuer: idp.issuer,
    clientId: 'gateway',
    allowedNetworks: loopback,
  }
  const port = freePort()
  asOrigin = `http://127.0.0.1:${port}`
  const as = await startWorld({
    port,
    config: {
      gateway: { url: resource },
      identityProviders: [{ ...corp, identityAssertions: true }],
      clientWorkloads: [{ id: 'agents', identities: [{ type: 'oauthClientId', value: 'agent' }] }],
      authorizationServer: {
        issuer: asOrigin,
        clients: [{ clientId: 'agent', clientSecret: { value: secret }, grantTypes: [jwtBearer] }],
      },
    },
  })
  t.teardown(() => as.close())
  const plane = await startPlane(resource)
  t.teardown(() => plane.close())
  planeOrigin = plane.origin
  const config = {
    identityProviders: [
      {
        ...corp,
        clientSecret: { value: 'idp-secret' },
        scopes: ['openid', 'profile', 'email', 'offline_access'],
      },
    ],
    serverWorkloads: names.map((id) => ({ id, name: id, url: resource, allowedNetworks: loopback })),
    credentialProviders: [
      {
        id: 'company',
        type,
        identityProvider: 'corp',
        clientId: 'agent',
        clientSecret: { value: secret },
        allowedNetworks: loopback,
        ...over,
      },
    ],
    accessPolicies: [
      { id: 'in', client: 'agents', server: 'gateway' },
      ...names.map((id) => ({ id, server: id, credentialProvider: 'company' })),
    ],
  }
  await plane.apply(config)
  const ask = (rejected?: string, server = names[0]!) => plane.ask('ann', rejected, server)
  /** Signs in at the company from a page that offers it. */
  const signIn = async (
    browser = new Browser(),
    from = `${plane.origin}/sign-in?return_to=%2Fconnections`,
  ) => {
    const page = await browser.get(from)
    return { browser, page: await browser.follow(await browser.submit(page, '/idp')) }
  }
  const grants = (name: string) => idp.asked.filter(({ grant_type }) => grant_type === name)
  return { plane, idp, as, resource, config, ask, signIn, grants }
}
