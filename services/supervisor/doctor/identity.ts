import { type Asked, type AskOptions, ask, jsonOf, wordsOf } from './http.ts'
import { failed, ok, type Patient, type Step, skipped, warning } from './step.ts'

const textOf = (value: unknown): string | undefined => (typeof value === 'string' ? value : undefined)
const listOf = (value: unknown): unknown[] => (Array.isArray(value) ? value : [])

/** Public documents may be read past a certificate that is wrong: it has been told of by then. */
const read = (patient: Patient, url: string, options: AskOptions = {}): Promise<Asked> =>
  ask(url, { ...options, ca: patient.ca, insecure: patient.trusted !== true })

/** RFC 8414 §3.1 and RFC 9728 §3.1: the well-known part stands between host and path. */
function wellKnown(name: string, of: string): string {
  const { origin, pathname } = new URL(of)
  return `${origin}/.well-known/${name}${pathname === '/' ? '' : pathname}`
}

const policyHint = 'the gateway has no policy yet, or its control plane is away: aembit_mcp_gateway status'

/** From the first 401 to a token, as an agent discovers it (MCP, authorization). */
export const identitySteps: readonly Step[] = [
  {
    name: 'challenge',
    needs: ['https port'],
    async run(patient) {
      try {
        const answer = await read(patient, patient.url.href, {
          method: 'POST',
          headers: { 'content-type': 'application/json', accept: 'application/json, text/event-stream' },
          body: '{"jsonrpc":"2.0","id":1,"method":"ping"}',
        })
        const header = answer.headers['www-authenticate'] ?? ''
        if (answer.status === 401 && header.includes('resource_metadata='))
          return ok('a request without a token is sent to the metadata')
        if (answer.status === 503) return failed('answers 503: it can not decide yet', policyHint)
        const wrong = 'another program answers at this address, or a proxy on the way changes answers'
        if (answer.status !== 401)
          return failed(`a request without a token is answered ${answer.status}, not 401`, wrong)
        return failed('401 without resource_metadata in WWW-Authenticate', wrong)
      } catch (error) {
        return failed(
          wordsOf(error),
          'the port takes connections but nothing answers: aembit_mcp_gateway status',
        )
      }
    },
  },
  {
    name: 'resource metadata',
    needs: ['https port'],
    async run(patient) {
      const url = wellKnown('oauth-protected-resource', patient.url.href)
      try {
        const answer = await read(patient, url)
        if (answer.status === 503) return failed(`${url} answers 503`, policyHint)
        const document = answer.status === 200 ? jsonOf(answer) : undefined
        if (!document) return failed(`${url} answers ${answer.status} without a JSON document`, policyHint)
        const resource = textOf(document.resource) ?? 'nothing'
        if (resource.replace(/\/$/, '') !== patient.url.href.replace(/\/$/, ''))
          return failed(
            `resource is ${resource}, agents use ${patient.url.href}`,
            'gateway.url of the control plane and AEMBIT_MCP_GATEWAY_URL have to be the same',
          )
        const issuer = textOf(listOf(document.authorization_servers)[0])
        if (issuer === undefined || !URL.canParse(issuer))
          return failed('names no authorization server', 'issuer of the control plane has to be set')
        patient.issuer = issuer
        return ok(`authorization server ${issuer}`)
      } catch (error) {
        return failed(`${url}: ${wordsOf(error)}`, policyHint)
      }
    },
  },
  {
    name: 'authorization server',
    needs: ['resource metadata'],
    async run(patient) {
      const issuer = patient.issuer ?? ''
      const url = wellKnown('oauth-authorization-server', issuer)
      const advice =
        'is the control plane up, and AEMBIT_CONTROL_PLANE_SOCKET set where it shares the gateway’s name?'
      try {
        const answer = await read(patient, url)
        const document = answer.status === 200 ? jsonOf(answer) : undefined
        if (!document) return failed(`${url} answers ${answer.status} without a JSON document`, advice)
        if (textOf(document.issuer) !== issuer)
          return failed(
            `${url} says issuer ${textOf(document.issuer) ?? 'nothing'}, expected ${issuer}`,
            'agents refuse that (RFC 8414 §3.3): correct the issuer of the control plane',
          )
        const missing = ['authorization_endpoint', 'token_endpoint', 'jwks_uri'].filter(
          (key) => !URL.canParse(textOf(document[key]) ?? ''),
        )
        if (missing.length > 0) return failed(`${url} lacks ${missing.join(', ')}`, advice)
        patient.jwksUri = String(document.jwks_uri)
        patient.tokenEndpoint = String(document.token_endpoint)
        if (!listOf(document.code_challenge_methods_supported).includes('S256'))
          return failed('does not offer PKCE with S256', 'MCP clients refuse to go on without it')
        const grants = listOf(document.grant_types_supported).join(', ')
        return ok(`grants: ${grants || 'authorization_code'}`)
      } catch (error) {
        return failed(`${url}: ${wordsOf(error)}`, advice)
      }
    },
  },
  {
    name: 'signing keys',
    needs: ['authorization server'],
    async run(patient) {
      const url = patient.jwksUri ?? ''
      try {
        const answer = await read(patient, url)
        const keys = answer.status === 200 ? listOf(jsonOf(answer)?.keys) : []
        if (keys.length === 0)
          return failed(
            `${url} answers ${answer.status} without keys`,
            'no token can be verified: look at the log of the control plane',
          )
        return ok(`${keys.length} at ${url}`)
      } catch (error) {
        return failed(
          `${url}: ${wordsOf(error)}`,
          'no token can be verified: the gateway and agents have to reach it',
        )
      }
    },
  },
  {
    name: 'token',
    needs: ['authorization server', 'certificate'],
    async run(patient) {
      const { token } = patient
      if (!token)
        return skipped(
          'no token given: --token-file <file>, MCP_TOKEN, or --client-id with --client-secret-file',
        )
      if (token.kind === 'bearer') {
        patient.bearer = token.token
        return describe(patient, token.token)
      }
      return fetchToken(patient, token.id, token.secret)
    },
  },
]

async function fetchToken(patient: Patient, id: string, secret: string): ReturnType<Step['run']> {
  const url = patient.tokenEndpoint ?? ''
  if (new URL(url).protocol !== 'https:' && patient.url.protocol === 'https:')
    return failed(
      `${url} is not https`,
      'a secret is not sent there: correct the issuer of the control plane',
    )
  const form = new URLSearchParams({ grant_type: 'client_credentials', resource: patient.url.href })
  const basic = Buffer.from(`${encodeURIComponent(id)}:${encodeURIComponent(secret)}`).toString('base64')
  try {
    const answer = await ask(url, {
      method: 'POST',
      ca: patient.ca,
      headers: { 'content-type': 'application/x-www-form-urlencoded', authorization: `Basic ${basic}` },
      body: form.toString(),
    })
    const body = jsonOf(answer) ?? {}
    const bearer = textOf(body.access_token)
    if (answer.status !== 200 || bearer === undefined) {
      const code = /^[a-z_]{1,40}$/.test(textOf(body.error) ?? '')
        ? textOf(body.error)
        : `HTTP ${answer.status}`
      return failed(
        `client ${id} gets no token: ${code}`,
        'invalid_client: wrong id or secret; unauthorized_client: the client may not use client_credentials; invalid_target: wrong resource',
      )
    }
    patient.bearer = bearer
    return describe(patient, bearer)
  } catch (error) {
    return failed(`${url}: ${wordsOf(error)}`, 'the token endpoint has to answer agents')
  }
}

/** What can be told of a token without its keys; only the gateway says whether it is good. */
function describe(patient: Patient, token: string): Awaited<ReturnType<Step['run']>> {
  let claims: Record<string, unknown>
  try {
    claims = JSON.parse(Buffer.from(token.split('.')[1] ?? '', 'base64url').toString('utf8'))
  } catch {
    return warning('it is not a JWT', 'the gateway takes access tokens of its authorization server alone')
  }
  const again = 'sign in again with the agent and take its new token'
  const expires = Number(claims.exp) * 1000
  if (expires <= patient.now()) return failed(`it expired on ${new Date(expires).toISOString()}`, again)
  const audience = [claims.aud].flat()
  const ours = (value: unknown): boolean =>
    String(value).replace(/\/$/, '') === patient.url.href.replace(/\/$/, '')
  if (!audience.some(ours))
    return warning(
      `it is for ${audience.join(', ').slice(0, 200)}, not for ${patient.url.href}`,
      'ask for it with resource=<the gateway’s URL>',
    )
  return ok(`for subject ${String(claims.sub).slice(0, 100)}, until ${new Date(expires).toISOString()}`)
}
