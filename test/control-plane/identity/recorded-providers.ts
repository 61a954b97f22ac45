import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { exportJWK, generateKeyPair, type JWTPayload, SignJWT } from 'jose'
import type { GuardedFetch } from '../../../services/control-plane/identity/guarded-fetch.ts'

interface Recording {
  readonly provider: string
  /** Where the provider publishes it, and when it was read there. */
  readonly url: string
  readonly recorded: string
  readonly note: string
  readonly document: Discovery
  readonly jwks?: { readonly keys: readonly Record<string, unknown>[] }
}
interface Discovery extends Record<string, unknown> {
  readonly issuer: string
  readonly token_endpoint: string
  readonly jwks_uri: string
  readonly userinfo_endpoint: string
}

const read = (name: string, tenant: readonly [string, string] = ['', '']): Recording =>
  JSON.parse(
    readFileSync(join(import.meta.dirname, 'recorded', `${name}.json`), 'utf8').replaceAll(...tenant),
  ) as Recording

const recordedTenant = '88888888-8888-8888-8888-888888888888'

/** Documents that providers publish, as they were published: see `recorded/`. */
export const discovery = {
  entra: (tenant: string): Recording =>
    tenant === 'organizations' ? read('entra-organizations') : read('entra-tenant', [recordedTenant, tenant]),
  google: read('google'),
  okta: (issuer: string): Recording => read(issuer.includes('/oauth2/') ? 'okta-custom' : 'okta-org'),
  auth0: read('auth0'),
  keycloak: read('keycloak'),
}

/** Answers of GitHub's API and token endpoint, as it documents them. */
export const github = read('github').document as unknown as {
  readonly user: Record<string, unknown>
  readonly membership: { organization: Record<string, unknown> }
  readonly token: Record<string, unknown>
  readonly tokenError: Record<string, unknown>
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

/**
 * An OpenID provider that answers what one of the recordings says, with ID tokens of a key of ours: it stands among the
 * recorded ones, with the members that they have.
 */
export async function recordOpenId(
  answers: ReturnType<typeof createAnswers>,
  { document, jwks: published }: Recording,
  metadataUrl = `${document.issuer.replace(/\/$/, '')}/.well-known/openid-configuration`,
) {
  let key = await generateKeyPair('RS256', { extractable: true })
  let kid = 'first'
  const state = { idToken: {} as JWTPayload, accessToken: 'idp-access-token' }
  const pending: { token?: string } = {}
  answers.routes.set(metadataUrl, () => document)
  const [like = { alg: 'RS256', use: 'sig' }] = published?.keys ?? []
  const keys = async () => {
    // A certificate of another key would be a lie.
    const { x5c: _certificate, x5t: _thumbprint, ...members } = like
    return { keys: [...(published?.keys ?? []), { ...members, ...(await exportJWK(key.publicKey)), kid }] }
  }
  let jwks = await keys()
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
      jwks = await keys()
    },
    /** Any token of the provider, as it would sign it. */
    sign: (claims: JWTPayload, header: Record<string, unknown> = {}) =>
      new SignJWT(claims).setProtectedHeader({ alg: 'RS256', kid, ...header }).sign(key.privateKey),
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
