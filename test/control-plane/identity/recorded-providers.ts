import { exportJWK, generateKeyPair, type JWTPayload, SignJWT } from 'jose'
import type { GuardedFetch } from '../../../services/control-plane/identity/guarded-fetch.ts'

/** Discovery documents in the shapes that providers publish, cut to what sign-in reads. */
export const discovery = {
  entra: (tenant: string) => ({
    issuer: `https://login.microsoftonline.com/${/^[0-9a-f-]{36}$/.test(tenant) ? tenant : '{tenantid}'}/v2.0`,
    authorization_endpoint: `https://login.microsoftonline.com/${tenant}/oauth2/v2.0/authorize`,
    token_endpoint: `https://login.microsoftonline.com/${tenant}/oauth2/v2.0/token`,
    jwks_uri: `https://login.microsoftonline.com/${tenant}/discovery/v2.0/keys`,
    userinfo_endpoint: 'https://graph.microsoft.com/oidc/userinfo',
    token_endpoint_auth_methods_supported: ['client_secret_post', 'private_key_jwt', 'client_secret_basic'],
    response_types_supported: ['code', 'id_token', 'code id_token', 'id_token token'],
    subject_types_supported: ['pairwise'],
    id_token_signing_alg_values_supported: ['RS256'],
    tenant_region_scope: null,
  }),
  google: {
    issuer: 'https://accounts.google.com',
    authorization_endpoint: 'https://accounts.google.com/o/oauth2/v2/auth',
    token_endpoint: 'https://oauth2.googleapis.com/token',
    userinfo_endpoint: 'https://openidconnect.googleapis.com/v1/userinfo',
    jwks_uri: 'https://www.googleapis.com/oauth2/v3/certs',
    response_types_supported: ['code', 'token', 'id_token', 'none'],
    subject_types_supported: ['public'],
    id_token_signing_alg_values_supported: ['RS256'],
    code_challenge_methods_supported: ['plain', 'S256'],
  },
  okta: (issuer: string) => {
    const base = issuer.includes('/oauth2/') ? `${issuer}/v1` : `${issuer}/oauth2/v1`
    return {
      issuer,
      authorization_endpoint: `${base}/authorize`,
      token_endpoint: `${base}/token`,
      userinfo_endpoint: `${base}/userinfo`,
      jwks_uri: `${base}/keys`,
      response_types_supported: ['code', 'id_token', 'code id_token'],
      subject_types_supported: ['public'],
      id_token_signing_alg_values_supported: ['RS256'],
      code_challenge_methods_supported: ['S256'],
    }
  },
  auth0: {
    issuer: 'https://example.eu.auth0.com/',
    authorization_endpoint: 'https://example.eu.auth0.com/authorize',
    token_endpoint: 'https://example.eu.auth0.com/oauth/token',
    userinfo_endpoint: 'https://example.eu.auth0.com/userinfo',
    jwks_uri: 'https://example.eu.auth0.com/.well-known/jwks.json',
    response_types_supported: ['code', 'token', 'id_token'],
    subject_types_supported: ['public'],
    id_token_signing_alg_values_supported: ['HS256', 'RS256', 'PS256'],
    code_challenge_methods_supported: ['S256', 'plain'],
  },
  keycloak: {
    issuer: 'https://sso.example.com/realms/staff',
    authorization_endpoint: 'https://sso.example.com/realms/staff/protocol/openid-connect/auth',
    token_endpoint: 'https://sso.example.com/realms/staff/protocol/openid-connect/token',
    userinfo_endpoint: 'https://sso.example.com/realms/staff/protocol/openid-connect/userinfo',
    jwks_uri: 'https://sso.example.com/realms/staff/protocol/openid-connect/certs',
    response_types_supported: ['code', 'none', 'id_token'],
    subject_types_supported: ['public', 'pairwise'],
    id_token_signing_alg_values_supported: ['PS384', 'RS384', 'ES256', 'RS256'],
    code_challenge_methods_supported: ['plain', 'S256'],
    authorization_response_iss_parameter_supported: true,
  },
}

export interface Asked {
  readonly url: string
  readonly method: string
  readonly authorization: string | null
  readonly body: string
}

/** Answers for public addresses, in place of the network. */
export function createAnswers() {
  const asked: Asked[] = []
  const routes = new Map<string, (asked: Asked) => unknown>()
  const fetch = async (url: string, init: Record<string, unknown> = {}): Promise<Response> => {
    const request: Asked = {
      url,
      method: String(init.method ?? 'GET'),
      authorization: new Headers(init.headers as Record<string, string>).get('authorization'),
      body: String(init.body ?? ''),
    }
    asked.push(request)
    const route = routes.get(url.split('?')[0] ?? '')
    if (!route) return new Response('', { status: 404 })
    const body = route(request)
    return body instanceof Response ? body : Response.json(body)
  }
  const idpFetch = (): GuardedFetch => Object.assign(fetch, { close: async () => {} })
  return { asked, routes, idpFetch }
}

/** An OpenID provider that answers in one of the shapes above, with ID tokens of its own key. */
export async function recordOpenId(
  answers: ReturnType<typeof createAnswers>,
  document: { issuer: string; token_endpoint: string; jwks_uri: string },
  metadataUrl = `${document.issuer.replace(/\/$/, '')}/.well-known/openid-configuration`,
) {
  let key = await generateKeyPair('RS256', { extractable: true })
  let kid = 'first'
  const state = { idToken: {} as JWTPayload, accessToken: 'idp-access-token' }
  const pending: { token?: string } = {}
  answers.routes.set(metadataUrl, () => document)
  let jwks = { keys: [{ ...(await exportJWK(key.publicKey)), kid, alg: 'RS256', use: 'sig' }] }
  answers.routes.set(document.jwks_uri, () => jwks)
  answers.routes.set(document.token_endpoint, () => ({
    access_token: state.accessToken,
    token_type: 'Bearer',
    expires_in: 300,
    id_token: pending.token,
  }))
  return {
    state,
    rotate: async () => {
      key = await generateKeyPair('RS256', { extractable: true })
      kid = 'second'
      jwks = { keys: [{ ...(await exportJWK(key.publicKey)), kid, alg: 'RS256', use: 'sig' }] }
    },
    /** Signs `claims` for a sign-in whose authorization URL is given; the callback's query. */
    approve: async (authorizationUrl: string, claims: JWTPayload, iss = document.issuer) => {
      const sent = new URL(authorizationUrl).searchParams
      pending.token = await new SignJWT({ nonce: sent.get('nonce') ?? '', ...claims })
        .setProtectedHeader({ alg: 'RS256', kid })
        .setIssuer(iss)
        .setAudience(sent.get('client_id') ?? '')
        .setIssuedAt()
        .setExpirationTime('5m')
        .sign(key.privateKey)
      const query = new URLSearchParams({ code: 'the-code', state: sent.get('state') ?? '' })
      if ('authorization_response_iss_parameter_supported' in document) query.set('iss', document.issuer)
      return query
    },
  }
}
