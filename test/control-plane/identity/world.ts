import { createHash, randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { createServer, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import formbody from '@fastify/formbody'
import Fastify from 'fastify'
import pino from 'pino'
import { parseConfig } from '../../../services/control-plane/config/load.ts'
import type { Config } from '../../../services/control-plane/config/schema.ts'
import { createSealer } from '../../../services/control-plane/credentials/sealer.ts'
import { createAccessEvents } from '../../../services/control-plane/events/access.ts'
import { createAuditLog } from '../../../services/control-plane/events/audit.ts'
import type { GuardedFetch } from '../../../services/control-plane/identity/guarded-fetch.ts'
import { createIdentityPlane, type IdentityPlane } from '../../../services/control-plane/identity-plane.ts'
import { compileSnapshot } from '../../../services/control-plane/policy/compile.ts'
import { createCircumstances, issuancePolicy } from '../../../services/control-plane/policy/issuance.ts'
import { type DatabaseSync, openDatabase } from '../../../services/control-plane/store/database.ts'
import type { Clock } from '../../../shared/clock.ts'
import { indexSnapshot, type Locate, type PolicyIndex } from '../../../shared/policy.ts'
import type { Revocation, RevocationMatch } from '../../../shared/revocations.ts'
import type { Block } from '../../../shared/wire/snapshot.ts'
import { type Answer, Browser } from './browser.ts'

export const password = 'correct horse battery staple'
/** A cost that no one should use and tests do. */
const cheap = { ln: 10, r: 8, p: 1 }
const masterKey = Buffer.alloc(32, 7)

export interface WorldOptions {
  readonly db?: DatabaseSync
  readonly port?: number
  /** Where addresses are, in place of a GeoIP database. */
  readonly locate?: Locate
  /** Public origin, where it is not that of the socket. */
  readonly issuer?: string
  /** YAML lines that replace the defaults, by top-level key. */
  readonly config?: Record<string, unknown>
  readonly clock?: Clock
  /** Stands in for OpenID providers and GitHub. */
  readonly idpFetch?: (allowed: readonly string[]) => GuardedFetch
}

export interface World {
  readonly issuer: string
  /** Where the socket listens. */
  readonly origin: string
  readonly port: number
  readonly resource: string
  readonly plane: IdentityPlane
  readonly db: DatabaseSync
  readonly config: Config
  readonly logs: Record<string, unknown>[]
  /** What gateways were told to refuse. */
  readonly revoked: RevocationMatch[]
  apply(config: Record<string, unknown>, revocations?: Revocation[], blocks?: Block[]): Promise<void>
  close(): Promise<void>
}

/** A clock that stands at the real time plus what a test adds. */
export class TestClock implements Clock {
  offset = 0
  now(): number {
    return Date.now() + this.offset
  }
  async sleep(): Promise<void> {}
}

const defaults = (origin: string): Record<string, unknown> => ({
  tenant: { id: 'test' },
  gateway: { url: `${origin}/mcp` },
  identityProviders: [
    {
      id: 'local',
      name: 'Local users',
      type: 'directory',
      users: [
        { email: 'ann@example.com', name: 'Ann', groups: ['dev'], password },
        { email: 'bob@example.com', name: 'Bob', password },
      ],
    },
  ],
  clientWorkloads: [{ id: 'agents', name: 'Agents', identities: [{ type: 'oauthRedirectUri', value: '*' }] }],
  trustProviders: [
    {
      id: 'staff',
      name: 'Staff',
      matchRules: [{ attribute: 'OidcCustom', key: 'email', value: 'ann@example.com' }],
    },
  ],
  serverWorkloads: [{ id: 'wiki', name: 'Team wiki', url: 'https://wiki.example/mcp' }],
  credentialProviders: [{ id: 'bare', type: 'none' }],
  accessPolicies: [
    { id: 'in', name: 'Everyone in', client: 'agents', server: 'gateway' },
    {
      id: 'wiki',
      name: 'Wiki for staff',
      server: 'wiki',
      trustProviders: ['staff'],
      credentialProvider: 'bare',
    },
  ],
})

export async function startWorld(options: WorldOptions = {}): Promise<World> {
  const server = createServer()
  server.listen(options.port ?? 0, '127.0.0.1')
  await once(server, 'listening')
  try {
    return await build(server, options)
  } catch (error) {
    server.close()
    throw error
  }
}

async function build(server: Server, options: WorldOptions): Promise<World> {
  const { port } = server.address() as AddressInfo
  const origin = `http://127.0.0.1:${port}`
  const issuer = options.issuer ?? origin
  const clock = options.clock ?? new TestClock()
  const logs: Record<string, unknown>[] = []
  const log = pino({ level: 'debug' }, { write: (line: string) => void logs.push(JSON.parse(line)) })
  const sealer = createSealer(masterKey)
  const db = options.db ?? openDatabase(':memory:')
  let index: PolicyIndex
  const circumstances = createCircumstances(clock, () => options.locate)
  const revoked: RevocationMatch[] = []
  const configOf = (over: Record<string, unknown>): Config =>
    parseConfig(JSON.stringify({ ...defaults(issuer), ...over }), 'test.yaml')
  let config = configOf(options.config ?? {})
  const plane = await createIdentityPlane(
    {
      db,
      sealer,
      clock,
      log,
      policy: () => issuancePolicy(config, index, circumstances(undefined)),
      revoke: async (match) => void revoked.push(match),
      audit: createAuditLog(db, clock),
      events: createAccessEvents(db, clock, () => ({ maxAgeMs: 86_400_000, maxRows: 1000 })),
      ...(options.idpFetch ? { idpFetch: options.idpFetch } : {}),
      passwordCost: cheap,
    },
    config,
  )
  const apply: World['apply'] = async (over, revocations = [], blocks = []) => {
    const next = configOf(over)
    const commit = await plane.prepare(next)
    config = next
    const snapshot = compileSnapshot(next, {
      version: 1,
      issuedAt: new Date(clock.now()).toISOString(),
      issuerKeys: plane.keys.publicJwks(),
      revocations,
      blocks,
    })
    index = indexSnapshot(snapshot)
    commit()()
  }
  await apply(options.config ?? {})
  const app = Fastify({ trustProxy: true, bodyLimit: 64 * 1024 })
  app.register(formbody)
  plane.register(app)
  await app.ready()
  server.on('request', (request, response) => app.routing(request, response))
  return {
    issuer,
    origin,
    port,
    resource: `${issuer}/mcp`,
    plane,
    db,
    get config() {
      return config
    },
    logs,
    revoked,
    apply,
    close: async () => {
      server.closeAllConnections()
      await new Promise((resolve) => server.close(resolve))
      await app.close()
      await plane.close()
    },
  }
}

export interface RegisteredClient {
  readonly client_id: string
  readonly client_secret?: string
  readonly redirect_uris: string[]
  readonly grant_types: string[]
  readonly [key: string]: unknown
}

export const callback = 'http://127.0.0.1:33418/callback'

export async function register(world: World, over: Record<string, unknown> = {}): Promise<RegisteredClient> {
  const response = await fetch(`${world.origin}/register`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({
      client_name: 'Test Agent',
      redirect_uris: [callback],
      grant_types: ['authorization_code', 'refresh_token'],
      response_types: ['code'],
      token_endpoint_auth_method: 'none',
      ...over,
    }),
  })
  const body = await response.json()
  if (response.status !== 201) throw new Error(`${response.status} ${JSON.stringify(body)}`)
  return body as RegisteredClient
}

export function pkce(): { verifier: string; challenge: string } {
  const verifier = randomBytes(32).toString('base64url')
  return { verifier, challenge: createHash('sha256').update(verifier).digest('base64url') }
}

export function authorizeUrl(
  world: World,
  clientId: string,
  challenge: string,
  over: Record<string, string | null> = {},
): string {
  const url = new URL('/connect/authorize', world.origin)
  const params: Record<string, string | null> = {
    response_type: 'code',
    client_id: clientId,
    redirect_uri: callback,
    scope: 'mcp',
    state: 'the-state',
    resource: world.resource,
    code_challenge: challenge,
    code_challenge_method: 'S256',
    ...over,
  }
  for (const [name, value] of Object.entries(params)) if (value !== null) url.searchParams.set(name, value)
  return url.href
}

/** From the agent's link to the answer at its callback: signs in and consents wherever it is asked to. */
export async function signInAndAllow(
  browser: Browser,
  url: string,
  email = 'ann@example.com',
  secret = password,
): Promise<Answer> {
  let at = await browser.get(url)
  for (let step = 0; step < 8; step++) {
    if (at.location !== null && !isOurs(at.location, url)) return at
    if (at.location !== null) at = await browser.get(at.location)
    else if (at.text.includes('name="password"'))
      at = await browser.submit(at, '/password', { email, password: secret })
    else if (at.text.includes('/consent"')) at = await browser.submit(at, '/consent', { decision: 'allow' })
    else return at
  }
  return at
}

function isOurs(location: string, url: string): boolean {
  return new URL(location).host === new URL(url).host
}

export interface Tokens {
  readonly access_token: string
  readonly refresh_token?: string
  readonly expires_in: number
  readonly scope: string
  readonly id_token?: string
}

export async function token(
  world: World,
  fields: Record<string, string>,
  headers: Record<string, string> = {},
): Promise<{
  status: number
  body: Tokens & { error?: string; error_description?: string }
  headers: Headers
}> {
  const response = await fetch(`${world.origin}/connect/token`, {
    method: 'POST',
    headers: { 'content-type': 'application/x-www-form-urlencoded', ...headers },
    body: new URLSearchParams(fields),
  })
  return { status: response.status, body: (await response.json()) as Tokens, headers: response.headers }
}

/** Everything from registration to tokens, for tests that begin after it. */
export async function obtainTokens(
  world: World,
  {
    browser = new Browser(),
    client,
    email,
    scope,
  }: { browser?: Browser; client?: RegisteredClient; email?: string; scope?: string } = {},
): Promise<{ client: RegisteredClient; tokens: Tokens; browser: Browser }> {
  const registered = client ?? (await register(world))
  const { verifier, challenge } = pkce()
  const url = authorizeUrl(world, registered.client_id, challenge, scope === undefined ? {} : { scope })
  const answer = await signInAndAllow(browser, url, email)
  const code = new URL(answer.location ?? 'http://none').searchParams.get('code')
  if (code === null)
    throw new Error(`no code: ${answer.status} ${answer.location} ${answer.text.slice(0, 1500)}`)
  const { status, body } = await token(world, {
    grant_type: 'authorization_code',
    code,
    redirect_uri: callback,
    client_id: registered.client_id,
    code_verifier: verifier,
    resource: world.resource,
  })
  if (status !== 200) throw new Error(`${status} ${JSON.stringify(body)}`)
  return { client: registered, tokens: body, browser }
}

export async function refresh(world: World, clientId: string, refreshToken: string) {
  return token(world, { grant_type: 'refresh_token', refresh_token: refreshToken, client_id: clientId })
}

/** The sign-in page of a new authorization request. */
export async function atSignIn(
  world: World,
  browser = new Browser(),
  over: Record<string, string | null> = {},
) {
  const client = await register(world)
  const url = authorizeUrl(world, client.client_id, pkce().challenge, over)
  const page = await browser.follow(await browser.get(url))
  return { browser, client, url, page }
}
