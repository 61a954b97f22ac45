import { randomBytes } from 'node:crypto'
import type { IncomingMessage, ServerResponse } from 'node:http'
import { exportJWK, generateKeyPair, type JWK } from 'jose'
import Provider from 'oidc-provider'
import { escapeHtml, readBody } from '../http.ts'
import type { NotesStore } from './store.ts'

/**
 * The notes server's own authorization server, as an MCP server in the wild has one: dynamic registration, PKCE,
 * resource indicators, JWT access tokens of five minutes, rotating refresh tokens. Whoever types a name is that
 * person: it shows whose notes a token opens, it guards nothing.
 */
export interface NotesAuthorization {
  readonly publicKeys: { keys: JWK[] }
  handle(request: IncomingMessage, response: ServerResponse): Promise<void>
}

const accountName = /^[A-Za-z0-9._@-]{1,64}$/
const accessTokenSecs = 300

export async function createAuthorization(
  issuer: string,
  resource: string,
  store: NotesStore,
): Promise<NotesAuthorization> {
  const privateJwk = await store.keep('signing-key', async () => {
    const { privateKey } = await generateKeyPair('ES256', { extractable: true })
    return { ...(await exportJWK(privateKey)), kid: randomBytes(8).toString('hex'), alg: 'ES256', use: 'sig' }
  })
  const cookieKey = await store.keep('cookie-key', async () => randomBytes(32).toString('base64url'))
  const { d: _private, ...publicJwk } = privateJwk as JWK

  const provider = new Provider(issuer, {
    adapter: (model: string) => store.adapter(model),
    clients: [],
    responseTypes: ['code'],
    jwks: { keys: [privateJwk as JWK] },
    cookies: { keys: [cookieKey], names: { session: 'notes_session', interaction: 'notes_interaction' } },
    scopes: ['openid', 'offline_access', 'notes'],
    clientDefaults: {
      grant_types: ['authorization_code', 'refresh_token'],
      token_endpoint_auth_method: 'none',
      id_token_signed_response_alg: 'ES256',
    },
    pkce: { required: () => true },
    routes: { authorization: '/authorize', token: '/token', registration: '/register', jwks: '/jwks' },
    features: {
      devInteractions: { enabled: false },
      registration: { enabled: true },
      revocation: { enabled: true },
      rpInitiatedLogout: { enabled: false },
      userinfo: { enabled: false },
      resourceIndicators: {
        enabled: true,
        defaultResource: () => resource,
        useGrantedResource: () => true,
        getResourceServerInfo: (_ctx, indicator) => {
          if (indicator !== resource) throw new Error(`${indicator} is not a resource of this server`)
          return {
            scope: 'notes',
            audience: resource,
            accessTokenFormat: 'jwt',
            accessTokenTTL: accessTokenSecs,
            jwt: { sign: { alg: 'ES256' } },
          }
        },
      },
    },
    issueRefreshToken: async (_ctx, client) => client.grantTypeAllowed('refresh_token'),
    rotateRefreshToken: true,
    ttl: { Interaction: 600, Session: 3600, Grant: 30 * 86400, RefreshToken: 30 * 86400 },
    interactions: { url: (_ctx, interaction) => `/sign-in/${interaction.uid}` },
    findAccount: (_ctx, id) => ({ accountId: id, claims: () => ({ sub: id }) }),
    renderError: (ctx, out) => {
      ctx.type = 'html'
      ctx.body = page(
        'Notes could not do that',
        `<p>${escapeHtml(`${out.error}: ${out.error_description ?? ''}`)}</p>`,
      )
    },
  })
  const callback = provider.callback()

  const signIn = async (request: IncomingMessage, response: ServerResponse): Promise<void> => {
    const details = await provider.interactionDetails(request, response)
    const client = await provider.Client.find(String(details.params.client_id))
    const clientName = client?.clientName ?? 'An application'
    const form = request.method === 'POST' ? new URLSearchParams(await readBody(request)) : undefined
    const account = form?.get('account') ?? ''
    if (form?.get('decision') === 'deny') {
      const result = { error: 'access_denied', error_description: 'The person said no.' }
      return provider.interactionFinished(request, response, result)
    }
    if (!accountName.test(account)) {
      response.writeHead(200, { 'content-type': 'text/html; charset=utf-8', 'cache-control': 'no-store' })
      response.end(signInPage(clientName, form !== undefined))
      return
    }
    const grant = new provider.Grant({ accountId: account, clientId: String(details.params.client_id) })
    grant.addOIDCScope('openid offline_access notes')
    grant.addResourceScope(resource, 'notes')
    const result = { login: { accountId: account }, consent: { grantId: await grant.save() } }
    await provider.interactionFinished(request, response, result, { mergeWithLastSubmission: false })
  }

  return {
    publicKeys: { keys: [publicJwk] },
    handle: (request, response) =>
      request.url?.startsWith('/sign-in/')
        ? signIn(request, response)
        : Promise.resolve(callback(request, response)),
  }
}

const page = (title: string, body: string): string => `<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>${escapeHtml(title)}</title>
<meta name="viewport" content="width=device-width">
<style>body{font:16px/1.5 system-ui,sans-serif;max-width:26rem;margin:4rem auto;padding:0 1rem}
input,button{font:inherit;padding:.4rem .7rem;margin:.3rem 0}</style></head>
<body><h1>${escapeHtml(title)}</h1>${body}</body></html>`

const signInPage = (clientName: string, invalid: boolean): string =>
  page(
    'Sign in to Notes',
    `<p>${escapeHtml(clientName)} asks to read and add notes in your name.</p>
${invalid ? '<p role="alert">A name has letters, digits and . _ @ - only.</p>' : ''}
<form method="post"><label>Your Notes account <input name="account" autocomplete="username" required></label>
<p><button name="decision" value="allow">Sign in and allow</button>
<button name="decision" value="deny" formnovalidate>Cancel</button></p></form>`,
  )
