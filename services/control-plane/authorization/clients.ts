import type { ClientMetadata } from 'oidc-provider'
import { z } from 'zod'
import { jwtBearerGrant } from '../config/clients.ts'
import type { AuthorizationSettings } from './settings.ts'

/** RFC 7591 §3.2.2 error codes that a registration of ours can end with. */
export type RegistrationError = 'invalid_redirect_uri' | 'invalid_client_metadata'

export class RegistrationRefused extends Error {
  readonly code: RegistrationError

  constructor(code: RegistrationError, message: string) {
    super(message)
    this.name = 'RegistrationRefused'
    this.code = code
  }
}

const loopbacks = new Set(['localhost', '127.0.0.1', '[::1]'])
/** Schemes that a browser or the system would act on itself instead of handing the answer to an application. */
const notAnApp = new Set(
  'about blob chrome chrome-extension data devtools edge file filesystem ftp intent javascript jar mailto resource tel vbscript view-source ws wss'
    .split(' ')
    .map((scheme) => `${scheme}:`),
)

/** Why a redirect URI is refused, or undefined: https, http on loopback, or an app's own scheme (RFC 8252 §7). */
export function redirectProblem(uri: string): string | undefined {
  if (uri.length > 2048) return 'is longer than 2048 characters'
  // biome-ignore lint/suspicious/noControlCharactersInRegex: these are what must not be in there
  if (/[\u0000-\u0020\u007f-\uffff\\*]/.test(uri)) return 'holds a wildcard or a character that no URI has'
  const url = URL.parse(uri)
  if (!url) return 'is not an absolute URI'
  if (uri.includes('#')) return 'has a fragment'
  if (url.username !== '' || url.password !== '') return 'holds a user name or password'
  if (url.protocol === 'https:') return undefined
  if (url.protocol === 'http:') {
    return loopbacks.has(url.hostname) ? undefined : 'uses http on a host that is not loopback'
  }
  if (notAnApp.has(url.protocol)) return `uses the scheme ${url.protocol}`
  return /^[a-z][a-z0-9+.-]*:\//i.test(uri) ? undefined : 'has no path after its scheme'
}

/** Whether any program of the person's computer may be what answers there. */
export function isLocalRedirect(uri: string): boolean {
  const url = new URL(uri)
  return url.protocol !== 'https:' || loopbacks.has(url.hostname)
}

/** What a person reads of a redirect URI: its host, or the scheme of an app's own link. */
export function redirectDestination(uri: string): string {
  const url = new URL(uri)
  if (url.protocol !== 'https:' && url.protocol !== 'http:') return `${url.protocol}//${url.host}`
  return url.protocol === 'http:' ? url.hostname : url.host
}

/** Redirect URIs that differ in the port of a loopback host alone are one and the same (RFC 8252 §7.3). */
export function redirectKey(uri: string): string {
  const url = new URL(uri)
  if (url.protocol === 'http:' && loopbacks.has(url.hostname)) url.port = ''
  return url.href
}

const registrationSchema = z.object({
  redirect_uris: z.array(z.string()).min(1).max(20),
  client_name: z.string().max(1024).optional(),
  grant_types: z.array(z.string().max(100)).max(20).optional(),
  response_types: z.array(z.string().max(100)).max(20).optional(),
  token_endpoint_auth_method: z.string().max(100).optional(),
  jwks: z.object({ keys: z.array(z.record(z.string(), z.unknown())).max(10) }).optional(),
  jwks_uri: z
    .url({ protocol: /^https$/ })
    .max(2048)
    .optional(),
})

const authMethods = new Set(['none', 'client_secret_basic', 'client_secret_post', 'private_key_jwt'])

/**
 * A registration request (RFC 7591 §2) as the metadata that is stored. What we have no use for (logos, links,
 * contacts, scopes) is left out rather than refused; the answer tells the client what it got. Throws
 * RegistrationRefused.
 */
export function registrationMetadata(body: unknown): Omit<ClientMetadata, 'client_id'> {
  const parsed = registrationSchema.safeParse(body)
  if (!parsed.success) {
    const issue = parsed.error.issues[0]!
    const path = issue.path.join('.')
    const code = path.startsWith('redirect_uris') ? 'invalid_redirect_uri' : 'invalid_client_metadata'
    throw new RegistrationRefused(
      code,
      path === '' ? 'the body must be a JSON object' : `${path}: ${issue.message}`,
    )
  }
  const { data } = parsed
  for (const uri of data.redirect_uris) {
    const problem = redirectProblem(uri)
    if (problem) throw new RegistrationRefused('invalid_redirect_uri', `${uri.slice(0, 200)} ${problem}`)
  }
  const grants = data.grant_types ?? ['authorization_code', 'refresh_token']
  if (!grants.includes('authorization_code')) {
    throw new RegistrationRefused('invalid_client_metadata', 'grant_types must include authorization_code')
  }
  if (data.response_types && !data.response_types.includes('code')) {
    throw new RegistrationRefused('invalid_client_metadata', 'response_types must include code')
  }
  const method = data.token_endpoint_auth_method ?? 'client_secret_basic'
  if (!authMethods.has(method)) {
    throw new RegistrationRefused(
      'invalid_client_metadata',
      `token_endpoint_auth_method must be one of ${[...authMethods].join(', ')}`,
    )
  }
  if (method === 'private_key_jwt' && !data.jwks && !data.jwks_uri) {
    throw new RegistrationRefused('invalid_client_metadata', 'private_key_jwt needs jwks or jwks_uri')
  }
  const name = cleanName(data.client_name ?? '')
  return {
    ...common(data.redirect_uris),
    grant_types: grants.includes('refresh_token')
      ? ['authorization_code', 'refresh_token']
      : ['authorization_code'],
    token_endpoint_auth_method: method as 'none',
    ...(name === '' ? {} : { client_name: name }),
    ...(method === 'private_key_jwt' && data.jwks ? { jwks: data.jwks as ClientMetadata['jwks'] } : {}),
    ...(method === 'private_key_jwt' && data.jwks_uri ? { jwks_uri: data.jwks_uri } : {}),
  }
}

/** Pre-registered clients, as oidc-provider wants them. */
export function staticClients(settings: AuthorizationSettings): ClientMetadata[] {
  return settings.clients.map((client) => ({
    ...common(client.redirectUris),
    client_id: client.clientId,
    client_name: client.name,
    // A grant that is not offered at present must not spoil the client's others.
    grant_types: client.grantTypes.filter((grant) => grant !== jwtBearerGrant || settings.identityAssertions),
    // RFC 7591 §2: without the code grant there is no response type.
    ...(client.grantTypes.includes('authorization_code') ? {} : { response_types: [] }),
    ...authentication(client),
  }))
}

function authentication(client: AuthorizationSettings['clients'][number]): Partial<ClientMetadata> {
  if (client.clientSecret) {
    return { token_endpoint_auth_method: 'client_secret_basic', client_secret: client.clientSecret.reveal() }
  }
  if (client.jwks) {
    return { token_endpoint_auth_method: 'private_key_jwt', jwks: client.jwks as ClientMetadata['jwks'] }
  }
  if (client.jwksUri) return { token_endpoint_auth_method: 'private_key_jwt', jwks_uri: client.jwksUri }
  return { token_endpoint_auth_method: 'none' }
}

function common(redirectUris: string[]) {
  // `native` is what makes loopback ports free at match. It allows https too, except on a loopback host.
  const httpsLoopback = redirectUris.some((uri) => {
    const url = new URL(uri)
    return url.protocol === 'https:' && loopbacks.has(url.hostname)
  })
  return {
    redirect_uris: redirectUris,
    application_type: httpsLoopback ? 'web' : 'native',
    response_types: ['code'],
    response_modes: ['query'],
  } as const
}

/** A name that a stranger chose and a person will read: one line, no control or direction characters, short. */
function cleanName(name: string): string {
  return name
    .normalize('NFKC')
    .replace(/[\p{C}\p{Zl}\p{Zp}]/gu, '')
    .replace(/\s+/g, ' ')
    .trim()
    .slice(0, 80)
}
